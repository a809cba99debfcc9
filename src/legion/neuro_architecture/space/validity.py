"""What makes an architecture right for the model at hand."""

from __future__ import annotations

from legion.neuro_architecture.anatomy.values import ModelAnatomy
from legion.neuro_architecture.space.sites import ALL_LINEAR, AnyArchitecture, adapted_layers, targets_of
from legion.neuro_architecture.spec.architecture import AdapterArchitecture, LoRAArchitecture, MoEArchitecture

__all__ = ["find_mistakes"]


def find_mistakes(architecture: AnyArchitecture, anatomy: ModelAnatomy) -> list[str]:
    """Every rule that the architecture breaks on this model, a sentence each; none when it fits.

    Rules: layers exist; each target names a linear layer in the adapted blocks; rank is below the narrowest target's
    width; a bottleneck is below the hidden size; top_k is at most num_experts; gated bottlenecks stand only beside
    gated feed-forward networks of the same activation, because they fold into nothing else.
    """
    mistakes = _layer_mistakes(architecture, anatomy)
    match architecture:
        case LoRAArchitecture():
            return mistakes + _target_mistakes(architecture, anatomy) + _rank_mistakes(architecture, anatomy)
        case AdapterArchitecture():
            return mistakes + _bottleneck_mistakes(architecture, anatomy)
        case MoEArchitecture():
            return mistakes + _expert_mistakes(architecture) + _bottleneck_mistakes(architecture, anatomy)


def _layer_mistakes(architecture: AnyArchitecture, anatomy: ModelAnatomy) -> list[str]:
    return [
        f"layer {index} is out of range: the model has layers 0 to {anatomy.num_layers - 1}"
        for index in architecture.layers or ()
        if not 0 <= index < anatomy.num_layers
    ]


def _target_mistakes(architecture: LoRAArchitecture, anatomy: ModelAnatomy) -> list[str]:
    layers = adapted_layers(architecture, anatomy)
    return [
        f"target {name!r} is no linear layer of the adapted blocks: they have {', '.join(anatomy.linear_names)}"
        for name in architecture.target_modules
        if name != ALL_LINEAR and not any(targets_of([name], layer) for layer in layers)
    ]


def _rank_mistakes(architecture: LoRAArchitecture, anatomy: ModelAnatomy) -> list[str]:
    targets = [
        linear
        for layer in adapted_layers(architecture, anatomy)
        for linear in targets_of(architecture.target_modules, layer)
    ]
    if not targets:
        return []
    narrowest = min(targets, key=lambda linear: min(linear.in_features, linear.out_features))
    width = min(narrowest.in_features, narrowest.out_features)
    if architecture.rank < width:
        return []
    return [f"rank {architecture.rank} is not below {width}, the width of {narrowest.path}"]


def _expert_mistakes(architecture: MoEArchitecture) -> list[str]:
    """`MoEArchitecture` refuses this itself; a value built without validation does not."""
    if architecture.top_k <= architecture.num_experts:
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
