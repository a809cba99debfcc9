"""Parallel coordinates: what the trials of the front have in common."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from legion.neuro_architecture.analysis.study.record import Study, Trial, read_study
from legion.neuro_architecture.analysis.study.strings import String, strings_of
from legion.neuro_architecture.analysis.study.theme import INK, LINE, PAPER, ROLES, empty_picture, picture
from legion.neuro_architecture.analysis.study.wording import count, why_none_trained

__all__ = ["parallel_picture"]

_TITLE: Final = "Traits and objectives of every fully trained trial"
_UNSET: Final = -0.13
_WIDTH: Final = 1000.0
_NARROWEST, _WIDEST = 86.0, 130.0
_SPREAD: Final = 0.05


def parallel_picture(record: Mapping[str, Any]) -> dict[str, Any]:
    """A line for each fully trained trial through its traits and objectives, the front highlighted.

    Objectives are turned so that better is up. Traits that all trials share are left out; a trait that a trial does not
    have is drawn below the axes. Among equal values lines are spread a little, so that none hides another.
    """
    study = read_study(record)
    if not study.trained:
        return empty_picture(_TITLE, [study.about], why_none_trained(study))
    strings = strings_of(study)
    if len(strings) < 2:
        trained = count(len(study.trained), "fully trained trial")
        reason = f"fewer than two traits and objectives vary among {trained}"
        return empty_picture(_TITLE, [study.about], reason)
    subtitle = [
        f"{study.about}; {count(len(study.trained), 'trial')}, objectives turned so that better is up",
        "Traits that all trials share are left out.",
    ]
    return picture(_TITLE, subtitle, _layers(study, strings))


def _layers(study: Study, strings: list[String]) -> dict[str, Any]:
    rows = [row for place, trial in enumerate(study.trained) for row in _rows(study, strings, trial, place)]
    is_gappy = any(row["is_unset"] for row in rows)
    posts = [{"x": x, "low": 0.0, "high": 1.0} for x in range(len(strings))]
    titles = [{"x": x, "y": 1.12, "text": string.title} for x, string in enumerate(strings)]
    ticks = [{"x": x, "y": place, "text": words} for x, string in enumerate(strings) for place, words in string.ticks]
    ticks += [{"x": 0, "y": _UNSET, "text": "not set"}] if is_gappy else []
    low = _UNSET - 0.07 if is_gappy else -0.07
    position = {
        "x": {
            "field": "x",
            "type": "quantitative",
            "axis": None,
            "scale": {"domain": [-0.5, len(strings) - 0.4], "nice": False},
        },
        "y": {"field": "y", "type": "quantitative", "axis": None, "scale": {"domain": [low, 1.16], "nice": False}},
    }
    roles = [role for role in ROLES if any(row["role"] == role for row in rows)]
    return {
        "width": round(len(strings) * min(_WIDEST, max(_NARROWEST, _WIDTH / len(strings)))),
        "height": 380,
        "encoding": position,
        "layer": [
            _posts(posts),
            *(_lines([row for row in rows if row["role"] == role], role, roles) for role in reversed(roles)),
            _ticks(ticks),
            _titles(titles),
        ],
    }


def _rows(study: Study, strings: list[String], trial: Trial, place: int) -> list[dict[str, Any]]:
    """The corners of one trial's line."""
    last = max(1, len(study.trained) - 1)
    found = []
    for x, string in enumerate(strings):
        value = string.value(trial)
        y = _UNSET if value is None else string.place(value)
        if value is None or string.is_stepped:
            y += _SPREAD * (place / last - 0.5)
        row = {"line": f"{place} {trial.id}", "id": trial.id, "role": study.role(trial), "x": x, "y": y}
        found.append(row | {"axis": string.name, "value": string.words(value), "is_unset": value is None})
    return found


def _posts(posts: list[dict[str, Any]]) -> dict[str, Any]:
    ends = {"y": {"field": "low"}, "y2": {"field": "high"}}
    return {"data": {"values": posts}, "mark": {"type": "rule", "color": LINE}, "encoding": ends}


def _lines(rows: list[dict[str, Any]], role: str, roles: list[str]) -> dict[str, Any]:
    is_front = role == "on the front"
    mark = {"type": "line", "strokeWidth": 2.2 if is_front else 1.1, "opacity": 0.95 if is_front else 0.55}
    color = {
        "field": "role",
        "type": "nominal",
        "title": None,
        "scale": {"domain": roles, "range": [ROLES[name] for name in roles]},
        "legend": {"symbolType": "stroke", "symbolStrokeWidth": 3},
    }
    return {
        "data": {"values": rows},
        "mark": mark,
        "encoding": {
            "color": color,
            "detail": {"field": "line", "type": "nominal"},
            "order": {"field": "x"},
            "tooltip": [{"field": name} for name in ("id", "axis", "value")],
        },
    }


def _ticks(rows: list[dict[str, Any]]) -> dict[str, Any]:
    """Values beside the axes, on a rim of paper so that lines do not cross out the words."""
    mark = {"type": "text", "align": "right", "baseline": "middle", "dx": -7, "fontSize": 11}
    text = {"text": {"field": "text", "type": "nominal"}}
    rim = {"mark": mark | {"stroke": PAPER, "strokeWidth": 4, "color": PAPER}, "encoding": text}
    return {"data": {"values": rows}, "layer": [rim, {"mark": mark | {"color": INK}, "encoding": text}]}


def _titles(rows: list[dict[str, Any]]) -> dict[str, Any]:
    mark = {"type": "text", "baseline": "middle", "fontSize": 11.5, "lineHeight": 14, "color": INK, "lineBreak": "\n"}
    text = {"text": {"field": "text", "type": "nominal"}}
    return {"data": {"values": rows}, "mark": mark, "encoding": text}
