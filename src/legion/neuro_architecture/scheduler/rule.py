"""Successive halving on several objectives, in step or asynchronously."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, final

import numpy as np

from legion.foundation.errors import InvalidValueError
from legion.neuro_architecture.objectives import hypervolume_contributions
from legion.neuro_architecture.scheduler.decision import Contender, Decision, Verdict
from legion.neuro_architecture.scheduler.race import race
from legion.neuro_architecture.spec.dominance import constrained_ranks

__all__ = ["RungRule", "order"]

# Where the reference point of contributions lies, in shares of the range that was seen.
_BEHIND: Final = 1.1
# An exact contribution in many objectives is dear: beyond this many members of one front, the distance to neighbours.
_MOST_EXACT: Final = 40


def order(contenders: Sequence[Contender]) -> list[Contender]:
    """The contenders, best first: by constraints, then non-domination rank, then hypervolume contribution; ties by
    name.

    Contributions are within the rank, each objective scaled by the range that all contenders span.
    """
    if not contenders:
        return []
    points = [item.losses for item in contenders]
    ranks = constrained_ranks(points, [-1] * len(points[0]), [item.violation for item in contenders])
    shares = _contributions(points, ranks)
    keyed = sorted(zip(ranks, shares, contenders, strict=True), key=lambda row: (row[0], -row[1], row[2].name))
    return [contender for _, _, contender in keyed]


def _contributions(points: Sequence[tuple[float, ...]], ranks: Sequence[int]) -> list[float]:
    losses = np.asarray(points, dtype=float)
    spread = np.ptp(losses, axis=0)
    scaled = (losses - losses.min(axis=0)) / np.where(spread > 0.0, spread, 1.0)
    found = np.zeros(len(points))
    for rank in set(ranks):
        members = [place for place, each in enumerate(ranks) if each == rank]
        front = scaled[members]
        if len(members) > _MOST_EXACT:
            gaps = np.sort(np.abs(front[:, None, :] - front[None, :, :]).sum(axis=2), axis=1)
            found[members] = gaps[:, 1]
        else:
            found[members] = hypervolume_contributions(front, [_BEHIND] * front.shape[1], [-1] * front.shape[1])
    return [float(share) for share in found]


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class RungRule:
    """Who goes on at a rung.

    The best `ceil(n / factor)` continue (arXiv:1502.07943; with earlier trials among the n, arXiv:1810.05934; on
    several objectives, arXiv:2106.12639). Of the others, one stops only where a paired race says that it is certainly
    worse than one that continues; else it pauses, and may continue when the best have moved on. Exploratory trials
    continue whatever they show: they tell how far a rung is to be trusted.

    Attributes:
        factor: One in so many continues.
        least: No fewer than this many do.
        delta: Probability that any stop at one rung is wrong.

    Raises:
        InvalidValueError: a factor of 1 or less, or a delta that is no probability.
    """

    factor: float = 3.0
    least: int = 1
    delta: float = 0.1

    def __post_init__(self) -> None:
        if self.factor <= 1.0 or self.least < 1:
            raise InvalidValueError(f"factor {self.factor:g} and least {self.least} let nobody stop or nobody go on")
        if not 0.0 < self.delta < 1.0:
            raise InvalidValueError(f"delta cannot be {self.delta:g}", cause="it is a probability between 0 and 1")

    def num_continuing(self, count: int) -> int:
        """How many of `count` trials continue."""
        return min(count, max(self.least, math.ceil(count / self.factor)))

    def decide(self, contenders: Sequence[Contender]) -> dict[str, Decision]:
        """A decision for each contender of which none was made yet.

        Args:
            contenders: All trials at the rung: those in question, and where halving is asynchronous those before them.
        """
        ordered = order(contenders)
        quota = self.num_continuing(len(ordered))
        best = ordered[:quota]
        open_ones = [item for item in ordered if not item.is_decided]
        num_races = max(1, sum(item not in best for item in open_ones) * len(best))
        decisions: dict[str, Decision] = {}
        for item in open_ones:
            place = ordered.index(item) + 1
            if item in best:
                decisions[item.name] = Decision(Verdict.CONTINUE, f"number {place} of {len(ordered)}")
            elif item.is_exploratory:
                reason = f"number {place} of {len(ordered)}, but exploratory: it continues whatever it shows"
                decisions[item.name] = Decision(Verdict.CONTINUE, reason)
            else:
                decisions[item.name] = self._among_the_rest(item, best, len(ordered), self.delta / num_races)
        return decisions

    def _among_the_rest(self, item: Contender, best: Sequence[Contender], count: int, delta: float) -> Decision:
        for other in best:
            if item.violation > 0.0 and other.violation == 0.0:
                return Decision(Verdict.STOP, f"it misses a constraint by {item.violation:.3g}; {other.name} meets all")
            if item.examples is None or other.examples is None:
                continue
            found = race(item.examples, other.examples, delta=delta)
            if found.is_worse:
                return Decision(
                    Verdict.STOP,
                    f"not among the best {len(best)} of {count}, and certainly worse than {other.name}: "
                    f"{found.mean:.4f} nats a prediction, more than {found.bound:.4f} over {found.num_pairs} pairs",
                )
        return Decision(
            Verdict.PAUSE, f"not among the best {len(best)} of {count}, nor certainly worse than one of them"
        )
