"""The points that a generator may still propose."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from typing import Final, final

from legion.foundation.rng import RandomStream
from legion.neuro_architecture.space import Point, PointSpace

__all__ = ["UnseenPoints"]

# So many draws in a row of known points mean that little of the prior is left: then what remains is listed.
_TRIES: Final = 100


@final
class UnseenPoints:
    """The space less what was proposed or told.

    Args:
        space: All points.
        stream: Draws by prior weight come from its child.
    """

    def __init__(self, space: PointSpace, stream: RandomStream) -> None:
        self._space = space
        self._draw = stream.child("unseen").random()
        self._seen: set[Point] = set()
        self._rest: list[Point] | None = None

    def holds(self, point: Point) -> bool:
        """Whether the point may still be proposed."""
        return point not in self._seen and self._space.holds(point)

    def mark(self, point: Point) -> None:
        """Takes the point out."""
        self._seen.add(point)

    def take(self, count: int, suggest: Callable[[], Point | None]) -> list[Point]:
        """Up to `count` points, each taken out: what `suggest` gives, or one by prior weight where that is known, not
        held, or None. Fewer only when nothing is left.
        """
        taken: list[Point] = []
        while len(taken) < count:
            point = suggest()
            if point is None or not self.holds(point):
                point = self.draw()
            if point is None:
                break
            self.mark(point)
            taken.append(point)
        return taken

    def start(self) -> Point | None:
        """The first of the space's well-known starts that is left."""
        return next((point for point in self._space.starts if point not in self._seen), None)

    def draw(self) -> Point | None:
        """A point by prior weight, or None where nothing is left; the point stays in."""
        if self._rest is None:
            for _ in range(_TRIES):
                point = self._space.draw(self._draw)
                if point not in self._seen:
                    return point
            self._rest = self._shuffled(point for point in self._space.points() if point not in self._seen)
        while self._rest and self._rest[-1] in self._seen:
            self._rest.pop()
        return self._rest[-1] if self._rest else None

    def _shuffled(self, points: Iterator[Point]) -> list[Point]:
        """In the order in which draws by prior weight would come, the first at the end.

        Source: Efraimidis and Spirakis 2006, doi:10.1016/j.ipl.2005.11.003: by log(u) / weight.
        """
        keyed = [(math.log(1.0 - self._draw.random()) / _weight(self._space, point), point) for point in points]
        return [point for _, point in sorted(keyed)]


def _weight(space: PointSpace, point: Point) -> float:
    """Prior weight as if the axes were independent."""
    axes = space.axes(point)
    return math.prod(axis.weights[code] for axis, code in zip(axes, point[1:], strict=True))
