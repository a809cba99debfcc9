"""Plain successive halving: at each rung the best part goes on. Source: arXiv:1502.07943."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Self

from pydantic import model_validator

from legion.foundation.errors import InvalidValueError
from legion.neuro_architecture.spec._value import Value

__all__ = ["Rungs"]


class Rungs(Value):
    """Numbers of steps at which trials are compared, and how many go on.

    Attributes:
        steps: The rungs, rising; the last trials go on to the end of the schedule.
        factor: Of n trials at a rung, ceil(n / factor) go on.
        least: No fewer than this many go on.
    """

    steps: tuple[int, ...]
    factor: float = 3.0
    least: int = 1

    @model_validator(mode="after")
    def _rising(self) -> Rungs:
        if any(later <= earlier for earlier, later in zip((0, *self.steps), self.steps, strict=False)):
            raise ValueError(f"rungs rise from 1 on: {list(self.steps)} do not")
        if self.factor <= 1.0 or self.least < 1:
            raise ValueError(f"factor is above 1 and least at least 1, not {self.factor:g} and {self.least}")
        return self

    @classmethod
    def geometric(cls, first: int, steps: int, *, factor: float = 3.0, least: int = 1) -> Self:
        """Rungs at first, first * factor, ... below `steps`.

        Raises:
            InvalidValueError: `first` is not below `steps`.
        """
        if not 0 < first < steps:
            raise InvalidValueError(
                f"the first rung is at {first} of {steps} steps", hint="it lies above 0 and below the steps"
            )
        found, at = [], float(first)
        while round(at) < steps:
            found.append(round(at))
            at *= factor
        return cls(steps=tuple(dict.fromkeys(found)), factor=factor, least=least)

    def survivors(self, losses: Mapping[str, float]) -> list[str]:
        """Who goes on, lowest validation loss first; ties by name."""
        order = sorted(losses, key=lambda name: (losses[name], name))
        return order[: self.num_survivors(len(order))]

    def num_survivors(self, count: int) -> int:
        """How many of `count` trials go on."""
        return min(count, max(self.least, math.ceil(count / self.factor)))
