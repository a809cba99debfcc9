"""The axes of the parallel coordinates: one for each trait and objective that varies."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Final

from legion.neuro_architecture.analysis.axes import Axis
from legion.neuro_architecture.analysis.study.cleaning import shorten
from legion.neuro_architecture.analysis.study.record import Study, Trait, Trial
from legion.neuro_architecture.analysis.study.wording import better
from legion.neuro_architecture.analysis.words import plain

__all__ = ["String", "strings_of"]

_LOG_RATIO: Final = 8.0
_MOST_LEVELS: Final = 8
_NAME_LENGTH: Final = 17


@dataclass(frozen=True, slots=True, kw_only=True)
class String:
    """One axis.

    Attributes:
        name: Trait or objective.
        title: Its name, and for an objective which way is better, in lines.
        value: A trial's value, or None where it has none.
        place: Where a value lies, from 0 at the bottom to 1 at the top.
        ticks: Places with their words.
        is_stepped: Whether it has so few values that lines would hide each other.
    """

    name: str
    title: str
    value: Callable[[Trial], Trait | None]
    place: Callable[[Trait], float]
    ticks: tuple[tuple[float, str], ...]
    is_stepped: bool

    def words(self, value: Trait | None) -> str:
        """A value as it is read."""
        return "not set" if value is None else _words(value)


def strings_of(study: Study) -> list[String]:
    """Traits in the order of the record, then objectives; those that do not vary are left out."""
    names = list(dict.fromkeys(name for trial in study.trained for name in trial.traits))
    found = [_trait(study, name) for name in names] + [_objective(study, axis) for axis in study.objectives]
    return [string for string in found if string is not None]


def _trait(study: Study, name: str) -> String | None:
    values = [trial.traits.get(name) for trial in study.trained]
    present = [value for value in values if value is not None]
    if len(set(map(_words, present))) + (None in values) < 2:
        return None
    is_numeric = all(isinstance(value, float) for value in present)
    place, ticks = _numeric(present, sign=1) if is_numeric and len(set(present)) > 1 else _nominal(present)
    return String(
        name=name,
        title=shorten(name.replace("_", " "), _NAME_LENGTH),
        value=lambda trial: trial.traits.get(name),
        place=place,
        ticks=ticks,
        is_stepped=not is_numeric or len(set(present)) <= _MOST_LEVELS,
    )


def _objective(study: Study, axis: Axis) -> String | None:
    def value(trial: Trial) -> Trait | None:
        return trial.place.values.get(axis.name) if trial.place is not None else None

    present = [found for trial in study.trained if (found := value(trial)) is not None]
    if len(set(present)) < 2:
        return None
    place, ticks = _numeric(present, sign=axis.sign)
    title = f"{shorten(axis.title, _NAME_LENGTH)}\n{better(axis)}"
    return String(name=axis.name, title=title, value=value, place=place, ticks=ticks, is_stepped=False)


def _numeric(values: Sequence[Trait], *, sign: int) -> tuple[Callable[[Trait], float], tuple[tuple[float, str], ...]]:
    """Linear, or by logarithm where all are positive and far apart; a sign of -1 puts the least on top."""
    found = sorted({float(value) for value in values})
    is_log = found[0] > 0.0 and found[-1] / found[0] >= _LOG_RATIO

    def scale(value: Trait) -> float:
        return math.log(float(value)) if is_log else float(value)

    low, high = scale(found[0]), scale(found[-1])

    def place(value: Trait) -> float:
        share = (scale(value) - low) / (high - low)
        return share if sign > 0 else 1.0 - share

    shown = (
        found
        if len(found) <= _MOST_LEVELS and _are_apart([place(value) for value in found])
        else found[:: len(found) - 1]
    )
    return place, tuple((place(value), _words(value)) for value in shown)


def _are_apart(places: Sequence[float]) -> bool:
    ordered = sorted(places)
    return all(above - below > 0.045 for below, above in pairwise(ordered))


def _nominal(values: Sequence[Trait]) -> tuple[Callable[[Trait], float], tuple[tuple[float, str], ...]]:
    names = sorted({_words(value) for value in values})
    step = 1.0 / max(1, len(names) - 1)
    places = {name: (index * step if len(names) > 1 else 0.5) for index, name in enumerate(names)}
    every = math.ceil(len(names) / (2 * _MOST_LEVELS))
    ticks = tuple((places[name], shorten(name, 13)) for name in names[::every])
    return lambda value: places[_words(value)], ticks


def _words(value: Trait) -> str:
    return plain(value) if isinstance(value, float) else str(value)
