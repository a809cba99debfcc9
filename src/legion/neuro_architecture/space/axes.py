"""Axes that families of architectures share, with prior weights."""

from __future__ import annotations

from typing import Final

from legion.neuro_architecture.anatomy.values import ModelAnatomy
from legion.neuro_architecture.space.sites import layer_sets
from legion.neuro_architecture.spec.architecture import AnyArchitecture, NonLinearity

__all__ = ["TARGET_SETS", "Member", "bottleneck_kinds", "layer_axis", "widest_below"]

Member = tuple[AnyArchitecture, float]

TARGET_SETS: Final = {"all": 6, "attention": 2, "query_value": 2, "feed_forward": 2}
_NON_LINEARITIES: Final[tuple[NonLinearity, ...]] = ("gelu", "relu", "silu")
_OWN_NON_LINEARITY_WEIGHT: Final = 6
_ALL_LAYERS_WEIGHT: Final = 5


def layer_axis(anatomy: ModelAnatomy) -> list[tuple[tuple[int, ...] | None, int]]:
    """Sets of blocks, all of them first and likeliest."""
    return [(layers, 1 if layers else _ALL_LAYERS_WEIGHT) for layers in layer_sets(anatomy.num_layers)]


def bottleneck_kinds(anatomy: ModelAnatomy) -> list[tuple[NonLinearity, bool, int]]:
    """Activation, gating and weight: the base's own first, gated where the base is."""
    own = anatomy.non_linearity
    kinds = [(own, False, _OWN_NON_LINEARITY_WEIGHT)]
    if anatomy.is_ffn_gated:
        kinds.append((own, True, _OWN_NON_LINEARITY_WEIGHT))
    return kinds + [(other, False, 1) for other in _NON_LINEARITIES if other != own]


def widest_below(width: int, grid: dict[int, int], wanted: int) -> int:
    """The largest size of a grid up to the wanted one that is below the width; its smallest where none is."""
    return max((size for size in grid if size < width and size <= wanted), default=min(grid))
