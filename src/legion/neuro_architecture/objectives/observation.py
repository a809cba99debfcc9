"""What a generator is told of a trial."""

from __future__ import annotations

import math
from dataclasses import dataclass

__all__ = ["Observation"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Observation:
    """One trial as generators see it.

    Attributes:
        point: Where it lies in the study's space: the branch, then a code on each axis.
        losses: Its objectives, turned so that less is better, all finite.
        violation: How far it is from satisfying all constraints; 0 where it does.
        level: How far it was trained: the number of the rung its objectives were measured at, the highest for a trial
            that went to the end. Objectives compare only within a level; a trial that went further did better before.
    """

    point: tuple[int, ...]
    losses: tuple[float, ...]
    violation: float = 0.0
    level: int = 0

    def __post_init__(self) -> None:
        if not all(map(math.isfinite, self.losses)):
            raise ValueError(f"losses are finite numbers: {self.losses} are not")
