"""Axes that families of architectures share, with prior weights."""

from __future__ import annotations

from typing import Final

from legion.neuro_architecture.anatomy.values import ModelAnatomy
from legion.neuro_architecture.space.sites import layer_sets
from legion.neuro_architecture.spec.architecture import AnyArchitecture, NonLinearity

__all__ = [
    "TARGET_SETS",
    "BlockSets",
    "Member",
    "bottleneck_kinds",
    "each_start",
    "layer_axis",
    "narrowest_linear",
    "widest_below",
]

Member = tuple[AnyArchitecture, float]
BlockSets = list[tuple[tuple[int, ...] | None, int]]  # adapted blocks (None: all), and their prior weight

TARGET_SETS: Final = {"all": 6, "attention": 2, "query_value": 2, "feed_forward": 2}
_NON_LINEARITIES: Final[tuple[NonLinearity, ...]] = ("gelu", "relu", "silu")
_OWN_NON_LINEARITY_WEIGHT: Final = 6
_ALL_LAYERS_WEIGHT: Final = 5
_MOST_STARTS: Final = 12


def layer_axis(anatomy: ModelAnatomy) -> BlockSets:
    """Sets of blocks, all of them first and likeliest."""
    return [(layers, 1 if layers else _ALL_LAYERS_WEIGHT) for layers in layer_sets(anatomy.num_layers)]


def each_start(anatomy: ModelAnatomy) -> BlockSets:
    """The sets of `layer_axis`, and all blocks from each one upwards; in a deep model from every few, evenly."""
    count = anatomy.num_layers
    stride = max(1, -(-count // _MOST_STARTS))
    known = layer_axis(anatomy)
    upwards = [tuple(range(start, count)) for start in range(stride, count, stride)]
    return known + [(layers, 1) for layers in upwards if layers not in {layers for layers, _ in known}]


def bottleneck_kinds(anatomy: ModelAnatomy) -> list[tuple[NonLinearity, bool, int]]:
    """Activation, gating and weight: the base's own first, gated where the base is."""
    own = anatomy.non_linearity
    kinds = [(own, False, _OWN_NON_LINEARITY_WEIGHT)]
    if anatomy.is_ffn_gated:
        kinds.append((own, True, _OWN_NON_LINEARITY_WEIGHT))
    return kinds + [(other, False, 1) for other in _NON_LINEARITIES if other != own]


def narrowest_linear(anatomy: ModelAnatomy) -> int:
    """The least width of a block's linear layers, which bounds the rank of a LoRA on all of them."""
    return min(min(linear.in_features, linear.out_features) for linear in anatomy.layers[0].linears)


def widest_below(width: int, grid: dict[int, int], wanted: int) -> int:
    """The largest size of a grid up to the wanted one that is below the width; its smallest where none is."""
    return max((size for size in grid if size < width and size <= wanted), default=min(grid))
