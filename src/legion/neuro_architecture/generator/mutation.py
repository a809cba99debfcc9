"""A small step from one point to another."""

from __future__ import annotations

import random
from typing import Final

from legion.neuro_architecture.space import Axis, Point, PointSpace

__all__ = ["mutated"]

_BRANCH_SHARE: Final = 0.1
_TRIES: Final = 50
# On an ordered axis each step further is half as likely.
_DECAY: Final = 0.5


def mutated(space: PointSpace, point: Point, draw: random.Random, *, branch_share: float = _BRANCH_SHARE) -> Point:
    """A point that the space holds and that differs in one choice, or now and then in its branch.

    On an ordered axis a neighbour is likelier than a far value. A change of branch takes the training along where the
    other branch has the same axis. Where no step is valid, a point by prior weight.

    Args:
        space: What holds both points.
        point: Where the step begins.
        draw: Source of its draws.
        branch_share: How often the branch changes, where there are several.
    """
    for _ in range(_TRIES):
        if len(space.branches) > 1 and draw.random() < branch_share:
            stepped = _other_branch(space, point, draw)
        else:
            stepped = _other_choice(space.axes(point), point, draw)
        if stepped != point and space.holds(stepped):
            return stepped
    return space.draw(draw)


def _other_branch(space: PointSpace, point: Point, draw: random.Random) -> Point:
    number = draw.choice([other for other in range(len(space.branches)) if other != point[0]])
    branch = space.branches[number]
    known = {axis.name: (axis, code) for axis, code in zip(space.axes(point), point[1:], strict=True)}
    codes = list(branch.draw(draw))
    for place in range(branch.num_architecture_axes, len(codes)):
        axis = branch.axes[place]
        other, code = known.get(axis.name, (axis, codes[place]))
        if len(other.values) == len(axis.values):
            codes[place] = code
    return (number, *codes)


def _other_choice(axes: tuple[Axis, ...], point: Point, draw: random.Random) -> Point:
    movable = [place for place, axis in enumerate(axes) if len(axis.values) > 1]
    if not movable:
        return point
    place = draw.choice(movable)
    codes = list(point)
    codes[place + 1] = _other_code(axes[place], point[place + 1], draw)
    return tuple(codes)


def _other_code(axis: Axis, code: int, draw: random.Random) -> int:
    others = [other for other in range(len(axis.values)) if other != code]
    if not axis.is_ordered:
        return draw.choice(others)
    return draw.choices(others, weights=[_DECAY ** abs(other - code) for other in others])[0]
