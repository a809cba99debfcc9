"""Points spread evenly over every axis."""

from __future__ import annotations

import bisect
import itertools
from collections import deque
from collections.abc import Sequence
from typing import Final, final

from legion.foundation.rng import RandomStream
from legion.neuro_architecture.generator.repair import repaired
from legion.neuro_architecture.generator.unseen import UnseenPoints
from legion.neuro_architecture.objectives import Observation
from legion.neuro_architecture.space import Axis, Point, PointSpace

__all__ = ["LatinHypercube"]

_LEAST_STRATA: Final = 8


@final
class LatinHypercube:
    """Cuts each axis of each branch into as many parts of like prior weight as points are wanted, and meets each once.

    Branches take turns. Combinations that the space does not hold move to the nearest that it holds, which bends the
    strata a little. What a small batch leaves of its design goes to the next one. Learns nothing.

    Source: McKay, Beckman and Conover 1979, doi:10.2307/1268522.

    Args:
        space: What may be proposed.
        stream: Source of its draws.
    """

    name: Final = "latin-hypercube"

    def __init__(self, space: PointSpace, stream: RandomStream) -> None:
        self._space = space
        self._unseen = UnseenPoints(space, stream)
        self._draw = stream.child("latin-hypercube").random()
        self._planned: deque[Point] = deque()
        self._wanted = 0

    def propose(self, count: int) -> list[Point]:
        self._wanted = count
        return self._unseen.take(count, self._next)

    def tell(self, observations: Sequence[Observation]) -> None:
        for observation in observations:
            self._unseen.mark(observation.point)

    def _next(self) -> Point | None:
        if not self._planned:
            self._plan()
        return repaired(self._space, self._planned.popleft(), self._draw)

    def _plan(self) -> None:
        """One design for each branch, taking turns."""
        branches = self._space.branches
        strata = max(_LEAST_STRATA, -(-self._wanted // len(branches)))
        designs = [
            [(number, *codes) for codes in zip(*(self._column(axis, strata) for axis in branch.axes), strict=True)]
            for number, branch in enumerate(branches)
        ]
        self._planned.extend(itertools.chain.from_iterable(zip(*designs, strict=True)))

    def _column(self, axis: Axis, strata: int) -> list[int]:
        """One code in each of `strata` parts of the axis's prior, in any order."""
        bounds = list(itertools.accumulate(axis.weights))[:-1]
        codes = [bisect.bisect_right(bounds, (part + self._draw.random()) / strata) for part in range(strata)]
        self._draw.shuffle(codes)
        return codes
