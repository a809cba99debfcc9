"""LoRA, Adapter and MoE: every one worth proposing for a model, with its prior weight.

Weights follow what is known of these families: all linear layers and all blocks, moderate ranks, alpha twice the rank,
the base's own activation.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import product
from typing import Final, Literal

from legion.neuro_architecture.anatomy.values import ModelAnatomy
from legion.neuro_architecture.space.axes import (
    TARGET_SETS,
    BlockSets,
    Member,
    bottleneck_kinds,
    narrowest_linear,
    widest_below,
)
from legion.neuro_architecture.space.sites import target_sets
from legion.neuro_architecture.spec.architecture import (
    AdapterArchitecture,
    AnyArchitecture,
    LoRAArchitecture,
    MoEArchitecture,
    Placement,
)

__all__ = [
    "BOTTLENECK_SIZES",
    "EXPERT_SIZES",
    "LORA_RANKS",
    "adapter_members",
    "first_default",
    "lora_members",
    "moe_members",
]

LORA_RANKS: Final = {2: 1, 4: 2, 8: 4, 16: 4, 32: 2, 64: 1}
_ALPHA_OVER_RANK: Final = {1: 1, 2: 3, 4: 2}
_LORA_DROPOUTS: Final = {0.0: 3, 0.05: 2, 0.1: 1}
BOTTLENECK_SIZES: Final = {8: 1, 16: 2, 32: 3, 64: 4, 128: 3}
_PLACEMENTS: Final[dict[Placement, int]] = {"par": 3, "seq": 2}
_NUM_EXPERTS: Final = {2: 1, 4: 3, 8: 2}
_TOP_K: Final = {1: 1, 2: 2}
EXPERT_SIZES: Final = {4: 1, 8: 2, 16: 3, 32: 2}
_LOAD_BALANCING: Final = {True: 5, False: 1}

_DEFAULT_RANK: Final = 8
_DEFAULT_BOTTLENECK_SIZE: Final = 64
_DEFAULT_EXPERT_SIZE: Final = 16


def first_default(strategy: Literal["LoRA", "Adapter", "MoE"], anatomy: ModelAnatomy) -> AnyArchitecture:
    """LoRA of rank 8 and alpha 16 on all linear layers; a parallel bottleneck of 64; four experts of 16 with the top
    two; each on all blocks.
    """
    match strategy:
        case "LoRA":
            rank = widest_below(narrowest_linear(anatomy), LORA_RANKS, _DEFAULT_RANK)
            return LoRAArchitecture(rank=rank, alpha=2.0 * rank)
        case "Adapter":
            size = widest_below(anatomy.hidden_size, BOTTLENECK_SIZES, _DEFAULT_BOTTLENECK_SIZE)
            return AdapterArchitecture(bottleneck_size=size, non_linearity=anatomy.non_linearity)
        case "MoE":
            size = widest_below(anatomy.hidden_size, EXPERT_SIZES, _DEFAULT_EXPERT_SIZE)
            return MoEArchitecture(num_experts=4, bottleneck_size=size, non_linearity=anatomy.non_linearity)


def lora_members(anatomy: ModelAnatomy, blocks: BlockSets) -> Iterator[Member]:
    """Plain LoRA: where, which rank, alpha and dropout."""
    for (label, targets), (layers, layer_weight) in product(target_sets(anatomy).items(), blocks):
        for (rank, rank_weight), (scale, scale_weight), (dropout, dropout_weight) in product(
            LORA_RANKS.items(), _ALPHA_OVER_RANK.items(), _LORA_DROPOUTS.items()
        ):
            architecture = LoRAArchitecture(
                rank=rank, alpha=float(scale * rank), dropout=dropout, target_modules=targets, layers=layers
            )
            weight = TARGET_SETS[label] * layer_weight * rank_weight * scale_weight * dropout_weight
            yield architecture, weight


def adapter_members(anatomy: ModelAnatomy, blocks: BlockSets) -> Iterator[Member]:
    """Bottlenecks at the feed-forward network."""
    for (size, size_weight), (non_linearity, is_gated, kind_weight), (placement, place_weight), (
        layers,
        layer_weight,
    ) in product(BOTTLENECK_SIZES.items(), bottleneck_kinds(anatomy), _PLACEMENTS.items(), blocks):
        architecture = AdapterArchitecture(
            bottleneck_size=size, non_linearity=non_linearity, is_gated=is_gated, placement=placement, layers=layers
        )
        yield architecture, size_weight * kind_weight * place_weight * layer_weight


def moe_members(anatomy: ModelAnatomy, blocks: BlockSets) -> Iterator[Member]:
    """Mixtures with a learned router."""
    inner = product(EXPERT_SIZES.items(), bottleneck_kinds(anatomy), blocks)
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
