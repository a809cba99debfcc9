"""NSGA-II on the points of a space."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final, final

from legion.foundation.rng import RandomStream
from legion.neuro_architecture.generator.mutation import mutated
from legion.neuro_architecture.generator.sort_key import SortKey, sort_keys
from legion.neuro_architecture.generator.unseen import UnseenPoints
from legion.neuro_architecture.objectives import Observation
from legion.neuro_architecture.space import Point, PointSpace

__all__ = ["Nsga2"]

_CROSSOVER_SHARE: Final = 0.9
_MUTATION_SHARE: Final = 0.5
_TRIES: Final = 8


@final
class Nsga2:
    """Crosses and mutates the best trials so far, by constrained domination and crowding distance.

    Parents win binary tournaments; both are of one branch, and the child takes each choice from either. Survivors are
    chosen among parents and newcomers whenever something was told, so that batches may have any size. Before there are
    `population` trials: the space's starts, then by prior weight.

    Source: doi:10.1109/4235.996017.

    Args:
        space: What may be proposed.
        stream: Source of its draws.
        population: How many survive; few, as a study has a few hundred trials.
    """

    name: Final = "nsga2"

    def __init__(self, space: PointSpace, stream: RandomStream, *, population: int = 20) -> None:
        self._space = space
        self._unseen = UnseenPoints(space, stream)
        self._draw = stream.child("nsga2").random()
        self._population = population
        self._known: dict[Point, Observation] = {}
        self._parents: list[tuple[SortKey, Point]] = []  # the best first

    def propose(self, count: int) -> list[Point]:
        return self._unseen.take(count, self._child)

    def tell(self, observations: Sequence[Observation]) -> None:
        for observation in observations:
            self._unseen.mark(observation.point)
            self._known[observation.point] = observation
        self._survive()

    def _survive(self) -> None:
        """Keeps the best `population` of parents and newcomers."""
        members = list(self._known.values())
        if not members:
            return
        ranked = sorted(zip(sort_keys(members), (member.point for member in members), strict=True))
        self._parents = ranked[: self._population]
        self._known = {point: self._known[point] for _, point in self._parents}

    def _child(self) -> Point | None:
        start = self._unseen.start()
        if start is not None or len(self._parents) < self._population:
            return start
        first = self._winner(self._parents)
        mates = [parent for parent in self._parents if parent[1][0] == first[0]]
        child = self._crossed(first, self._winner(mates))
        if self._draw.random() < _MUTATION_SHARE:
            child = mutated(self._space, child, self._draw)
        for _ in range(_TRIES):
            if self._unseen.holds(child):
                return child
            child = mutated(self._space, child, self._draw)
        return None

    def _winner(self, parents: Sequence[tuple[SortKey, Point]]) -> Point:
        """The better of two; the best lie first."""
        return parents[min(self._draw.randrange(len(parents)), self._draw.randrange(len(parents)))][1]

    def _crossed(self, first: Point, second: Point) -> Point:
        """Each choice of either parent, where that is valid; else the first parent."""
        if self._draw.random() < _CROSSOVER_SHARE:
            for _ in range(_TRIES):
                child = tuple(self._draw.choice(pair) for pair in zip(first, second, strict=True))
                if self._space.holds(child):
                    return child
        return first
