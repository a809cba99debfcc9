"""From choices that do not go together to ones that do."""

from __future__ import annotations

import random

from legion.neuro_architecture.space import Point, PointSpace

__all__ = ["repaired"]


def repaired(space: PointSpace, point: Point, draw: random.Random) -> Point | None:
    """The nearest point that the space holds, with the training's choices as they were: they go with everything."""
    nearest = space.nearest(point, draw)
    if nearest is None:
        return None
    cut = 1 + space.branches[point[0]].num_architecture_axes
    return nearest[:cut] + point[cut:]
