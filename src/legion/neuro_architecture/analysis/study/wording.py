"""The sentences that the pictures share: axis titles, counts, and why nothing is there yet."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from legion.neuro_architecture.analysis.axes import Axis
from legion.neuro_architecture.analysis.study.cleaning import shorten
from legion.neuro_architecture.analysis.study.record import Study, Trial

__all__ = ["axis_label", "better", "count", "short_names", "why_none_trained"]

_SHORTEST_SUFFIX = 4
_LONGEST_NAME = 28


def better(axis: Axis) -> str:
    """Which way an objective is better, in words."""
    return "higher is better" if axis.direction == "maximise" else "lower is better"


def axis_label(axis: Axis, *, is_horizontal: bool) -> str:
    """Title, unit and direction, as `Latency (ms), lower is better ←`."""
    is_more = axis.direction == "maximise"
    arrow = ("→" if is_more else "←") if is_horizontal else ("↑" if is_more else "↓")
    unit = f" ({shorten(axis.unit, 24)})" if axis.unit else ""
    return f"{shorten(axis.title, 40)}{unit}, {better(axis)} {arrow}"


def count(number: int, noun: str) -> str:
    """The number with its noun: `1 trial`, `2 trials`."""
    return f"{number} {noun}" + ("" if number == 1 else "s")


def short_names(ids: Sequence[str]) -> dict[str, str]:
    """Each id with its hash cut as short as all stay distinct, and no longer than fits beside a point."""
    distinct = sorted(set(ids))
    for length in range(_SHORTEST_SUFFIX, max(map(len, distinct), default=0)):
        names = {name: _cut(name, length) for name in distinct}
        if len(set(names.values())) == len(distinct):
            return {name: shorten(cut, _LONGEST_NAME) for name, cut in names.items()}
    return {name: shorten(name, _LONGEST_NAME) for name in distinct}


def _cut(name: str, length: int) -> str:
    prefix, dash, suffix = name.rpartition("-")
    return prefix + dash + suffix[:length]


def why_none_trained(study: Study) -> str:
    """Why the study has no fully trained trial: how far its trials are."""
    if not study.trials:
        return "no trial has been started yet"
    places = Counter(_whereabouts(study, trial) for trial in study.trials)
    parts = [f"{number} {_agree(words, number)}" for words, number in places.most_common()]
    return f"no trial has reached the last rung yet: {', '.join(parts)}"


def _whereabouts(study: Study, trial: Trial) -> str:
    if trial.state in {"failed", "skipped"}:
        return "failed" if trial.state == "failed" else "were skipped"
    if trial.state == "completed":
        return "are completed but have no values"
    reached = trial.reports[-1].steps if trial.reports else 0
    if not reached:
        return "have no report yet"
    verb = "were stopped" if trial.state == "stopped" else "are"
    return f"{verb} at {reached} of {study.rungs[-1]} steps" if study.rungs else f"{verb} at {reached} steps"


def _agree(words: str, number: int) -> str:
    if number != 1:
        return words
    for many, one in (("are ", "is "), ("were ", "was "), ("have ", "has ")):
        if words.startswith(many):
            return (one + words.removeprefix(many)).replace(" have ", " has ")
    return words
