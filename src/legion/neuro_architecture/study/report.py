"""A study as plain values for pictures, pages and programs."""

from __future__ import annotations

import json
from typing import Any

from legion.foundation.settings import Settings
from legion.neuro_architecture.records import RunFolder
from legion.neuro_architecture.spec.standing import Standing
from legion.neuro_architecture.study.criteria import PREDICTED, Criteria
from legion.neuro_architecture.study.front import end_values, front_of, ranks_of
from legion.neuro_architecture.study.state import StudyState, TrialRecord

__all__ = ["study_record"]


def study_record(state: StudyState, settings: Settings) -> dict[str, Any]:
    """Everything that the pictures draw.

    Args:
        state: The study.
        settings: Of the study's own folder, where its trials lie.
    """
    recipe = state.recipe
    criteria = Criteria.of(recipe.objectives, recipe.constraints, recipe.weights)
    ranks = ranks_of(state, criteria)
    return {
        "name": recipe.name,
        "task": state.problem.get("task", recipe.task),
        "base": state.problem.get("base", {}).get("name", ""),
        "seed": recipe.seed,
        "state": {"searching": "running", "final": "running"}.get(state.phase, state.phase),
        "objectives": [
            {"name": each.name, "direction": each.direction, "unit": each.unit} for each in criteria.objectives
        ],
        "constraints": list(recipe.constraints),
        "reference_point": None if state.reference_point is None else list(state.reference_point),
        "rungs": [*recipe.scheduler.rungs, recipe.scheduler.steps],
        "trials": [_trial(trial, criteria, ranks, settings) for trial in state.trials.values()],
        "history": [
            {"trials": each.trials, "spent_s": each.spent_s, "hypervolume": each.hypervolume} for each in state.history
        ],
        "baseline": _baseline(state),
        "fidelity": [dict(each) for each in state.fidelity],
        "front": [trial.id for trial in front_of(state, criteria)],
        "final": [each.to_dict() for each in state.final],
        "notes": list(state.notes),
        "spent_s": state.spent_s,
        "search_s": state.search_s,
        "spent_flops": state.spent_flops,
    }


def _trial(trial: TrialRecord, criteria: Criteria, ranks: dict[str, int], settings: Settings) -> dict[str, Any]:
    run = RunFolder.of(settings, trial.id)
    standings = {look.steps: run.read_standing(look.steps) for look in trial.looks}
    values = end_values(trial)
    last = standings[trial.looks[-1].steps] if trial.looks else None
    return {
        "id": trial.id,
        "traits": dict(trial.traits),
        "generation": trial.generation,
        "origin": trial.origin,
        "state": trial.phase,
        "reason": trial.reason or (trial.looks[-1].reason if trial.looks else None),
        "is_exploratory": trial.is_exploratory,
        "rungs": [
            {
                "steps": look.steps,
                "values": dict(look.values),
                "errors": _errors(standings[look.steps]),
                "decision": look.decision,
                "reason": look.reason,
            }
            for look in trial.looks
        ],
        "values": values or None,
        "errors": _errors(last) if values else {},
        "violation": criteria.violation(values, is_final=True) if values else 0.0,
        "rank": ranks.get(trial.id),
        "spent_s": last.seconds if last is not None else 0.0,
        "curve": _curve(run),
    }


def _baseline(state: StudyState) -> dict[str, Any] | None:
    """The bare base: its metric measured on the test split, its costs predicted, as the trials' are."""
    if state.baseline is None:
        return None
    measured = {key: value for key, value in state.baseline["values"].items() if key not in PREDICTED}
    predicted = state.problem.get("predicted_base", {})
    return {
        "name": "bare base, test split",
        "values": measured | predicted,
        "errors": {key: error for key, error in state.baseline["errors"].items() if key in measured},
    }


def _errors(standing: Standing | None) -> dict[str, float]:
    """Standard error of the accuracy: predictions taken as independent."""
    if standing is None or not standing.hits:
        return {}
    share = standing.accuracy
    return {"accuracy": float((share * (1.0 - share) / len(standing.hits)) ** 0.5)}


def _curve(run: RunFolder) -> list[list[float]]:
    """Step, validation loss and metric of each look at the watched examples."""
    if not run.curve_path.is_file():
        return []
    rows = [json.loads(line) for line in run.curve_path.read_text(encoding="utf-8").splitlines() if line.endswith("}")]
    return [[row["step"], row["loss"], row["accuracy"]] for row in rows if row["kind"] == "validation"]
