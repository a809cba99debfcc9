"""Where an architecture touches a model: its blocks, its linear layers, and the one spelling of each choice."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final, TypeVar

from legion.neuro_architecture.anatomy.values import LayerAnatomy, LinearSite, ModelAnatomy
from legion.neuro_architecture.spec.architecture import (
    AdapterArchitecture,
    LoRAArchitecture,
    MoEArchitecture,
)

__all__ = [
    "ALL_LINEAR",
    "AnyArchitecture",
    "adapted_layers",
    "canonical",
    "layer_sets",
    "served_form",
    "target_sets",
    "targets_of",
]

AnyArchitecture = LoRAArchitecture | AdapterArchitecture | MoEArchitecture
_Kind = TypeVar("_Kind", LoRAArchitecture, AdapterArchitecture, MoEArchitecture)

ALL_LINEAR: Final = "all-linear"
_QUERY_AND_VALUE: Final = frozenset({"query", "value", "q_proj", "v_proj", "q_lin", "v_lin", "q", "v"})
_FUSED_QUERY_KEY_VALUE: Final = frozenset({"c_attn", "qkv", "qkv_proj", "query_key_value", "Wqkv", "in_proj"})


def adapted_layers(architecture: AnyArchitecture, anatomy: ModelAnatomy) -> tuple[LayerAnatomy, ...]:
    """The blocks that the architecture changes; indices beyond the model are left out."""
    if architecture.layers is None:
        return anatomy.layers
    return tuple(layer for layer in anatomy.layers if layer.index in architecture.layers)


def targets_of(names: Iterable[str], layer: LayerAnatomy) -> tuple[LinearSite, ...]:
    """The linear layers of one block that `target_modules` names: by the anatomy's names, or by the last part of
    their paths.
    """
    wanted = set(names)
    if ALL_LINEAR in wanted:
        return layer.linears
    return tuple(linear for linear in layer.linears if wanted & _names_of(linear))


def _names_of(linear: LinearSite) -> set[str]:
    return {linear.name, linear.path.rpartition(".")[2]}


def layer_sets(num_layers: int) -> tuple[tuple[int, ...] | None, ...]:
    """All blocks (None), the upper half, the upper third, every second one counted from the top; no set twice."""
    everything = tuple(range(num_layers))
    sets = (
        everything,
        everything[num_layers // 2 :],
        everything[num_layers - max(1, num_layers // 3) :],
        everything[(num_layers - 1) % 2 :: 2],
    )
    return tuple(dict.fromkeys(None if layers == everything else layers for layers in sets))


def target_sets(anatomy: ModelAnatomy) -> dict[str, tuple[str, ...]]:
    """Sets of linear layers worth adapting, by what they are: `all`, `attention`, `query_value`, `feed_forward`.

    Names are the model's own. A fused query-key-value projection stands for query and value. A set that the model
    does not have, or that equals an earlier one, is left out.
    """
    layer = anatomy.layers[0]
    attention = tuple(linear.name for linear in layer.linears if _is_attention(linear, layer))
    candidates = {
        "all": (ALL_LINEAR,),
        "attention": attention,
        "query_value": tuple(name for name in attention if _reads_query_or_value(name)),
        "feed_forward": tuple(linear.name for linear in layer.linears if linear.name not in attention),
    }
    sets: dict[str, tuple[str, ...]] = {}
    for label, names in candidates.items():
        chosen = _canonical_targets(names, anatomy) if names else ()
        if chosen and chosen not in sets.values():
            sets[label] = chosen
    return sets


def _is_attention(linear: LinearSite, layer: LayerAnatomy) -> bool:
    *folders, _ = linear.path.removeprefix(f"{layer.path}.").split(".")
    return any("att" in folder.lower() for folder in folders)


def _reads_query_or_value(name: str) -> bool:
    return name.rpartition(".")[2] in _QUERY_AND_VALUE | _FUSED_QUERY_KEY_VALUE


def canonical(architecture: _Kind, anatomy: ModelAnatomy) -> _Kind:
    """The one spelling of everything this architecture computes on this model.

    Layers that list every block become None; targets become the anatomy's names, or `all-linear` where they cover
    every linear layer; a coefficient of a loss that is switched off becomes the default. Equal spellings have equal
    semantic hashes.
    """
    changes: dict[str, object] = {"layers": _canonical_layers(architecture.layers, anatomy)}
    if isinstance(architecture, LoRAArchitecture):
        changes["target_modules"] = _canonical_targets(architecture.target_modules, anatomy)
    if isinstance(architecture, MoEArchitecture) and not architecture.load_balancing:
        changes["load_balancing_coefficient"] = MoEArchitecture.model_fields["load_balancing_coefficient"].default
    return type(architecture).model_validate(architecture.model_dump() | changes)


def served_form(architecture: AnyArchitecture) -> AnyArchitecture:
    """The architecture without what only matters while it is trained: dropout and the load-balancing loss."""
    match architecture:
        case MoEArchitecture():
            defaults = MoEArchitecture()
            changes = {
                "load_balancing": defaults.load_balancing,
                "load_balancing_coefficient": defaults.load_balancing_coefficient,
            }
            return architecture.model_copy(update=changes)
        case _:
            return architecture.model_copy(update={"dropout": 0.0})


def _canonical_layers(layers: tuple[int, ...] | None, anatomy: ModelAnatomy) -> tuple[int, ...] | None:
    return None if layers == tuple(range(anatomy.num_layers)) else layers


def _canonical_targets(names: Iterable[str], anatomy: ModelAnatomy) -> tuple[str, ...]:
    """Names that mean nothing here are kept, so that `find_mistakes` can name them."""
    written = set(names)
    found = {linear for layer in anatomy.layers for linear in targets_of(written, layer)}
    if found == {linear for layer in anatomy.layers for linear in layer.linears}:
        return (ALL_LINEAR,)
    meant = {name for layer in anatomy.layers for linear in layer.linears for name in _names_of(linear)}
    return tuple(sorted({linear.name for linear in found} | (written - meant - {ALL_LINEAR})))
