"""What a replay found, metric by metric."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final, final

from legion.foundation.canonical import short
from legion.neuro_architecture.registry.comparison import FieldChange, MetricChange

__all__ = ["MetricAgreement", "ReplayReport"]

# What says as much about the machine and its other work as about the adapter.
_MACHINE_UNITS: Final = frozenset({"ms", "MB", "s"})
_MACHINE_WORD: Final = "latency"
# What is counted and not sampled: another number is another thing.
_EXACT_UNITS: Final = frozenset({"FLOP/example", "bytes", "parameters"})


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class MetricAgreement:
    """One metric of the snapshot beside that of the replay.

    Attributes:
        change: Both numbers, their intervals and that of their difference.
        is_deciding: Whether the answer hangs on it. Times and memory do not decide: they are the machine's.
        is_agreeing: True for equal numbers and for a difference whose interval holds 0; of what is counted only for
            equal ones. None where nobody can say; `change.reason` says why.
    """

    change: MetricChange
    is_deciding: bool
    is_agreeing: bool | None

    @classmethod
    def of(cls, change: MetricChange) -> MetricAgreement:
        """What a compared metric says of a replay."""
        unit = next((side.unit for side in (change.before, change.after) if side is not None), "")
        is_agreeing: bool | None = {"equal": True, "within": True, "apart": False}.get(change.verdict)
        if unit in _EXACT_UNITS and change.difference is not None:
            is_agreeing = change.difference == 0.0
        is_machines = unit in _MACHINE_UNITS or _MACHINE_WORD in change.name
        return cls(change=change, is_deciding=not is_machines, is_agreeing=is_agreeing)

    @property
    def has_numbers(self) -> bool:
        """Whether it was measured on both sides."""
        return self.change.difference is not None

    def __str__(self) -> str:
        told = str(self.change)
        if self.is_agreeing is False and self.change.verdict == "unknown":
            told += ", and it is counted, not sampled: DIFFERS"
        return told if self.is_deciding else f"{told}; the machine's, decides nothing"

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON."""
        return self.change.to_dict() | {"is_deciding": self.is_deciding, "is_agreeing": self.is_agreeing}


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class ReplayReport:
    """What came of training a snapshot anew.

    Attributes:
        snapshot: Its digest.
        metric: The metric that must be decided, whatever else is: the task's.
        metrics: Every metric that either names.
        adapter_before: Digest of the weights that the snapshot was made with, where it says so.
        adapter_after: Digest of the weights that the replay ended with.
        environment: In what machine and libraries the two differ.
        run: The replay's run folder, relative to the workspace.
        level: Confidence of the intervals.
        created_at: RFC 3339.
        took_s: Seconds of this call.
        notes: What a reader has to know.
    """

    snapshot: str
    metric: str
    metrics: tuple[MetricAgreement, ...]
    adapter_before: str | None
    adapter_after: str
    environment: tuple[FieldChange, ...]
    run: str
    level: float
    created_at: str
    took_s: float
    notes: tuple[str, ...] = ()

    @property
    def is_same_adapter(self) -> bool:
        """Whether the weights are the same bit for bit."""
        return self.adapter_before == self.adapter_after

    @property
    def differing(self) -> tuple[str, ...]:
        """Names of the deciding metrics that differ beyond their interval."""
        return tuple(item.change.name for item in self.metrics if item.is_deciding and item.is_agreeing is False)

    @property
    def is_agreeing(self) -> bool:
        """Whether no deciding metric differs and the task's own agrees. What nobody can say is no yes."""
        task = [item.is_agreeing for item in self.metrics if item.change.name == self.metric]
        return not self.differing and task == [True]

    @property
    def verdict(self) -> str:
        """The answer in a sentence."""
        if self.differing:
            return f"does not agree: {', '.join(self.differing)} beyond the {self.level:.0%} interval"
        if not self.is_agreeing:
            return f"cannot say: nothing decides {self.metric}"
        deciding = [item for item in self.metrics if item.is_deciding and item.is_agreeing and item.has_numbers]
        equal = sum(item.change.verdict == "equal" for item in deciding)
        same = "the same weights bit for bit" if self.is_same_adapter else "other weights"
        return f"agrees: {len(deciding)} metrics within their {self.level:.0%} interval, {equal} of them equal; {same}"

    def lines(self) -> list[str]:
        """The report as text, a line each."""
        told = [f"{short(self.snapshot)} {self.verdict}"]
        told += [f"  {item}" for item in self.metrics]
        if self.environment:
            told += ["environment that differs", *(f"  {change}" for change in self.environment)]
        return told + [f"note: {note}" for note in self.notes]

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON."""
        return {
            "snapshot": self.snapshot,
            "verdict": self.verdict,
            "is_agreeing": self.is_agreeing,
            "is_same_adapter": self.is_same_adapter,
            "differing": list(self.differing),
            "metric": self.metric,
            "metrics": [item.to_dict() for item in self.metrics],
            "adapter_before": self.adapter_before,
            "adapter_after": self.adapter_after,
            "environment": [change.to_dict() for change in self.environment],
            "run": self.run,
            "level": self.level,
            "created_at": self.created_at,
            "took_s": self.took_s,
            "notes": list(self.notes),
        }
