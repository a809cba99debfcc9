"""From values to places: round ticks and a linear scale."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

__all__ = ["Scale", "format_tick", "padded_range", "round_ticks"]


@dataclass(frozen=True, slots=True)
class Scale:
    """Maps `low`..`high` to `start`..`end` in pixels, linearly."""

    low: float
    high: float
    start: float
    end: float

    def __call__(self, value: float) -> float:
        return self.start + (value - self.low) / (self.high - self.low) * (self.end - self.start)


def padded_range(values: Sequence[float], *, padding: float = 0.12) -> tuple[float, float]:
    """The range of the values with room on both sides; never empty."""
    low, high = min(values), max(values)
    span = high - low or abs(high) * 0.1 or 1.0
    return low - padding * span, high + padding * span


def round_ticks(low: float, high: float, *, about: int = 6) -> list[float]:
    """Multiples of 1, 2, 2.5 or 5 times a power of ten within the range, near `about` of them."""
    raw = (high - low) / about
    power = 10.0 ** math.floor(math.log10(raw))
    step = next(factor * power for factor in (1.0, 2.0, 2.5, 5.0, 10.0) if factor * power >= raw * (1.0 - 1e-9))
    first, last = math.ceil(low / step - 1e-9), math.floor(high / step + 1e-9)
    return [round(index * step, 12) for index in range(first, last + 1)]


def format_tick(value: float, step: float) -> str:
    """The tick with as many decimals as its step has; where steps are large, in k, M or G."""
    for least_step, unit, suffix in ((1e8, 1e9, "G"), (1e5, 1e6, "M"), (1e3, 1e3, "k")):
        if step >= least_step:
            return f"{value / unit:.{_decimals(step / unit)}f}{suffix}"
    return f"{value:.{_decimals(step)}f}"


def _decimals(step: float) -> int:
    return next((count for count in range(12) if abs(round(step, count) - step) <= 1e-6 * step), 12)
