"""The record of a study as typed values, so that no picture has to ask what is missing."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, Literal

from legion.neuro_architecture.analysis.axes import Axis
from legion.neuro_architecture.analysis.study.cleaning import (
    mappings,
    number,
    number_or,
    numbers,
    shorten,
    text,
    whole_numbers,
)

__all__ = ["Place", "Role", "RungReport", "Study", "Trait", "Trial", "read_study"]

Role = Literal["on the front", "dominated", "breaks a constraint"]
Trait = str | float | bool
_UNITS: Final = ("_ms", "_mb", "_bytes", "_s")
_LONGEST_PART: Final = 40


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """Measured values of something that has a name, with standard errors where there are any."""

    id: str
    values: Mapping[str, float]
    errors: Mapping[str, float]
    seeds: tuple[int, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class RungReport:
    """What was decided on a trial at one rung; an empty decision means that none was made yet."""

    steps: int
    decision: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Trial:
    """One candidate of the study.

    Attributes:
        id: Its name.
        traits: Its place in the search space; traits that are not set are not in it.
        state: completed, stopped, paused, failed or skipped; anything else is under way.
        reports: Its rungs, each once, in order of steps.
        place: Its last values, or None before the last rung.
        is_infeasible: Whether it breaks a constraint.
        curve: Step, validation loss and metric.
    """

    id: str
    traits: Mapping[str, Trait]
    state: str
    reports: tuple[RungReport, ...]
    place: Place | None
    is_infeasible: bool
    curve: tuple[tuple[float, float | None, float | None], ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Study:
    """A study as the pictures read it; `raw` is the record that it came from."""

    name: str
    task: str
    base: str
    state: str
    objectives: tuple[Axis, ...]
    rungs: tuple[int, ...]
    trials: tuple[Trial, ...]
    baseline: Place | None
    front: frozenset[str]
    finals: tuple[Place, ...]
    raw: Mapping[str, Any]

    @property
    def trained(self) -> tuple[Trial, ...]:
        """The fully trained trials: completed, with values."""
        return tuple(trial for trial in self.trials if trial.state == "completed" and trial.place is not None)

    @property
    def about(self) -> str:
        """Task and base, for subtitles."""
        found = [shorten(part, _LONGEST_PART) for part in (self.task, self.base) if part]
        return ", ".join(found) or shorten(self.name, _LONGEST_PART) or "a study without a name"

    def role(self, trial: Trial) -> Role:
        """How a fully trained trial is drawn."""
        if trial.id in self.front:
            return "on the front"
        return "breaks a constraint" if trial.is_infeasible else "dominated"


def read_study(record: Mapping[str, Any]) -> Study:
    """The study of a record of which any list may be empty and any value None."""
    front = record.get("front")
    return Study(
        name=text(record.get("name")),
        task=text(record.get("task")),
        base=text(record.get("base")),
        state=text(record.get("state")),
        objectives=tuple(_objective(item) for item in mappings(record.get("objectives")) if item.get("name")),
        rungs=whole_numbers(record.get("rungs")),
        trials=tuple(_trial(item) for item in mappings(record.get("trials"))),
        baseline=_place(record.get("baseline"), "bare base"),
        front=frozenset(text(item) for item in front) if isinstance(front, list | tuple) else frozenset(),
        finals=tuple(filter(None, (_place(item, "unnamed") for item in mappings(record.get("final"))))),
        raw=record,
    )


def _objective(item: Mapping[str, Any]) -> Axis:
    name = text(item["name"])
    direction: Literal["maximise", "minimise"] = "minimise" if item.get("direction") == "minimise" else "maximise"
    words = next((name.removesuffix(unit) for unit in _UNITS if name.endswith(unit) and name != unit), name)
    title = words.replace("_", " ")
    return Axis(name, title[:1].upper() + title[1:], text(item.get("unit")), direction)


def _trial(item: Mapping[str, Any]) -> Trial:
    return Trial(
        id=text(item.get("id")) or "unnamed",
        traits=_traits(item.get("traits")),
        state=text(item.get("state")),
        reports=_reports(item.get("rungs")),
        place=_place(item, "unnamed"),
        is_infeasible=number_or(item.get("violation"), 0.0) > 0.0,
        curve=tuple(sorted(filter(None, map(_sample, item.get("curve") or ())), key=lambda sample: sample[0])),
    )


def _place(item: Any, default: str) -> Place | None:
    if not isinstance(item, Mapping) or not (values := numbers(item.get("values"))):
        return None
    name = text(item.get("id") or item.get("name")) or default
    return Place(id=name, values=values, errors=numbers(item.get("errors")), seeds=whole_numbers(item.get("seeds")))


def _traits(value: Any) -> dict[str, Trait]:
    found = value.items() if isinstance(value, Mapping) else ()
    return {text(name): trait for name, item in found if (trait := _trait(item)) is not None}


def _trait(value: Any) -> Trait | None:
    if value is None or isinstance(value, bool):
        return value
    return number(value) if isinstance(value, int | float) else text(value)


def _reports(value: Any) -> tuple[RungReport, ...]:
    """Of several reports of one rung, as after a pause, the last counts."""
    found = {
        int(steps): RungReport(steps=int(steps), decision=text(item.get("decision")))
        for item in mappings(value)
        if (steps := number(item.get("steps"))) is not None
    }
    return tuple(found[steps] for steps in sorted(found))


def _sample(value: Any) -> tuple[float, float | None, float | None] | None:
    if not isinstance(value, Sequence) or isinstance(value, str) or not value or number(value[0]) is None:
        return None
    loss, metric = (number(value[place]) if len(value) > place else None for place in (1, 2))
    return number_or(value[0], 0.0), loss, metric
