"""A study in words and tables."""

from __future__ import annotations

from typing import TYPE_CHECKING

from legion.cli.output import number, table
from legion.cli.progress import duration

if TYPE_CHECKING:
    from legion.neuro_architecture.study import StudyState

__all__ = ["describe_study", "volume_of"]


def volume_of(state: StudyState) -> str:
    """The hypervolume of the front as it stands."""
    volume = state.history[-1].hypervolume if state.history else None
    return "–" if volume is None else f"{volume:.4f}"


def describe_study(state: StudyState) -> str:
    """A study for a person: its front, its rungs, its proxies."""
    from legion.neuro_architecture.study.criteria import Criteria
    from legion.neuro_architecture.study.front import end_values, front_of

    recipe = state.recipe
    criteria = Criteria.of(recipe.objectives, recipe.constraints, recipe.weights)
    front = front_of(state, criteria)
    phases = [trial.phase for trial in state.trials.values()]
    counted = ", ".join(f"{phases.count(phase)} {phase}" for phase in dict.fromkeys(phases))
    size = state.problem["space_size"]
    lines = [
        f"study {recipe.name}: {state.phase}, {len(phases)} trials of {size:,} candidates, {duration(state.spent_s)}",
        f"  {counted or 'none'}; the search itself took {state.search_s:.2f} s{_share(state)}",
        "",
        "Front, on the validation split, the most preferred first",
        table(
            ["proposal", "architecture", *criteria.names],
            [
                [
                    trial.id,
                    " ".join(str(value) for key, value in trial.traits.items() if key != "strategy"),
                    *(number(end_values(trial)[name], 4) for name in criteria.names),
                ]
                for trial in front
            ],
        ),
    ]
    lines += ["", *state.notes] if state.notes else []
    if state.final:
        count = len(state.final[0].seeds)
        seeds = "1 seed" if count == 1 else f"{count} seeds"
        lines += ["", f"Trained anew with {seeds}, on the test split", _final_table(state)]
    lines += ["", "How far the cheap looks told the end"]
    for each in state.fidelity:
        shown = each["reason"] or (
            f"tau {each['tau']:.2f} ({each['low']:.2f} to {each['high']:.2f}), "
            f"recall of the best tenth {each['recall_top_tenth']:.2f}, {each['n']} trials"
        )
        lines.append(f"  {each['cheap']}: {shown}")
    return "\n".join(lines)


def _share(state: StudyState) -> str:
    return f", {state.search_s / state.spent_s:.1%} of it" if state.spent_s else ""


def _final_table(state: StudyState) -> str:
    names = [name for name in state.recipe.objectives if all(name in each.values for each in state.final)]
    rows = [
        [each.id, *(f"{each.values[name]:.4g} ± {each.errors.get(name, 0.0):.2g}" for name in names)]
        for each in state.final
    ]
    if state.baseline:
        values, errors = state.baseline["values"], state.baseline["errors"]
        rows.append(
            [
                "bare base",
                *(f"{values[name]:.4g} ± {errors.get(name, 0.0):.2g}" if name in values else "–" for name in names),
            ]
        )
    return table(["proposal", *names], rows)
