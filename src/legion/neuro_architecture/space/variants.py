"""Axes of LoRA, Adapter and MoE that came after the first release, on a small share of the prior."""

from __future__ import annotations

import math
from collections.abc import Iterator
from itertools import product
from typing import Final

from legion.neuro_architecture.anatomy.values import ModelAnatomy
from legion.neuro_architecture.space.axes import TARGET_SETS, BlockSets, Member, bottleneck_kinds
from legion.neuro_architecture.space.first_families import BOTTLENECK_SIZES, EXPERT_SIZES, LORA_RANKS
from legion.neuro_architecture.space.sites import adapted_layers, canonical, target_sets
from legion.neuro_architecture.spec.architecture import AdapterArchitecture, LoRAArchitecture, MoEArchitecture

__all__ = ["adapter_variants", "lora_variants", "moe_variants"]

# rsLoRA scales by alpha / sqrt(rank): these alphas give its middle ranks what alpha / rank of 1 to 4 gives plain LoRA.
_ROOT_ALPHAS: Final = {4.0: 1, 8.0: 1}
_DORA_WEIGHT: Final = 2
_PATTERN_WEIGHT: Final = 2
_MOST_EXPERTS: Final = 16
_TOP_K: Final = {1: 1, 2: 2}
_NUM_DRAWN_EXPERTS: Final = {2: 1, 4: 3, 8: 2}


def lora_variants(anatomy: ModelAnatomy, blocks: BlockSets) -> Iterator[Member]:
    """rsLoRA, DoRA, and feed-forward networks at twice the rank of the rest.

    An rsLoRA whose rank has a whole root is plain LoRA by another name and left out.
    """
    for (label, targets), (layers, layer_weight) in product(target_sets(anatomy).items(), blocks):
        for rank, rank_weight in LORA_RANKS.items():
            weight = TARGET_SETS[label] * layer_weight * rank_weight
            plain = LoRAArchitecture(rank=rank, alpha=2.0 * rank, target_modules=targets, layers=layers)
            yield plain.model_copy(update={"use_dora": True}), weight * _DORA_WEIGHT
            if math.isqrt(rank) ** 2 != rank:
                for alpha, alpha_weight in _ROOT_ALPHAS.items():
                    yield plain.model_copy(update={"use_rslora": True, "alpha": alpha}), weight * alpha_weight
    for layers, layer_weight in blocks:
        unit = _wider_networks(layers, anatomy)
        for rank, rank_weight in LORA_RANKS.items():
            weight = TARGET_SETS["all"] * layer_weight * rank_weight * _PATTERN_WEIGHT
            yield _times(unit, rank), weight


def _wider_networks(layers: tuple[int, ...] | None, anatomy: ModelAnatomy) -> LoRAArchitecture:
    """Rank one, but twice the rank at the same scale in the feed-forward networks: what a model knows sits there
    (arXiv:2012.14913).
    """
    plain = LoRAArchitecture(rank=1, alpha=2.0, layers=layers)
    ffn = [linear.path for layer in adapted_layers(plain, anatomy) for linear in layer.ffn_linears]
    patterns = {"rank_pattern": dict.fromkeys(ffn, 2), "alpha_pattern": dict.fromkeys(ffn, 4.0)}
    return canonical(plain.model_copy(update=patterns), anatomy)


def _times(unit: LoRAArchitecture, factor: int) -> LoRAArchitecture:
    """All ranks and alphas times the factor; how they are spelled stays canonical."""
    return unit.model_copy(
        update={
            "rank": factor * unit.rank,
            "alpha": factor * unit.alpha,
            "rank_pattern": {key: factor * rank for key, rank in unit.rank_pattern.items()},
            "alpha_pattern": {key: factor * alpha for key, alpha in unit.alpha_pattern.items()},
        }
    )


def adapter_variants(anatomy: ModelAnatomy, blocks: BlockSets) -> Iterator[Member]:
    """Bottlenecks behind the whole block."""
    if not anatomy.final_norm_parameters:
        return
    for (size, size_weight), (non_linearity, is_gated, kind_weight), (layers, layer_weight) in product(
        BOTTLENECK_SIZES.items(), bottleneck_kinds(anatomy), blocks
    ):
        architecture = AdapterArchitecture(
            bottleneck_size=size,
            non_linearity=non_linearity,
            is_gated=is_gated,
            placement="seq_layer",
            layers=layers,
        )
        yield architecture, size_weight * kind_weight * layer_weight


def moe_variants(anatomy: ModelAnatomy, blocks: BlockSets) -> Iterator[Member]:
    """Sixteen experts, and experts drawn at random while training."""
    for (size, size_weight), (non_linearity, is_gated, kind_weight), (layers, layer_weight) in product(
        EXPERT_SIZES.items(), bottleneck_kinds(anatomy), blocks
    ):
        shared = {
            "bottleneck_size": size,
            "non_linearity": non_linearity,
            "is_gated": is_gated,
            "layers": layers,
        }
        weight = size_weight * kind_weight * layer_weight
        for top_k, top_weight in _TOP_K.items():
            many = {"num_experts": _MOST_EXPERTS, "top_k": top_k}
            yield MoEArchitecture.model_validate(shared | many), weight * top_weight
        for num_experts, experts_weight in _NUM_DRAWN_EXPERTS.items():
            drawn = {"num_experts": num_experts, "top_k": 1, "routing": "random"}
            yield MoEArchitecture.model_validate(shared | drawn), weight * experts_weight
