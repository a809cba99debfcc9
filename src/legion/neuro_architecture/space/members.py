"""Every architecture worth proposing for one model, with its prior weight.

Each axis is a small grid; axes are conditional (a rank below the width of its own targets, gating only where the
base's feed-forward network is gated). Weights follow what is known of these families: all linear layers and all
blocks, moderate ranks, alpha twice the rank, the base's own activation.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import product
from typing import Final

from legion.neuro_architecture.anatomy.values import ModelAnatomy
from legion.neuro_architecture.space.sites import (
    AnyArchitecture,
    layer_sets,
    target_sets,
)
from legion.neuro_architecture.space.validity import find_mistakes
from legion.neuro_architecture.spec.architecture import (
    AdapterArchitecture,
    LoRAArchitecture,
    MoEArchitecture,
    NonLinearity,
    Placement,
    Strategy,
    semantic_hash,
)

__all__ = ["Member", "default_member", "members"]

Member = tuple[AnyArchitecture, float]

_RANKS: Final = {2: 1, 4: 2, 8: 4, 16: 4, 32: 2, 64: 1}
_ALPHA_OVER_RANK: Final = {1: 1, 2: 3, 4: 2}
_LORA_DROPOUTS: Final = {0.0: 3, 0.05: 2, 0.1: 1}
_TARGET_SETS: Final = {"all": 6, "attention": 2, "query_value": 2, "feed_forward": 2}
_BOTTLENECK_SIZES: Final = {8: 1, 16: 2, 32: 3, 64: 4, 128: 3}
_PLACEMENTS: Final[dict[Placement, int]] = {"par": 3, "seq": 2}
_NUM_EXPERTS: Final = {2: 1, 4: 3, 8: 2}
_TOP_K: Final = {1: 1, 2: 2}
_EXPERT_SIZES: Final = {4: 1, 8: 2, 16: 3, 32: 2}
_LOAD_BALANCING: Final = {True: 5, False: 1}
_NON_LINEARITIES: Final[tuple[NonLinearity, ...]] = ("gelu", "relu", "silu")
_OWN_NON_LINEARITY_WEIGHT: Final = 6
_ALL_LAYERS_WEIGHT: Final = 5

_DEFAULT_RANK: Final = 8
_DEFAULT_BOTTLENECK_SIZE: Final = 64
_DEFAULT_EXPERT_SIZE: Final = 16


def members(strategy: Strategy, anatomy: ModelAnatomy) -> list[Member]:
    """Every distinct valid architecture of the strategy in a fixed order, with its positive prior weight.

    Axes hold canonical spellings only, so equal hashes are equal architectures and nothing is proposed twice.
    """
    makers = {"LoRA": _lora_members, "Adapter": _adapter_members, "MoE": _moe_members}
    distinct: dict[str, Member] = {}
    for architecture, weight in makers[strategy](anatomy):
        if not find_mistakes(architecture, anatomy):
            distinct.setdefault(semantic_hash(architecture), (architecture, weight))
    return list(distinct.values())


def default_member(strategy: Strategy, anatomy: ModelAnatomy) -> AnyArchitecture:
    """The well-known good start: LoRA of rank 8 and alpha 16 on all linear layers; a parallel bottleneck of 64; four
    experts of 16 with the top two; each on all blocks.

    In a model too narrow for it, the widest that fits; the value may still be invalid where none fits.
    """
    lora_width = min(min(linear.in_features, linear.out_features) for linear in anatomy.layers[0].linears)
    match strategy:
        case "LoRA":
            rank = _widest_below(lora_width, _RANKS, _DEFAULT_RANK)
            return LoRAArchitecture(rank=rank, alpha=2.0 * rank)
        case "Adapter":
            size = _widest_below(anatomy.hidden_size, _BOTTLENECK_SIZES, _DEFAULT_BOTTLENECK_SIZE)
            return AdapterArchitecture(bottleneck_size=size, non_linearity=anatomy.non_linearity)
        case "MoE":
            size = _widest_below(anatomy.hidden_size, _EXPERT_SIZES, _DEFAULT_EXPERT_SIZE)
            return MoEArchitecture(num_experts=4, bottleneck_size=size, non_linearity=anatomy.non_linearity)


def _widest_below(width: int, grid: dict[int, int], wanted: int) -> int:
    return max((size for size in grid if size < width and size <= wanted), default=min(grid))


def _lora_members(anatomy: ModelAnatomy) -> Iterator[Member]:
    for (label, targets), (layers, layer_weight) in product(target_sets(anatomy).items(), _layer_axis(anatomy)):
        for (rank, rank_weight), (scale, scale_weight), (dropout, dropout_weight) in product(
            _RANKS.items(), _ALPHA_OVER_RANK.items(), _LORA_DROPOUTS.items()
        ):
            architecture = LoRAArchitecture(
                rank=rank, alpha=float(scale * rank), dropout=dropout, target_modules=targets, layers=layers
            )
            weight = _TARGET_SETS[label] * layer_weight * rank_weight * scale_weight * dropout_weight
            yield architecture, weight


def _adapter_members(anatomy: ModelAnatomy) -> Iterator[Member]:
    for (size, size_weight), (non_linearity, is_gated, kind_weight), (placement, place_weight), (
        layers,
        layer_weight,
    ) in product(_BOTTLENECK_SIZES.items(), _bottleneck_kinds(anatomy), _PLACEMENTS.items(), _layer_axis(anatomy)):
        architecture = AdapterArchitecture(
            bottleneck_size=size, non_linearity=non_linearity, is_gated=is_gated, placement=placement, layers=layers
        )
        yield architecture, size_weight * kind_weight * place_weight * layer_weight


def _moe_members(anatomy: ModelAnatomy) -> Iterator[Member]:
    inner = product(_EXPERT_SIZES.items(), _bottleneck_kinds(anatomy), _layer_axis(anatomy))
    outer = list(product(_NUM_EXPERTS.items(), _TOP_K.items(), _LOAD_BALANCING.items()))
    for (size, size_weight), (non_linearity, is_gated, kind_weight), (layers, layer_weight) in inner:
        for (num_experts, experts_weight), (top_k, top_weight), (is_balanced, balance_weight) in outer:
            architecture = MoEArchitecture(
                num_experts=num_experts,
                top_k=top_k,
                load_balancing=is_balanced,
                bottleneck_size=size,
                non_linearity=non_linearity,
                is_gated=is_gated,
                layers=layers,
            )
            weight = size_weight * kind_weight * layer_weight * experts_weight * top_weight * balance_weight
            yield architecture, weight


def _layer_axis(anatomy: ModelAnatomy) -> list[tuple[tuple[int, ...] | None, int]]:
    return [(layers, 1 if layers else _ALL_LAYERS_WEIGHT) for layers in layer_sets(anatomy.num_layers)]


def _bottleneck_kinds(anatomy: ModelAnatomy) -> list[tuple[NonLinearity, bool, int]]:
    """Activation, gating and weight: the base's own first, gated where the base is."""
    own = anatomy.non_linearity
    kinds = [(own, False, _OWN_NON_LINEARITY_WEIGHT)]
    if anatomy.is_ffn_gated:
        kinds.append((own, True, _OWN_NON_LINEARITY_WEIGHT))
    return kinds + [(other, False, 1) for other in _NON_LINEARITIES if other != own]
