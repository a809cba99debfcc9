"""Combinations: a LoRA in the lower blocks, a bottleneck in the upper ones, with their prior weight.

The grids are parts of those of LoRA and Adapter, so that the space stays small enough to be listed: moderate ranks at
twice the rank for alpha, the base's own activation, which alone folds. What is new is where one ends and the other
begins.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import product
from typing import Final

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
from legion.neuro_architecture.spec.architecture import CombinedArchitecture, Placement

__all__ = ["combined_members", "default_combined"]

_RANKS: Final = {4: 1, 8: 2, 16: 2}
_BOTTLENECK_SIZES: Final = {16: 2, 32: 3, 64: 4}
_PLACEMENTS: Final[dict[Placement, int]] = {"par": 6, "seq": 2, "seq_layer": 1}
# How far up the model the boundary is, as a fraction of its blocks, and the prior weight. Where the LoRA begins does
# not move it, so that the two can be chosen apart.
_HEIGHTS: Final = {(1, 3): 1, (1, 2): 2, (2, 3): 1, (5, 6): 1}

_DEFAULT_RANK: Final = 8
_DEFAULT_BOTTLENECK_SIZE: Final = 64


def default_combined(anatomy: ModelAnatomy) -> CombinedArchitecture:
    """The good starts of LoRA and Adapter, each on half of the blocks: rank 8 on all linear layers, a parallel
    bottleneck of 64.
    """
    rank = widest_below(narrowest_linear(anatomy), _RANKS, _DEFAULT_RANK)
    return CombinedArchitecture(
        boundary=max(1, anatomy.num_layers // 2),
        rank=rank,
        alpha=2.0 * rank,
        bottleneck_size=widest_below(anatomy.hidden_size, _BOTTLENECK_SIZES, _DEFAULT_BOTTLENECK_SIZE),
        non_linearity=anatomy.non_linearity,
    )


def combined_members(anatomy: ModelAnatomy, blocks: BlockSets) -> Iterator[Member]:
    """Where from, the boundary, and the two parts; sets of blocks that are no range up to the top are left out."""
    own = [kind for kind in bottleneck_kinds(anatomy) if kind[0] == anatomy.non_linearity]
    for (first_layer, boundary, place_weight), (label, targets) in product(
        list(_places(anatomy, blocks)), target_sets(anatomy).items()
    ):
        for (rank, rank_weight), (size, size_weight), (non_linearity, is_gated, _), (placement, side_weight) in product(
            _RANKS.items(), _BOTTLENECK_SIZES.items(), own, _PLACEMENTS.items()
        ):
            architecture = CombinedArchitecture(
                first_layer=first_layer,
                boundary=boundary,
                rank=rank,
                alpha=2.0 * rank,
                target_modules=targets,
                bottleneck_size=size,
                non_linearity=non_linearity,
                placement=placement,
                is_gated=is_gated,
            )
            yield architecture, place_weight * TARGET_SETS[label] * rank_weight * size_weight * side_weight


def _places(anatomy: ModelAnatomy, blocks: BlockSets) -> Iterator[tuple[int, int, int]]:
    """Lowest adapted block, boundary, and prior weight."""
    count = anatomy.num_layers
    boundaries: dict[int, int] = {}
    for (part, whole), weight in _HEIGHTS.items():
        boundary = max(1, count * part // whole)
        boundaries[boundary] = boundaries.get(boundary, 0) + weight
    for layers, layer_weight in blocks:
        first = 0 if layers is None else layers[0]
        if layers in (None, tuple(range(first, count))):
            for boundary, weight in boundaries.items():
                if first < boundary < count:
                    yield first, boundary, layer_weight * weight
