"""Where an architecture touches a model: its blocks, its linear layers, and the one spelling of each choice."""

from __future__ import annotations

import functools
import math
from collections.abc import Iterable, Mapping
from typing import Any, Final, TypeVar

from legion.neuro_architecture.anatomy.values import LayerAnatomy, LinearSite, ModelAnatomy
from legion.neuro_architecture.space.patterns import canonical_pattern, value_at
from legion.neuro_architecture.space.peft_methods import canonical_size
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

__all__ = [
    "ALL_LINEAR",
    "adapted_layers",
    "adapted_linears",
    "canonical",
    "key_width",
    "layer_sets",
    "query_width",
    "rank_at",
    "served_form",
    "target_sets",
    "targets_of",
]

_Kind = TypeVar(
    "_Kind",
    LoRAArchitecture,
    AdapterArchitecture,
    MoEArchitecture,
    SplitArchitecture,
    PeftArchitecture,
    VirtualTokensArchitecture,
    CombinedArchitecture,
)

ALL_LINEAR: Final = "all-linear"
_QUERY_AND_VALUE: Final = frozenset({"query", "value", "q_proj", "v_proj", "q_lin", "v_lin", "q", "v"})
_QUERIES: Final = frozenset({"query", "q_proj", "q_lin", "q"})
_KEYS: Final = frozenset({"key", "k_proj", "k_lin", "k"})
_FUSED_QUERY_KEY_VALUE: Final = frozenset({"c_attn", "qkv", "qkv_proj", "query_key_value", "Wqkv", "in_proj"})


def adapted_layers(architecture: AnyArchitecture, anatomy: ModelAnatomy) -> tuple[LayerAnatomy, ...]:
    """The blocks that the architecture changes, all of them for virtual tokens; indices beyond the model are left
    out.
    """
    if isinstance(architecture, CombinedArchitecture):
        return anatomy.layers[architecture.first_layer :]
    if isinstance(architecture, VirtualTokensArchitecture) or architecture.layers is None:
        return anatomy.layers
    return tuple(layer for layer in anatomy.layers if layer.index in architecture.layers)


def adapted_linears(architecture: LoRAArchitecture | PeftArchitecture, anatomy: ModelAnatomy) -> tuple[LinearSite, ...]:
    """The linear layers that the architecture changes, block by block."""
    layers = adapted_layers(architecture, anatomy)
    return tuple(linear for layer in layers for linear in targets_of(architecture.target_modules, layer))


def rank_at(architecture: LoRAArchitecture, linear: LinearSite) -> int:
    """The rank of one layer's correction."""
    return value_at(architecture.rank_pattern, linear.path, architecture.rank)


def query_width(anatomy: ModelAnatomy) -> int:
    """Width of a block's queries over all heads; the hidden size where query, key and value are one projection."""
    return _projected_width(_QUERIES, anatomy)


def key_width(anatomy: ModelAnatomy) -> int:
    """Width of a block's keys over all their heads, fewer than the queries' where heads share them."""
    return _projected_width(_KEYS, anatomy)


def _projected_width(names: frozenset[str], anatomy: ModelAnatomy) -> int:
    widths = (linear.out_features for linear in anatomy.layers[0].linears if linear.path.rpartition(".")[2] in names)
    return next(widths, anatomy.hidden_size)


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
    return dict(_target_sets(anatomy))


@functools.lru_cache(maxsize=8)
def _target_sets(anatomy: ModelAnatomy) -> Mapping[str, tuple[str, ...]]:
    """Asked for once for every architecture of a space, and slow in deep models."""
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
    every linear layer; patterns name only what differs from most; rsLoRA of ranks whose roots are whole is plain LoRA
    of a larger alpha; a size beyond which nothing changes becomes the largest that does; a loss that is switched off,
    or that nothing is there for, has the default coefficient. Equal spellings have equal semantic hashes.
    """
    changes = _canonical_changes(architecture, anatomy)
    return type(architecture).model_validate(architecture.model_dump() | changes)


def _canonical_changes(architecture: AnyArchitecture, anatomy: ModelAnatomy) -> dict[str, Any]:
    if isinstance(architecture, VirtualTokensArchitecture):
        return {}
    if isinstance(architecture, CombinedArchitecture):
        return {"target_modules": _canonical_targets(architecture.target_modules, anatomy)}
    layers = {"layers": _canonical_layers(architecture.layers, anatomy)}
    match architecture:
        case LoRAArchitecture():
            return layers | _canonical_lora(architecture, anatomy)
        case PeftArchitecture():
            targets = {"target_modules": _canonical_targets(architecture.target_modules, anatomy)}
            return layers | targets | canonical_size(architecture, adapted_linears(architecture, anatomy))
        case MoEArchitecture() | SplitArchitecture():
            return layers | _canonical_balancing(architecture)
        case AdapterArchitecture():
            return layers


def _canonical_lora(architecture: LoRAArchitecture, anatomy: ModelAnatomy) -> dict[str, Any]:
    linears = adapted_linears(architecture, anatomy)
    alpha, alphas, is_root = architecture.alpha, architecture.alpha_pattern, architecture.use_rslora
    ranks = {linear.path: rank_at(architecture, linear) for linear in linears}
    if linears and is_root and all(math.isqrt(rank) ** 2 == rank for rank in ranks.values()):
        plain = {path: value_at(alphas, path, alpha) * math.isqrt(rank) for path, rank in ranks.items()}
        is_root, alpha, alphas = False, max(plain.values()), plain
    rank, rank_pattern = canonical_pattern(architecture.rank, architecture.rank_pattern, linears)
    alpha, alpha_pattern = canonical_pattern(alpha, alphas, linears)
    return {
        "target_modules": _canonical_targets(architecture.target_modules, anatomy),
        "rank": rank,
        "rank_pattern": rank_pattern,
        "alpha": alpha,
        "alpha_pattern": alpha_pattern,
        "use_rslora": is_root,
    }


def _canonical_balancing(architecture: MoEArchitecture | SplitArchitecture) -> dict[str, Any]:
    """There is nothing to balance where experts are drawn, or where all of them are kept."""
    fields = type(architecture).model_fields
    default = {"load_balancing_coefficient": fields["load_balancing_coefficient"].default}
    if _has_nothing_to_balance(architecture):
        return default | {"load_balancing": fields["load_balancing"].default}
    return {} if architecture.load_balancing else default


def _has_nothing_to_balance(architecture: MoEArchitecture | SplitArchitecture) -> bool:
    if isinstance(architecture, MoEArchitecture):
        return architecture.routing == "random"
    return architecture.strategy == "SplitLayer"


def served_form(architecture: AnyArchitecture) -> AnyArchitecture:
    """The architecture without what only matters while it is trained: dropout and the load-balancing loss.

    Experts that are drawn at random while training serve as one bottleneck, their average.
    """
    match architecture:
        case MoEArchitecture(routing="random"):
            return AdapterArchitecture(
                bottleneck_size=architecture.bottleneck_size,
                non_linearity=architecture.non_linearity,
                is_gated=architecture.is_gated,
                layers=architecture.layers,
            )
        case MoEArchitecture() | SplitArchitecture():
            fields = type(architecture).model_fields
            names = ("load_balancing", "load_balancing_coefficient")
            return architecture.model_copy(update={name: fields[name].default for name in names})
        case LoRAArchitecture() | AdapterArchitecture() | CombinedArchitecture():
            return architecture.model_copy(update={"dropout": 0.0})
        case PeftArchitecture() | VirtualTokensArchitecture():
            return architecture


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
