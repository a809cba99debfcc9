"""The rungs: how many trials came to each, and what became of them there."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from itertools import accumulate
from typing import Any, Final

from legion.neuro_architecture.analysis.study.record import Study, Trial, read_study
from legion.neuro_architecture.analysis.study.theme import ACCENT, INK, PAPER, WARNING, empty_picture, picture
from legion.neuro_architecture.analysis.study.wording import count

__all__ = ["rungs_picture"]

_TITLE: Final = "What became of the trials at each rung"
_FATES: Final = {
    "continued": ACCENT,
    "finished": "#00805f",
    "paused": "#d9a400",
    "stopped": "#6b7589",
    "failed": WARNING,
    "under way": "#b9d4e6",
}
_LIGHT: Final = frozenset({"paused", "under way"})  # too light for white numbers
_DECISIONS: Final = {"continue": "continued", "pause": "paused", "stop": "stopped", "end": "finished"}


def rungs_picture(record: Mapping[str, Any]) -> dict[str, Any]:
    """For each rung a bar of the trials that entered it, by what followed: continued, paused, stopped, failed.

    A trial enters the first rung when it starts, and a later one when it was continued at the one before; one that
    failed counts at the rung that it did not reach.
    """
    study = read_study(record)
    started = [trial for trial in study.trials if trial.state != "skipped"]
    steps = study.rungs or tuple(sorted({report.steps for trial in started for report in trial.reports}))
    if not started or not steps:
        return empty_picture(_TITLE, [study.about], _why_empty(study, started))
    counted: Counter[tuple[int, str]] = Counter()
    for trial in started:
        counted.update(_fates(trial, steps))
    skipped = len(study.trials) - len(started)
    subtitle = f"{study.about}; {count(len(started), 'trial')} started" + (f", {skipped} skipped" if skipped else "")
    return picture(_TITLE, [subtitle], _layers(steps, counted))


def _why_empty(study: Study, started: list[Trial]) -> str:
    if not study.trials:
        return "no trial has been started yet"
    if not started:
        return "every trial was skipped"
    return "the study has no rungs: every trial is trained to its end"


def _fates(trial: Trial, steps: tuple[int, ...]) -> list[tuple[int, str]]:
    """What became of a trial at each rung that it entered."""
    reports = {report.steps: report.decision for report in trial.reports}
    furthest = max(reports, default=0)
    found = []
    for rung in steps:
        fate = "continued" if rung < furthest else _DECISIONS.get(reports.get(rung, ""), "")
        if not fate:
            fate = _without_decision(trial, is_last=rung == steps[-1], is_reached=rung in reports)
        if fate == "continued" and rung == steps[-1]:
            fate = "finished"
        found.append((rung, fate))
        if fate != "continued":
            break
    return found


def _without_decision(trial: Trial, *, is_last: bool, is_reached: bool) -> str:
    if trial.state == "completed":
        return "finished" if is_last or not is_reached else "continued"
    return trial.state if trial.state in {"paused", "stopped", "failed"} else "under way"


def _layers(steps: tuple[int, ...], counted: Counter[tuple[int, str]]) -> dict[str, Any]:
    rows, totals = [], []
    for rung in steps:
        numbers = [counted[rung, fate] for fate in _FATES]
        ends = list(accumulate(numbers))
        for fate, number, end in zip(_FATES, numbers, ends, strict=True):
            if number:
                row = {"rung": f"{rung} steps", "fate": fate, "count": number, "start": end - number, "end": end}
                rows.append(row | {"middle": end - number / 2})
        totals.append({"rung": f"{rung} steps", "entered": ends[-1], "text": f"{ends[-1]} entered"})
    y = {
        "field": "rung",
        "type": "nominal",
        "title": None,
        "sort": [f"{rung} steps" for rung in steps],
        "axis": {"ticks": False, "domain": False, "labelColor": INK, "labelPadding": 8},
        "scale": {"paddingInner": 0.35, "paddingOuter": 0.2},
    }
    return {
        "width": 600,
        "height": 64 * len(steps),
        "encoding": {"y": y},
        "layer": [
            _bars(rows),
            _numbers([row for row in rows if row["fate"] in _LIGHT], INK),
            _numbers([row for row in rows if row["fate"] not in _LIGHT], PAPER),
            _totals(totals),
        ],
    }


def _bars(rows: list[dict[str, Any]]) -> dict[str, Any]:
    fates = [fate for fate in _FATES if any(row["fate"] == fate for row in rows)]
    scale = {"domain": fates, "range": [_FATES[fate] for fate in fates]}
    return {
        "data": {"values": rows},
        "mark": {"type": "bar", "stroke": PAPER, "strokeWidth": 1.5},
        "encoding": {
            "x": {
                "field": "start",
                "type": "quantitative",
                "title": "Trials",
                "axis": {"tickCount": 8, "tickMinStep": 1, "format": "d", "grid": False},
            },
            "x2": {"field": "end"},
            "color": {"field": "fate", "type": "nominal", "title": None, "scale": scale},
            "tooltip": [{"field": name} for name in ("rung", "fate", "count")],
        },
    }


def _numbers(rows: list[dict[str, Any]], ink: str) -> dict[str, Any]:
    return {
        "data": {"values": rows},
        "mark": {"type": "text", "fontSize": 12, "baseline": "middle", "color": ink},
        "encoding": {
            "x": {"field": "middle", "type": "quantitative"},
            "text": {"field": "count", "type": "quantitative"},
        },
    }


def _totals(totals: list[dict[str, Any]]) -> dict[str, Any]:
    return {
        "data": {"values": totals},
        "mark": {"type": "text", "align": "left", "baseline": "middle", "dx": 8, "fontSize": 12, "color": INK},
        "encoding": {
            "x": {"field": "entered", "type": "quantitative"},
            "text": {"field": "text", "type": "nominal"},
        },
    }
