"""What a study says in words: where it begins, why it will not go on, what a reader of its front has to know."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from legion.foundation.errors import InvalidValueError, TrainingError
from legion.neuro_architecture.study.criteria import Criteria
from legion.neuro_architecture.study.front import completed, end_values, front_of
from legion.neuro_architecture.study.state import Moment, StudyState

__all__ = ["describe_generation", "describe_warm_start", "front_notes", "refuse_all_failed", "refuse_change"]

_LEAST_DIFFERENCE: Final = 1e-9


def describe_warm_start(earlier: dict[str, Any] | None) -> str:
    """Which earlier study the prior leans on."""
    if earlier is None:
        return "warm start: no earlier study of this workspace is like this one"
    return (
        f"warm start from study {earlier['study']}: likeness {earlier['likeness']:.2f}, "
        f"{len(earlier['good'])} good candidates"
    )


def describe_generation(state: StudyState, number: int, moment: Moment, criteria: Criteria) -> str:
    """What a generation brought."""
    volume = "–" if moment.hypervolume is None else f"{moment.hypervolume:.4f}"
    return (
        f"generation {number}: {len(state.trials)} trials, {len(completed(state, criteria))} to the end, "
        f"{len(moment.front)} on the front, hypervolume {volume}"
    )


def refuse_change(what: str, stored: Mapping[str, Any], asked: Mapping[str, Any], name: str) -> None:
    """Raises InvalidValueError, naming every key, where a study would go on as another."""
    changed = [key for key in {**stored, **asked} if stored.get(key) != asked.get(key)]
    if changed:
        lines = [f"{key}: was {stored.get(key)!r}, is {asked.get(key)!r}" for key in changed]
        raise InvalidValueError(
            f"study {name} was begun with another {what}",
            cause="\n".join(lines),
            hint="give the changed recipe another name; a study keeps the one it was begun with",
        )


def refuse_all_failed(state: StudyState, number: int) -> None:
    """Raises TrainingError where a generation has no trial left."""
    trials = [state.trials[name] for name in state.generations[number].trials]
    if trials and all(trial.phase == "failed" for trial in trials):
        raise TrainingError(
            f"all {len(trials)} trials of generation {number} failed",
            cause="\n".join(f"{trial.id}: {trial.reason}" for trial in trials[:5]),
            hint="narrow learning_rate in the recipe's [space]",
        )


def front_notes(state: StudyState, criteria: Criteria) -> tuple[str, ...]:
    """What a reader of the front has to know: why it is empty, that a metric tells nothing apart."""
    done = completed(state, criteria)
    found = [
        f"the warm start misled: after generation {number} it was dropped"
        for number, generation in enumerate(state.generations)
        if generation.is_warm_start_dropped
    ]
    if not done:
        phases = [trial.phase for trial in state.trials.values()]
        counted = ", ".join(f"{phases.count(phase)} {phase}" for phase in dict.fromkeys(phases)) or "no trial"
        found.append(
            f"the front is empty: no trial went to the end of its schedule ({counted}); give it a larger budget"
        )
        return tuple(found)
    if not front_of(state, criteria):
        nearest = min(done, key=lambda trial: criteria.violation(end_values(trial), is_final=True))
        bounds = ", ".join(map(str, criteria.constraints))
        found.append(
            f"the front is empty: none of {len(done)} trials satisfies {bounds}; the nearest is {nearest.id}, "
            + ", ".join(f"{name} {value:.4g}" for name, value in end_values(nearest).items())
        )
    for objective in criteria.objectives:
        column = [end_values(trial)[objective.name] for trial in done]
        if len(column) > 1 and max(column) - min(column) < _LEAST_DIFFERENCE:
            found.append(
                f"{objective.name} is {column[0]:.4g} for all {len(column)} trials that went to the end: it tells none "
                "apart, and the front is that of the other objectives"
            )
    return tuple(found)
