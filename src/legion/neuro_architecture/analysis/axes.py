"""What may be put on an axis: its title, its unit, and which way is better."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from legion.foundation.errors import UnknownNameError
from legion.neuro_architecture.spec.evaluation import Direction, EvaluationResult, EvaluationSummary
from legion.neuro_architecture.spec.measurement import Measurement

__all__ = ["Axis", "axis_names", "baseline_value", "find_axis", "value_of"]


@dataclass(frozen=True, slots=True)
class Axis:
    """One axis.

    Attributes:
        name: Name of the measurement, or `score` or `cost`.
        title: What it shows, in words.
        unit: Unit of the numbers along it.
        direction: Which way is better.
    """

    name: str
    title: str
    unit: str
    direction: Direction

    @property
    def sign(self) -> int:
        return 1 if self.direction == "maximise" else -1


_AXES: Final = (
    Axis("accuracy", "Test accuracy", "share", "maximise"),
    Axis("accuracy_gain", "Accuracy gained over the bare base", "share", "maximise"),
    Axis("latency_ratio", "Latency against the bare base", "ratio of medians, batch 1", "minimise"),
    Axis("latency_p50_ms", "Median latency, batch 1", "ms", "minimise"),
    Axis("latency_p95_ms", "95th percentile of latency, batch 1", "ms", "minimise"),
    Axis("flops_per_example", "Operations", "FLOP an example", "minimise"),
    Axis("peak_memory_mb", "Peak memory, batch 1", "MB", "minimise"),
    Axis("adapter_size_bytes", "Size of the adapter", "bytes", "minimise"),
    Axis("safety_violations", "Safety violations", "count", "minimise"),
    Axis("robustness", "Metric kept under perturbations", "ratio to clean", "maximise"),
    Axis("forgetting", "Plain text foretold worse than by the bare base", "nats a token", "minimise"),
    Axis("cost", "Cost against the bare base", "geometric mean of ratios", "minimise"),
    Axis("score", "Composite score", "weighted sum of terms", "maximise"),
)


def axis_names() -> tuple[str, ...]:
    """Every name that `front_chart` takes."""
    return tuple(axis.name for axis in _AXES)


def find_axis(name: str, summary: EvaluationSummary) -> Axis:
    """The axis called `name`; accuracy bears the name of the task's metric.

    Raises:
        UnknownNameError: there is none.
    """
    for axis in _AXES:
        if axis.name == name:
            if name == "accuracy" and summary.metric == "rouge_l":
                return Axis(name, "Test ROUGE-L", "F1", axis.direction)
            return axis
    raise UnknownNameError.of("axis", name, axis_names())


def value_of(result: EvaluationResult, axis: Axis) -> Measurement:
    """The candidate's value on an axis, or why it has none."""
    if axis.name == "score":
        return _number(result.composite_score, result.reason or "it has no score")
    if axis.name == "cost":
        return _number(result.terms.get("cost"), result.reason or "its cost term could not be formed")
    found = result.measurements.get(axis.name)
    return found or Measurement.absent(axis.unit, result.reason or f"{axis.name} was not measured")


def baseline_value(summary: EvaluationSummary, axis: Axis) -> Measurement:
    """The bare base's value on an axis, or why it has none."""
    if axis.name == "score":
        return _number(summary.baseline_score, "the summary has no score of the baseline")
    if axis.name == "cost":
        return Measurement.measured(1.0, axis.unit)
    found = summary.baseline.get(axis.name)
    return found or Measurement.absent(axis.unit, f"the bare base has no {axis.name}")


def _number(value: float | None, reason: str) -> Measurement:
    return Measurement.absent("ratio", reason) if value is None else Measurement.measured(value, "ratio")
