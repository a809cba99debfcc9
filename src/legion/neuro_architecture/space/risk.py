"""How risky it is to ship a proposal: five reasons, each a number of this architecture on this model.

score = sum over reasons of weight * share; the weights add up to 1. A share that grows without bound in what it looks
at is written x / (x + h), where h is the x that counts half.
"""

from __future__ import annotations

import math
from typing import Final

from legion.foundation.errors import InvalidValueError
from legion.neuro_architecture.anatomy.values import ModelAnatomy
from legion.neuro_architecture.space.sites import adapted_layers, served_form
from legion.neuro_architecture.spec.architecture import (
    AdapterArchitecture,
    AnyArchitecture,
    CombinedArchitecture,
    LoRAArchitecture,
    MoEArchitecture,
    PeftArchitecture,
    SplitArchitecture,
    VirtualTokensArchitecture,
)
from legion.neuro_architecture.spec.proposal import CostEstimate, RiskAssessment, RiskFactor, TrainingRecipe

__all__ = ["WEIGHTS", "assess_risk"]

WEIGHTS: Final = {
    "trainable_share": 0.20,
    "intervention_depth": 0.15,
    "serving_path": 0.30,
    "learning_rate": 0.15,
    "latency_increase": 0.20,
}

_HALF_TRAINABLE: Final = 0.05
_HALF_LATENCY_INCREASE: Final = 0.5
_HALF_VIRTUAL_TOKENS: Final = 64
_CALM_LEARNING_RATE: Final = 1e-4
_WILD_LEARNING_RATE: Final = 1e-2

_Share = tuple[float, str]


def assess_risk(
    architecture: AnyArchitecture, anatomy: ModelAnatomy, estimate: CostEstimate, recipe: TrainingRecipe
) -> RiskAssessment:
    """The risk of a proposal, with the numbers behind it.

    Raises:
        InvalidValueError: the estimate does not hold the base's latency.
    """
    shares: dict[str, _Share] = {
        "trainable_share": _trainable_share(anatomy, estimate),
        "intervention_depth": _intervention_depth(architecture, anatomy),
        "serving_path": _serving_path(architecture, anatomy),
        "learning_rate": _learning_rate(recipe),
        "latency_increase": _latency_increase(estimate),
    }
    factors = tuple(
        RiskFactor(name=name, share=share, weight=WEIGHTS[name], explanation=explanation)
        for name, (share, explanation) in shares.items()
    )
    score = math.fsum(factor.weight * factor.share for factor in factors)
    return RiskAssessment(score=min(score, 1.0), factors=factors)


def _saturating(x: float, half: float) -> float:
    return x / (x + half)


def _trainable_share(anatomy: ModelAnatomy, estimate: CostEstimate) -> _Share:
    trained = estimate.trainable_parameters / anatomy.num_parameters
    return (
        _saturating(trained, _HALF_TRAINABLE),
        (
            f"trains {estimate.trainable_parameters:,} weights, {trained:.2%} of the base's {anatomy.num_parameters:,};"
            f" {_HALF_TRAINABLE:.0%} counts half"
        ),
    )


def _intervention_depth(architecture: AnyArchitecture, anatomy: ModelAnatomy) -> _Share:
    """Mean of how many blocks are changed and how far down the lowest of them is: what lies above it sees a change."""
    indices = [layer.index for layer in adapted_layers(architecture, anatomy)]
    touched = len(indices) / anatomy.num_layers
    reach = 1.0 - min(indices) / anatomy.num_layers
    return (
        (touched + reach) / 2,
        f"changes {len(indices)} of {anatomy.num_layers} blocks, the lowest at {min(indices)}",
    )


def _serving_path(architecture: AnyArchitecture, anatomy: ModelAnatomy) -> _Share:
    """How far the served model is from the stock one: merged, widened, with a module of its own, or routed."""
    match served_form(architecture):
        case LoRAArchitecture() | PeftArchitecture():
            return 0.0, "merges into the base's own weights: the served model has the base's shapes"
        case AdapterArchitecture() as bottleneck:
            return _bottleneck_path(bottleneck, anatomy)
        case CombinedArchitecture() as combined:
            below, above = combined.parts(anatomy.num_layers)
            share, explanation = _bottleneck_path(above, anatomy)
            return share, f"merges into the lowest {len(below.layers or ())} adapted blocks; above, {explanation}"
        case MoEArchitecture() | SplitArchitecture() as mixture:
            return _routed_path(mixture)
        case VirtualTokensArchitecture(num_virtual_tokens=count):
            share = 0.5 + 0.25 * _saturating(count, _HALF_VIRTUAL_TOKENS)
            return share, f"cannot be merged: {count} virtual tokens take up context in front of every input"


def _routed_path(architecture: MoEArchitecture | SplitArchitecture) -> _Share:
    top_k = architecture.experts_per_token if isinstance(architecture, SplitArchitecture) else architecture.top_k
    idle = 1.0 - top_k / architecture.num_experts
    return (
        0.75 + 0.25 * idle,
        (
            f"cannot be merged: a router sends each token to {top_k} of "
            f"{architecture.num_experts} experts, {idle:.0%} of them idle"
        ),
    )


def _bottleneck_path(architecture: AdapterArchitecture, anatomy: ModelAnatomy) -> _Share:
    size, width = architecture.bottleneck_size, anatomy.intermediate_size
    added = size / (size + width)
    if architecture.placement == "par" and architecture.non_linearity == anatomy.non_linearity:
        return 0.25 + 0.25 * added, f"folds into a feed-forward network widened from {width} to {width + size}"
    if architecture.placement == "seq":
        reason = "it stands after the feed-forward network"
    elif architecture.placement == "seq_layer":
        reason = "it stands behind the block, as a block of its own"
    else:
        reason = f"its {architecture.non_linearity} is not the base's {anatomy.non_linearity}"
    return 0.5 + 0.25 * added, f"stays a module of {size} units beside the base's {width}: {reason}"


def _learning_rate(recipe: TrainingRecipe) -> _Share:
    """Place of the rate between calm and wild on a logarithmic scale."""
    span = math.log(_WILD_LEARNING_RATE / _CALM_LEARNING_RATE)
    place = math.log(recipe.learning_rate / _CALM_LEARNING_RATE) / span
    return (
        min(max(place, 0.0), 1.0),
        f"trains at {recipe.learning_rate:g}; {_CALM_LEARNING_RATE:g} is calm, {_WILD_LEARNING_RATE:g} is wild",
    )


def _latency_increase(estimate: CostEstimate) -> _Share:
    base_ms = estimate.expected_base_latency_ms
    if base_ms is None:
        raise InvalidValueError("the estimate holds no latency of the base", hint="make it with estimate_cost")
    increase = max(estimate.expected_latency_ms - base_ms, 0.0) / base_ms
    return (
        _saturating(increase, _HALF_LATENCY_INCREASE),
        (
            f"unmerged, a pass is expected to take {estimate.expected_latency_ms:.2f} ms, {increase:.0%} more than the "
            f"base's {base_ms:.2f}; {_HALF_LATENCY_INCREASE:.0%} more counts half"
        ),
    )
