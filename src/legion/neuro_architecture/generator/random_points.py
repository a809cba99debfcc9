"""Points by prior weight: the baseline that every other generator has to beat."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final, final

from legion.foundation.rng import RandomStream
from legion.neuro_architecture.generator.unseen import UnseenPoints
from legion.neuro_architecture.objectives import Observation
from legion.neuro_architecture.space import Point, PointSpace

__all__ = ["RandomGenerator"]


@final
class RandomGenerator:
    """Draws by prior weight, strategies alike; learns nothing.

    Args:
        space: What may be proposed.
        stream: Source of its draws.
    """

    name: Final = "random"

    def __init__(self, space: PointSpace, stream: RandomStream) -> None:
        self._unseen = UnseenPoints(space, stream)

    def propose(self, count: int) -> list[Point]:
        return self._unseen.take(count, self._unseen.draw)

    def tell(self, observations: Sequence[Observation]) -> None:
        for observation in observations:
            self._unseen.mark(observation.point)
