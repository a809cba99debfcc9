"""What only the evaluator measures, of trials in a study's folder."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any, Final

from legion.foundation.progress import Progress
from legion.foundation.settings import Settings
from legion.neuro_architecture.evaluator import EvaluatorConfig, MultiObjectiveEvaluator
from legion.neuro_architecture.records import RunFolder
from legion.neuro_architecture.spec.evaluation import EvaluationSummary
from legion.neuro_architecture.spec.measurement import Measurement
from legion.neuro_architecture.spec.task import TaskKind

__all__ = ["baseline_of", "measure", "measured_values"]

# Objectives under the evaluator's names.
_NAMES: Final = {
    "accuracy": "accuracy",
    "latency_ms": "latency_p50_ms",
    "cost": "flops_per_example",
    "memory_mb": "peak_memory_mb",
    "size_bytes": "adapter_size_bytes",
    "safety_violations": "safety_violations",
    "robustness": "robustness",
    "forgetting": "forgetting",
}
_BASE_NAMES: Final = {
    "accuracy": "accuracy",
    "latency_ms": "latency_p50_ms",
    "cost": "flops_per_example",
    "memory_mb": "peak_memory_mb",
    "safety_violations": "safety_violations",
    "robustness": "robustness",
    "forgetting": "forgetting",
}


def measure(
    names: Sequence[str],
    settings: Settings,
    *,
    kind: TaskKind,
    seed: int,
    progress: Progress,
    split: str = "validation",
    examples: int | None = None,
) -> EvaluationSummary:
    """The evaluation of trials of a workspace on one split.

    Raises:
        UsageError: none of them can be measured.
    """
    limited = replace(settings, eval_examples=examples) if examples else settings
    config = EvaluatorConfig.for_task(kind, limited)
    config = EvaluatorConfig.parse(config.to_dict() | {"split": split}, what="evaluator")
    evaluator = MultiObjectiveEvaluator(settings=settings, seed=seed, progress=progress, config=config)
    evaluator.evaluate([RunFolder.of(settings, name).path / "metrics.json" for name in names])
    return evaluator.summary


def measured_values(measurements: Mapping[str, Measurement]) -> tuple[dict[str, float], dict[str, float]]:
    """Values and standard errors by objective, as far as they were measured."""
    found = {name: measurements[key] for name, key in _NAMES.items() if key in measurements}
    values = {name: each.value for name, each in found.items() if each.value is not None}
    errors = {name: each.error for name, each in found.items() if each.value is not None and each.error is not None}
    return values, errors


def baseline_of(summary: EvaluationSummary) -> dict[str, Any]:
    """The bare base's measurements by objective."""
    found = {name: summary.baseline[key] for name, key in _BASE_NAMES.items() if key in summary.baseline}
    return {
        "name": summary.baseline_name,
        "values": {name: each.value for name, each in found.items() if each.value is not None},
        "errors": {name: each.error for name, each in found.items() if each.error is not None},
    }
