"""What an architecture says, in the words of the PEFT config that it is built from."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from legion.neuro_architecture.adapters.norms import norm_of
from legion.neuro_architecture.adapters.targets import path_pattern
from legion.neuro_architecture.anatomy import FfnSite, LinearSite, ModelAnatomy
from legion.neuro_architecture.anatomy.inspection import activation_name
from legion.neuro_architecture.spec.architecture import AdapterArchitecture, LoRAArchitecture, NonLinearity

__all__ = ["bottleneck_fields", "exact_activation", "lora_fields"]


def lora_fields(architecture: LoRAArchitecture, linears: Sequence[LinearSite]) -> dict[str, Any]:
    """The fields of a `LoraConfig` that corrects `linears`."""
    return {
        "r": architecture.rank,
        "lora_alpha": architecture.alpha,
        "lora_dropout": architecture.dropout,
        "use_rslora": architecture.use_rslora,
        "use_dora": architecture.use_dora,
        "rank_pattern": dict(sorted(architecture.rank_pattern.items())),
        "alpha_pattern": dict(sorted(architecture.alpha_pattern.items())),
        "target_modules": path_pattern([linear.path for linear in linears]),
        "fan_in_fan_out": linears[0].is_transposed,
    }


def bottleneck_fields(
    architecture: AdapterArchitecture, model: Any, anatomy: ModelAnatomy, sites: Sequence[FfnSite]
) -> dict[str, Any]:
    """The fields of a `BottleneckConfig` at `sites`.

    Raises:
        AdapterError: `seq_layer` is asked for where blocks end in a norm (BERT).
    """
    norm = norm_of(model, anatomy) if architecture.placement == "seq_layer" else None
    return {
        "hidden_size": anatomy.hidden_size,
        "bottleneck_size": architecture.bottleneck_size,
        "activation": exact_activation(model, anatomy, architecture.non_linearity),
        "placement": architecture.placement,
        "style": sites[0].style,
        "is_gated": architecture.is_gated,
        "dropout": architecture.dropout,
        "norm": norm.kind if norm else None,
        "norm_eps": norm.eps if norm else 0.0,
        "target_modules": path_pattern([site.path for site in sites]),
    }


def exact_activation(model: Any, anatomy: ModelAnatomy, non_linearity: NonLinearity) -> str:
    """The activation as transformers spells it: the base's own variety where it is of the same kind."""
    return activation_name(model) if non_linearity == anatomy.non_linearity else non_linearity
