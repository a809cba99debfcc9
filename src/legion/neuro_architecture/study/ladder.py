"""The ladder of looks at a trial, cheap to dear, and what each was worth."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from dataclasses import asdict
from typing import Any, Final

from legion.foundation.settings import Settings
from legion.neuro_architecture.records import RunFolder
from legion.neuro_architecture.scheduler import Fidelity, measure_fidelity
from legion.neuro_architecture.study.ridge import block_of
from legion.neuro_architecture.study.state import StudyState, TrialRecord

__all__ = ["gradient_energy", "measure_ladder", "next_factor"]

_START: Final = "gradient energy at the start"
_RIDGE: Final = "ridge head on the states that enter the adapter"
_LEAST_TRIALS: Final = 8
_TRUSTED_TAU: Final = 0.5
_LEAST_FACTOR: Final = 1.5


def measure_ladder(state: StudyState, settings: Settings) -> tuple[dict[str, Any], ...]:
    """How well each cheap look ranked the trials that went to the end, beside their expected accuracy there.

    Only trials that had both looks count, so a rung is judged on those that it let pass and on exploratory ones.
    """
    scheduler = state.recipe.scheduler
    ended = [trial for trial in state.trials.values() if trial.phase == "completed"]
    dear = f"{scheduler.steps} steps"
    errors = {trial.id: -trial.looks[-1].expected_accuracy for trial in ended}
    ridge = state.problem.get("ridge_accuracies") or []
    pairs = [(-ridge[block_of(trial.traits.get("layers", "all"))], errors[trial.id]) for trial in ended if ridge]
    found = [
        measure_fidelity(_START, dear, _start_pairs(ended, errors, settings)),
        measure_fidelity(_RIDGE, dear, pairs),
    ]
    for rung in scheduler.rungs:
        looks = [(look, errors[trial.id]) for trial in ended if (look := trial.look_at(rung)) is not None]
        pairs = [(-look.expected_accuracy, error) for look, error in looks]
        found.append(measure_fidelity(f"{rung} steps", dear, pairs))
    return tuple(_plain(each) for each in found)


def next_factor(state: StudyState) -> float:
    """One in so many goes on at the next generation's rungs: the recipe's factor, and its root for each rung that was
    found, on eight trials at least, to rank below a tau of 0.5.
    """
    factor = state.recipe.scheduler.factor
    for each in state.fidelity:
        if each["cheap"] not in {_START, _RIDGE} and each["n"] >= _LEAST_TRIALS and each["tau"] is not None:
            factor = math.sqrt(factor) if each["tau"] < _TRUSTED_TAU else factor
    return max(_LEAST_FACTOR, factor) if state.recipe.scheduler.factor >= _LEAST_FACTOR else factor


def gradient_energy(run: RunFolder) -> float | None:
    """Squared norm of the first step's gradients over all trainable weights, before clipping; None where the curve has
    no step. A gradient that vanishes at the start cannot move its adapter.
    """
    if not run.curve_path.is_file():
        return None
    with run.curve_path.open(encoding="utf-8") as file:
        for line in file:
            row = json.loads(line)
            if row.get("gradient_norm") is not None:
                return float(row["gradient_norm"]) ** 2
    return None


def _start_pairs(
    trials: Sequence[TrialRecord], errors: dict[str, float], settings: Settings
) -> list[tuple[float, float]]:
    energies = {trial.id: gradient_energy(RunFolder.of(settings, trial.id)) for trial in trials}
    return [(-energy, errors[name]) for name, energy in energies.items() if energy is not None]


def _plain(fidelity: Fidelity) -> dict[str, Any]:
    found = asdict(fidelity)
    return found | {"pairs": [list(pair) for pair in fidelity.pairs]}
