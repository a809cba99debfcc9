"""Whether one trial is certainly worse than another: paired differences on the same examples."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, final

import numpy as np

__all__ = ["RaceResult", "race"]

# Differences of one prediction's loss beyond this many nats count as this many: a bound on the mean needs a range.
CLIP_NATS: Final = 0.5


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class RaceResult:
    """The paired comparison of two trials.

    Attributes:
        mean: Mean clipped difference of losses, one less the other, in nats.
        bound: With probability 1 - delta the expected difference is not below `mean - bound`.
        num_pairs: Predictions that both made.
    """

    mean: float
    bound: float
    num_pairs: int

    @property
    def is_worse(self) -> bool:
        """Whether the first is certainly worse."""
        return self.mean > self.bound


def race(one: Sequence[float], other: Sequence[float], *, delta: float, clip: float = CLIP_NATS) -> RaceResult:
    """Compares two trials by their losses of the same predictions.

    Empirical Bernstein (arXiv:0907.3740, theorem 4): for n independent values in an interval of width R with sample
    variance V, the mean exceeds its expectation by more than sqrt(2 V ln(2/delta) / n) + 7 R ln(2/delta) / (3 (n - 1))
    with probability at most delta. Here the values are differences clipped to [-clip, clip], so R = 2 clip; it is the
    expected clipped difference that is bounded. No distribution is assumed, and trials that err on the same examples
    are told apart the sooner.

    Args:
        one: Losses of the trial that may be worse, in nats.
        other: Losses of the trial that it is compared with, in the same order.
        delta: Probability of a wrong verdict.
        clip: Most that one prediction may count.

    Raises:
        ValueError: the losses are not of the same predictions, or delta is no probability.
    """
    if len(one) != len(other):
        raise ValueError(f"{len(one)} and {len(other)} predictions are not the same ones")
    if not 0.0 < delta < 1.0:
        raise ValueError(f"delta is a probability, not {delta}")
    count = len(one)
    if count < 2:
        return RaceResult(mean=0.0, bound=math.inf, num_pairs=count)
    differences = np.clip(np.asarray(one, dtype=float) - np.asarray(other, dtype=float), -clip, clip)
    log = math.log(2.0 / delta)
    spread = math.sqrt(2.0 * float(differences.var(ddof=1)) * log / count)
    return RaceResult(
        mean=float(differences.mean()),
        bound=spread + 7.0 * 2.0 * clip * log / (3.0 * (count - 1)),
        num_pairs=count,
    )
