"""The tables of a study's page: its front, and what was trained again from several seeds."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from html import escape

from legion.neuro_architecture.analysis.axes import Axis
from legion.neuro_architecture.analysis.study.record import Place, Study, Trait
from legion.neuro_architecture.analysis.study.wording import better
from legion.neuro_architecture.analysis.words import plain

__all__ = ["final_table", "front_table"]


def front_table(study: Study) -> str:
    """The trials of the front by the first objective, best first, below the bare base; every text escaped."""
    if not study.objectives:
        return "<p>The study names no objective.</p>"
    first = study.objectives[0]
    trials = [trial for trial in study.trained if trial.id in study.front]
    ranked = sorted(trials, key=lambda trial: -first.sign * _value(trial.place, first))
    if not ranked:
        return "<p>No fully trained trial is on the front yet.</p>"
    rows = [_row(study.baseline, study.objectives, "bare base", style="baseline")] if study.baseline else []
    rows += [_row(trial.place, study.objectives, _traits(trial.traits)) for trial in ranked if trial.place is not None]
    return _table(study.objectives, "traits", rows)


def final_table(study: Study) -> str:
    """What was trained again from several seeds."""
    if not study.finals:
        return "<p>No trial has been trained again from several seeds.</p>"
    rows = [_row(place, study.objectives, ", ".join(map(str, place.seeds)) or "none given") for place in study.finals]
    return _table(study.objectives, "seeds", rows)


def _value(place: Place | None, axis: Axis) -> float:
    found = place.values.get(axis.name) if place is not None else None
    return -axis.sign * float("inf") if found is None else found


def _table(objectives: Sequence[Axis], second: str, rows: Sequence[str]) -> str:
    head = f"<th>trial</th><th>{second}</th>"
    for axis in objectives:
        unit = f"{axis.unit}, {better(axis)}" if axis.unit else better(axis)
        head += f'<th class="number">{escape(axis.name)}<small>{escape(unit)}</small></th>'
    return f"<table><thead><tr>{head}</tr></thead><tbody>{''.join(rows)}</tbody></table>"


def _row(place: Place, objectives: Sequence[Axis], about: str, *, style: str = "") -> str:
    cells = "".join(f'<td class="number">{_number(place, axis)}</td>' for axis in objectives)
    start = f'<tr class="{style}">' if style else "<tr>"
    return f'{start}<td class="name"><code>{escape(place.id)}</code></td><td>{escape(about)}</td>{cells}</tr>'


def _number(place: Place, axis: Axis) -> str:
    value, error = place.values.get(axis.name), place.errors.get(axis.name)
    if value is None:
        return '<span class="absent" title="the record has no value">absent</span>'
    return plain(value) + (f" <small>± {error:.2g}</small>" if error is not None else "")


def _traits(traits: Mapping[str, Trait]) -> str:
    words = (f"{name} {plain(value) if isinstance(value, float) else value}" for name, value in traits.items())
    return ", ".join(words) or "none recorded"
