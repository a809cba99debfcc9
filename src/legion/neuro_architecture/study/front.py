"""The front of a study, in the order of its preference, and how much it dominates."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from legion.neuro_architecture.objectives import hypervolume
from legion.neuro_architecture.spec.dominance import constrained_ranks
from legion.neuro_architecture.study.criteria import Criteria
from legion.neuro_architecture.study.state import Moment, StudyState, TrialRecord

__all__ = [
    "completed",
    "end_values",
    "front_of",
    "moment_of",
    "normalised_hypervolume",
    "ranks_of",
    "reference_of",
]

_MARGIN: Final = 0.1


def completed(state: StudyState, criteria: Criteria) -> list[TrialRecord]:
    """Trials that went to the end with a value for every objective."""
    return [
        trial
        for trial in state.trials.values()
        if trial.phase == "completed" and not criteria.missing(end_values(trial))
    ]


def end_values(trial: TrialRecord) -> dict[str, float]:
    """The objectives of a trial at its end; empty before."""
    return dict(trial.looks[-1].values) if trial.looks and trial.looks[-1].decision == "end" else {}


def ranks_of(state: StudyState, criteria: Criteria) -> dict[str, int]:
    """Rank of each completed trial, the feasible first."""
    trials = completed(state, criteria)
    if not trials:
        return {}
    points = [criteria.losses(end_values(trial)) for trial in trials]
    violations = [criteria.violation(end_values(trial), is_final=True) for trial in trials]
    found = constrained_ranks(points, [-1] * len(criteria.objectives), violations)
    return {trial.id: rank for trial, rank in zip(trials, found, strict=True)}


def front_of(state: StudyState, criteria: Criteria) -> list[TrialRecord]:
    """The feasible non-dominated trials, the most preferred first; ties by id."""
    ranks = ranks_of(state, criteria)
    members = [
        state.trials[name]
        for name, rank in ranks.items()
        if rank == 1 and criteria.violation(end_values(state.trials[name]), is_final=True) == 0.0
    ]
    scores = criteria.preference([end_values(trial) for trial in members])
    ordered = sorted(zip(scores, members, strict=True), key=lambda pair: (-pair[0], pair[1].id))
    return [trial for _, trial in ordered]


def reference_of(criteria: Criteria, worst_predicted: dict[str, float], num_labels: int) -> tuple[float, ...]:
    """The reference point of a study's hypervolumes, stated before any training, as losses.

    Predicted objectives: a tenth behind the worst in the space. Accuracy: guessing. Calibration: always sure and
    always wrong. Robustness: nothing kept. Violations: a hundred, and forgetting: a nat a token, so e times the
    perplexity; no candidate that is worth keeping has either.
    """
    stated = {
        "accuracy": 1.0 / num_labels if num_labels else 0.0,
        "calibration_error": 1.0,
        "robustness": 0.0,
        "safety_violations": 100.0,
        "forgetting": 1.0,
    }
    values = stated | {name: (1.0 + _MARGIN) * value for name, value in worst_predicted.items()}
    return tuple(-objective.sign * values[objective.name] for objective in criteria.objectives)


def moment_of(state: StudyState, criteria: Criteria) -> Moment:
    """How good the front is now."""
    front = front_of(state, criteria)
    volume: float | None = None
    if state.reference_point is not None and front:
        points = [criteria.losses(end_values(trial)) for trial in front]
        volume = normalised_hypervolume(points, state.reference_point)
    return Moment(
        trials=len(state.trials),
        spent_s=state.spent_s,
        spent_flops=state.spent_flops,
        hypervolume=volume,
        front=tuple(trial.id for trial in front),
    )


def normalised_hypervolume(losses: Sequence[Sequence[float]], reference: Sequence[float]) -> float:
    """The dominated volume with each objective in units of its reference, so that no unit outweighs another."""
    scale = [abs(value) or 1.0 for value in reference]
    points = [[value / unit for value, unit in zip(row, scale, strict=True)] for row in losses]
    corner = [value / unit for value, unit in zip(reference, scale, strict=True)]
    return hypervolume(points, corner, [-1] * len(scale))
