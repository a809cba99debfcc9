"""Studies side by side."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from legion.foundation.errors import InvalidValueError
from legion.neuro_architecture.study.criteria import Criteria
from legion.neuro_architecture.study.front import end_values, front_of, normalised_hypervolume
from legion.neuro_architecture.study.state import StudyState

__all__ = ["compare_studies"]


def compare_studies(states: Mapping[str, StudyState]) -> dict[str, Any]:
    """Cost, front and hypervolume of each, all under one reference point: the worst of theirs in each objective.

    Raises:
        InvalidValueError: they have other objectives, or were made for other data or another base.
    """
    first_name, first = next(iter(states.items()))
    for name, state in states.items():
        for what, one, other in (
            ("objectives", first.recipe.objectives, state.recipe.objectives),
            ("data", first.problem["data_digest"], state.problem["data_digest"]),
            ("base", first.problem["base"]["digest"], state.problem["base"]["digest"]),
        ):
            if one != other:
                raise InvalidValueError(
                    f"studies {first_name} and {name} cannot be compared", cause=f"{what}: {one} and {other}"
                )
    references = [state.reference_point for state in states.values() if state.reference_point is not None]
    reference = [max(column) for column in zip(*references, strict=True)]
    return {
        "objectives": list(first.recipe.objectives),
        "reference_point": reference,
        "studies": [_row(name, state, reference) for name, state in states.items()],
    }


def _row(name: str, state: StudyState, reference: list[float]) -> dict[str, Any]:
    criteria = Criteria.of(state.recipe.objectives, state.recipe.constraints, state.recipe.weights)
    front = front_of(state, criteria)
    points = [criteria.losses(end_values(trial)) for trial in front]
    best = {
        objective.name: max((end_values(trial)[objective.name] for trial in front), key=lambda v: objective.sign * v)
        for objective in criteria.objectives
        if front
    }
    return {
        "name": name,
        "phase": state.phase,
        "trials": len(state.trials),
        "spent_s": state.spent_s,
        "spent_flops": state.spent_flops,
        "front": len(front),
        "hypervolume": normalised_hypervolume(points, reference) if front else None,
        "best": best,
    }
