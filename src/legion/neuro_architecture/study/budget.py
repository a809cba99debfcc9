"""How much a study may spend: `20m`, `40trials`, `2e15flops`."""

from __future__ import annotations

import math
import re
from dataclasses import dataclass
from typing import Final, Literal, final

from legion.foundation.errors import InvalidValueError

__all__ = ["Budget", "parse_budget"]

_SECONDS: Final = {"s": 1.0, "m": 60.0, "h": 3600.0}
_FORM: Final = re.compile(r"\s*([0-9.]+(?:[eE][+-]?[0-9]+)?)\s*(s|m|h|trials?|flops?)\s*")


@final
@dataclass(frozen=True, slots=True)
class Budget:
    """A bound on one resource.

    Attributes:
        amount: How much.
        unit: Of what: seconds of the study, proposed trials, or training's floating-point operations.
    """

    amount: float
    unit: Literal["seconds", "trials", "flops"]

    def __str__(self) -> str:
        return f"{self.amount:g} {self.unit}"

    def left(self, *, seconds: float, trials: int, flops: float, reserve: float = 0.0) -> float:
        """What is left, beside a reserved share of time or operations; below zero where more was spent."""
        if self.unit == "trials":
            return self.amount - trials
        spent = seconds if self.unit == "seconds" else flops
        return self.amount * (1.0 - reserve) - spent


def parse_budget(text: str) -> Budget:
    """The budget in words.

    Raises:
        InvalidValueError: not of a known form, or nothing at all.
    """
    found = _FORM.fullmatch(text)
    if found is None:
        raise InvalidValueError(f"budget {text!r} is not understood", hint="20m, 1.5h, 40trials or 2e15flops")
    try:
        amount = float(found.group(1))
    except ValueError as error:
        raise InvalidValueError(f"budget {text!r} has no number", cause=repr(found.group(1))) from error
    if not amount > 0.0 or not math.isfinite(amount):
        raise InvalidValueError(f"budget {text!r} buys nothing", hint="20m, 1.5h, 40trials or 2e15flops")
    unit = found.group(2)
    if unit in _SECONDS:
        return Budget(amount * _SECONDS[unit], "seconds")
    if unit.startswith("trial"):
        if amount != int(amount):
            raise InvalidValueError(f"budget {text!r} is no whole number of trials")
        return Budget(amount, "trials")
    return Budget(amount, "flops")
