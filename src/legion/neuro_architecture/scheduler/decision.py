"""What is known of a trial at a rung, and what is decided of it."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import final

__all__ = ["Contender", "Decision", "Verdict"]


class Verdict(StrEnum):
    """What becomes of a trial at a rung.

    Continue: it trains on to the next rung. Pause: it is not among the best, and not certainly worse either; it may
    continue later. Stop: it is certainly worse than one that continues.
    """

    CONTINUE = "continue"
    PAUSE = "pause"
    STOP = "stop"


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class Contender:
    """One trial at a rung.

    Attributes:
        name: Of the trial.
        losses: Its objectives there, turned so that less is better.
        violation: How far it is from satisfying all constraints.
        examples: Its loss of each watched prediction, in nats, in the order that all trials share; None where it has
            none on record.
        is_decided: Whether it went on from here before; it counts among the others, and nothing is decided of it.
        is_exploratory: Whether it goes on whatever it shows here.
    """

    name: str
    losses: tuple[float, ...]
    violation: float = 0.0
    examples: tuple[float, ...] | None = None
    is_decided: bool = False
    is_exploratory: bool = False


@final
@dataclass(frozen=True, slots=True)
class Decision:
    """A verdict with its reason, in words and numbers."""

    verdict: Verdict
    reason: str
