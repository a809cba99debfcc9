"""Evolution that forgets: the oldest dies, not the worst."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final, final

from legion.foundation.rng import RandomStream
from legion.neuro_architecture.generator.mutation import mutated
from legion.neuro_architecture.generator.sort_key import sort_keys
from legion.neuro_architecture.generator.unseen import UnseenPoints
from legion.neuro_architecture.objectives import Observation
from legion.neuro_architecture.space import Point, PointSpace

__all__ = ["RegularisedEvolution"]

# Steps away from a parent before a point by prior weight takes the place of a child that is known already.
_STEPS: Final = 8


@final
class RegularisedEvolution:
    """Mutates the best of a few that are drawn from the latest trials.

    Before the population is full: the space's starts, then by prior weight.

    Source: arXiv:1802.01548, algorithm 1; the best by level, violation, non-domination rank and crowding distance, in
    place of one accuracy.

    Args:
        space: What may be proposed.
        stream: Source of its draws.
        population: How many of the latest trials live; few, as a study has a few hundred trials.
        sample: How many of them compete to be the parent.
    """

    name: Final = "evolution"

    def __init__(self, space: PointSpace, stream: RandomStream, *, population: int = 20, sample: int = 5) -> None:
        self._space = space
        self._unseen = UnseenPoints(space, stream)
        self._draw = stream.child("evolution").random()
        self._population = population
        self._sample = min(sample, population)
        self._living: dict[Point, Observation] = {}  # the oldest first

    def propose(self, count: int) -> list[Point]:
        return self._unseen.take(count, self._child)

    def tell(self, observations: Sequence[Observation]) -> None:
        for observation in observations:
            self._unseen.mark(observation.point)
            self._living.pop(observation.point, None)
            self._living[observation.point] = observation
            if len(self._living) > self._population:
                del self._living[next(iter(self._living))]

    def _child(self) -> Point | None:
        start = self._unseen.start()
        if start is not None or len(self._living) < self._population:
            return start
        drawn = self._draw.sample(list(self._living.values()), self._sample)
        ranked = sorted(zip(sort_keys(drawn), range(len(drawn)), strict=True))
        child = drawn[ranked[0][1]].point
        for _ in range(_STEPS):
            child = mutated(self._space, child, self._draw)
            if self._unseen.holds(child):
                return child
        return None
