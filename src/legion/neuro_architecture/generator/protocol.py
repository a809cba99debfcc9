"""What a study asks of whatever proposes its points."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from legion.neuro_architecture.objectives import Observation
from legion.neuro_architecture.space import Point

__all__ = ["PointGenerator"]


class PointGenerator(Protocol):
    """Proposes points of one space and learns from what became of them.

    The same seed and the same calls give the same points, whatever the machine. Not thread-safe: one study owns it.
    """

    @property
    def name(self) -> str:
        """As recipes and the command line write it."""
        ...

    def propose(self, count: int) -> list[Point]:
        """Distinct points that the space holds, neither proposed by it nor told to it before.

        Fewer than `count` only when the space runs out.
        """
        ...

    def tell(self, observations: Sequence[Observation]) -> None:
        """Learns of trials, in an order that the caller fixes; some may be of points it never proposed.

        A point told once more, from a higher level, replaces what was told of it before.
        """
        ...
