"""What makes an architecture right for the model at hand."""

from __future__ import annotations

from typing import Final

from legion.neuro_architecture.anatomy.values import ModelAnatomy
from legion.neuro_architecture.space.patterns import fits, is_pattern
from legion.neuro_architecture.space.peft_methods import method_mistakes
from legion.neuro_architecture.space.sites import ALL_LINEAR, adapted_layers, adapted_linears, rank_at, targets_of
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

__all__ = ["find_mistakes"]

# The linears that a network is split along, as every Llama-like family calls them.
_GATED_LINEARS: Final = ("gate_proj", "up_proj", "down_proj")


def find_mistakes(architecture: AnyArchitecture, anatomy: ModelAnatomy) -> list[str]:
    """Every rule that the architecture breaks on this model, a sentence each; none when it fits.

    Rules: layers exist; each target, and each pattern, names a linear layer in the adapted blocks; ranks are below the
    narrowest target's width; what PEFT asks of a method's size; a bottleneck is below the hidden size; top_k is at
    most num_experts; gated bottlenecks stand only beside gated feed-forward networks of the same activation, because
    they fold into nothing else; a bottleneck behind the block needs a block that does not end in a norm; a network is
    split only where it is gated, without biases, and divisible; virtual tokens stand before text, in causal models; a
    combination has blocks on both sides of its boundary, and each part follows the rules of its kind.
    """
    match architecture:
        case VirtualTokensArchitecture():
            return _causal_mistakes(architecture, anatomy)
        case CombinedArchitecture():
            return _combined_mistakes(architecture, anatomy)
        case LoRAArchitecture():
            own = _target_mistakes(architecture, anatomy)
            own += _pattern_mistakes(architecture, anatomy) + _rank_mistakes(architecture, anatomy)
        case PeftArchitecture():
            own = _target_mistakes(architecture, anatomy)
            own += method_mistakes(architecture, adapted_linears(architecture, anatomy))
        case AdapterArchitecture():
            own = _bottleneck_mistakes(architecture, anatomy) + _placement_mistakes(architecture, anatomy)
        case MoEArchitecture():
            own = _expert_mistakes(architecture) + _bottleneck_mistakes(architecture, anatomy)
        case SplitArchitecture():
            own = _split_mistakes(architecture, anatomy)
    return _layer_mistakes(architecture.layers, anatomy) + own


def _layer_mistakes(layers: tuple[int, ...] | None, anatomy: ModelAnatomy) -> list[str]:
    return [
        f"layer {index} is out of range: the model has layers 0 to {anatomy.num_layers - 1}"
        for index in layers or ()
        if not 0 <= index < anatomy.num_layers
    ]


def _causal_mistakes(architecture: VirtualTokensArchitecture, anatomy: ModelAnatomy) -> list[str]:
    if anatomy.is_causal:
        return []
    return [f"{architecture.strategy} stands before a text that goes on, and this {anatomy.model_type} is not causal"]


def _combined_mistakes(architecture: CombinedArchitecture, anatomy: ModelAnatomy) -> list[str]:
    if architecture.boundary >= anatomy.num_layers:
        last = anatomy.num_layers - 1
        return [
            f"boundary {architecture.boundary} leaves no block for the bottleneck: the model has layers 0 to {last}"
        ]
    return [mistake for part in architecture.parts(anatomy.num_layers) for mistake in find_mistakes(part, anatomy)]


def _target_mistakes(architecture: LoRAArchitecture | PeftArchitecture, anatomy: ModelAnatomy) -> list[str]:
    layers = adapted_layers(architecture, anatomy)
    return [
        f"target {name!r} is no linear layer of the adapted blocks: they have {', '.join(anatomy.linear_names)}"
        for name in architecture.target_modules
        if name != ALL_LINEAR and not any(targets_of([name], layer) for layer in layers)
    ]


def _pattern_mistakes(architecture: LoRAArchitecture, anatomy: ModelAnatomy) -> list[str]:
    keys = (*architecture.rank_pattern, *architecture.alpha_pattern)
    linears = adapted_linears(architecture, anatomy) if keys else ()
    mistakes = []
    for key in dict.fromkeys(keys):
        if not is_pattern(key):
            mistakes.append(f"pattern {key!r} is no regular expression")
        elif not any(fits(key, linear.path) for linear in linears):
            mistakes.append(f"pattern {key!r} fits none of the adapted layers by the end of its path")
    return mistakes


def _rank_mistakes(architecture: LoRAArchitecture, anatomy: ModelAnatomy) -> list[str]:
    linears = adapted_linears(architecture, anatomy)
    if not architecture.rank_pattern:
        # All ranks are one, so only the narrowest layer can break the rule.
        linears = tuple(sorted(linears, key=lambda linear: min(linear.in_features, linear.out_features))[:1])
    mistakes = []
    for linear in linears:
        rank, width = rank_at(architecture, linear), min(linear.in_features, linear.out_features)
        if rank >= width:
            mistakes.append(f"rank {rank} is not below {width}, the width of {linear.path}")
    return mistakes


def _expert_mistakes(architecture: MoEArchitecture | SplitArchitecture) -> list[str]:
    """The values refuse this themselves; one built without validation does not."""
    if architecture.top_k is None or architecture.top_k <= architecture.num_experts:
        return []
    return [f"top_k {architecture.top_k} exceeds num_experts {architecture.num_experts}"]


def _bottleneck_mistakes(architecture: AdapterArchitecture | MoEArchitecture, anatomy: ModelAnatomy) -> list[str]:
    mistakes = []
    if architecture.bottleneck_size >= anatomy.hidden_size:
        mistakes.append(
            f"bottleneck_size {architecture.bottleneck_size} is not below the hidden size {anatomy.hidden_size}"
        )
    if architecture.is_gated and not anatomy.is_ffn_gated:
        mistakes.append(f"is_gated needs a gated feed-forward network, which {anatomy.model_type} has not")
    elif architecture.is_gated and architecture.non_linearity != anatomy.non_linearity:
        mistakes.append(f"a gated bottleneck uses the base's {anatomy.non_linearity}, not {architecture.non_linearity}")
    return mistakes


def _placement_mistakes(architecture: AdapterArchitecture, anatomy: ModelAnatomy) -> list[str]:
    if architecture.placement != "seq_layer" or anatomy.final_norm_parameters:
        return []
    return [f"seq_layer stands behind a bare residual stream, and the blocks of {anatomy.model_type} end in a norm"]


def _split_mistakes(architecture: SplitArchitecture, anatomy: ModelAnatomy) -> list[str]:
    mistakes = _expert_mistakes(architecture)
    width, narrowest = anatomy.intermediate_size, min(anatomy.intermediate_size, anatomy.hidden_size)
    if not _can_be_split(architecture, anatomy):
        mistakes.append(
            f"{architecture.strategy} cuts gated feed-forward networks of {', '.join(_GATED_LINEARS)} without biases, "
            f"which {anatomy.model_type} has not"
        )
    if width % architecture.num_experts:
        mistakes.append(f"num_experts {architecture.num_experts} does not divide {width}, the network's width")
    if architecture.rank >= narrowest:
        mistakes.append(f"rank {architecture.rank} is not below {narrowest}, the width of the network's linears")
    return mistakes


def _can_be_split(architecture: SplitArchitecture, anatomy: ModelAnatomy) -> bool:
    return anatomy.is_ffn_gated and all(
        tuple(linear.name for linear in layer.ffn_linears) == _GATED_LINEARS
        and not any(linear.has_bias for linear in layer.ffn_linears)
        for layer in adapted_layers(architecture, anatomy)
    )
