"""A number that was measured, or the reason why there is none."""

from __future__ import annotations

from typing import Self

from pydantic import model_validator

from legion.neuro_architecture.spec._value import Value

__all__ = ["Measurement"]


class Measurement(Value):
    """One measured number with its unit, or its absence with a reason; never a default.

    Attributes:
        value: The number, or None when it was not measured.
        unit: What one of it is: `share`, `ms`, `bytes`, `FLOP/example`, `violations`.
        n: How many observations it rests on.
        error: Standard error in `unit`, where one is known.
        reason: Why `value` is None.
    """

    value: float | None
    unit: str
    n: int | None = None
    error: float | None = None
    reason: str | None = None

    @model_validator(mode="after")
    def _value_or_reason(self) -> Self:
        if (self.value is None) == (self.reason is None):
            raise ValueError("a measurement has either a value or a reason for its absence")
        return self

    @classmethod
    def measured(cls, value: float, unit: str, *, n: int | None = None, error: float | None = None) -> Self:
        """A measured number."""
        return cls(value=float(value), unit=unit, n=n, error=error)

    @classmethod
    def absent(cls, unit: str, reason: str) -> Self:
        """The record that nothing was measured, and why."""
        return cls(value=None, unit=unit, reason=reason)
