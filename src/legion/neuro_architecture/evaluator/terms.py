"""From measurements to terms to the score: every term is a ratio to the bare base measured in the same run."""

from __future__ import annotations

from collections.abc import Mapping
from math import prod
from typing import Final

from legion.neuro_architecture.spec.evaluation import OBJECTIVES
from legion.neuro_architecture.spec.measurement import Measurement

__all__ = ["NORMALISATION", "baseline_score", "composite_score", "normalise"]

NORMALISATION: Final[dict[str, str]] = {
    "accuracy": "metric on the test split / the bare base's",
    "latency": "median batch-1 time / the bare base's, interleaved in one process",
    "cost": "geometric mean of three ratios to the bare base: operations an example, peak memory, bytes on disk "
    "((base + adapter) / base)",
    "safety": "(violations + 1) / (the bare base's violations + 1)",
    "robustness": "metric under perturbations / clean metric, over the same ratio of the bare base",
}

Terms = dict[str, float]
Reasons = dict[str, str]


def normalise(measured: Mapping[str, Measurement]) -> tuple[Terms, Reasons]:
    """The terms that can be formed from `measured`, and for each other objective the reason why it cannot.

    Args:
        measured: The candidate's measurements and, as `base_...`, the bare base's.
    """
    terms: Terms = {}
    reasons: Reasons = {}
    for objective in OBJECTIVES:
        value = _TERMS[objective.name](measured)
        if isinstance(value, str):
            reasons[objective.name] = value
        else:
            terms[objective.name] = value
    return terms, reasons


def composite_score(terms: Mapping[str, float], weights: Mapping[str, float]) -> float | None:
    """Sum over the weighted objectives of sign * weight * term, or None where a weighted term is absent.

    The specification's formula: accuracy and robustness are added, latency, cost and safety violations subtracted.
    """
    if any(weight > 0.0 and name not in terms for name, weight in weights.items()):
        return None
    return sum(
        objective.sign * weights.get(objective.name, 0.0) * terms.get(objective.name, 0.0) for objective in OBJECTIVES
    )


def baseline_score(weights: Mapping[str, float]) -> float:
    """The bare base's score: each of its terms is 1, whatever was measured."""
    return sum(objective.sign * weights.get(objective.name, 0.0) for objective in OBJECTIVES)


def _ratio(measured: Mapping[str, Measurement], name: str) -> float | str:
    """`name` over `base_<name>`, or why there is no such ratio."""
    pair = []
    for key in (name, f"base_{name}"):
        if key not in measured:
            return f"{key} was not measured"
        if measured[key].value is None:
            return f"{key}: {measured[key].reason}"
        pair.append(measured[key].value or 0.0)
    return pair[0] / pair[1] if pair[1] else f"base_{name} is zero, so the ratio to it is undefined"


def _accuracy(measured: Mapping[str, Measurement]) -> float | str:
    return _ratio(measured, "accuracy")


def _robustness(measured: Mapping[str, Measurement]) -> float | str:
    return _ratio(measured, "robustness")


def _latency(measured: Mapping[str, Measurement]) -> float | str:
    ratio = measured.get("latency_ratio")
    if ratio is None:
        return "latency_ratio was not measured"
    return ratio.value if ratio.value is not None else f"latency_ratio: {ratio.reason}"


def _cost(measured: Mapping[str, Measurement]) -> float | str:
    ratios = [_ratio(measured, name) for name in ("flops_per_example", "peak_memory_mb", "size_on_disk_bytes")]
    numbers = [ratio for ratio in ratios if not isinstance(ratio, str)]
    if len(numbers) < len(ratios):
        return "; ".join(ratio for ratio in ratios if isinstance(ratio, str))
    return prod(numbers) ** (1.0 / len(numbers))


def _safety(measured: Mapping[str, Measurement]) -> float | str:
    counts = []
    for key in ("safety_violations", "base_safety_violations"):
        if key not in measured:
            return f"{key} was not measured"
        value = measured[key].value
        if value is None:
            return f"{key}: {measured[key].reason}"
        counts.append(value)
    return (counts[0] + 1.0) / (counts[1] + 1.0)


_TERMS: Final = {
    "accuracy": _accuracy,
    "latency": _latency,
    "cost": _cost,
    "safety": _safety,
    "robustness": _robustness,
}
