"""The hypervolume as the search went on: against trials, and against what they cost."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

from legion.neuro_architecture.analysis.study.cleaning import mappings, number, shorten
from legion.neuro_architecture.analysis.study.record import Study, read_study
from legion.neuro_architecture.analysis.study.theme import ACCENT, empty_picture, picture
from legion.neuro_architecture.analysis.study.wording import why_none_trained
from legion.neuro_architecture.analysis.words import plain

__all__ = ["hypervolume_picture"]

_TITLE: Final = "Hypervolume as the search went on"
_PANELS: Final = (("trials", "Trials"), ("spent_s", "Time spent on trials (s)"))
_SIDE: Final = 330


def hypervolume_picture(record: Mapping[str, Any]) -> dict[str, Any]:
    """How much of the space the front dominated after each trial, in two panels: against trials and against seconds."""
    study = read_study(record)
    rows = [_row(item) for item in mappings(record.get("history"))]
    rows = [row for row in rows if row["hypervolume"] is not None]
    shown = [panel for panel in _PANELS if any(row[panel[0]] is not None for row in rows)]
    if not shown:
        return empty_picture(_TITLE, [study.about], _why_empty(study))
    panels = [_panel(rows, field, title, is_first=not place) for place, (field, title) in enumerate(shown)]
    return picture(_TITLE, _subtitle(study), {"hconcat": panels, "spacing": 36, "resolve": {"scale": {"y": "shared"}}})


def _row(item: Mapping[str, Any]) -> dict[str, float | None]:
    return {name: number(item.get(name)) for name in ("trials", "spent_s", "hypervolume")}


def _why_empty(study: Study) -> str:
    if not study.trained:
        return why_none_trained(study)
    if study.raw.get("reference_point") is None:
        return "the study has no reference point to measure hypervolume from"
    return "the study has kept no history of its hypervolume"


def _subtitle(study: Study) -> list[str]:
    point = study.raw.get("reference_point")
    found = [number(value) for value in point] if isinstance(point, list | tuple) else []
    places = [
        f"{shorten(axis.name, 24)} {plain(value)}"
        for axis, value in zip(study.objectives, found, strict=False)
        if value is not None
    ]
    behind = f"reference point: {', '.join(places)}" if places else "the record has no reference point"
    return [f"{study.about}; higher is better ↑", behind]


def _panel(rows: Sequence[Mapping[str, Any]], field: str, title: str, *, is_first: bool) -> dict[str, Any]:
    found = sorted((row for row in rows if row[field] is not None), key=lambda row: row[field])
    y_title = "Hypervolume, higher is better ↑" if is_first else None
    return {
        "width": _SIDE,
        "height": 260,
        "data": {"values": found},
        "mark": {
            "type": "line",
            "interpolate": "step-after",
            "color": ACCENT,
            "strokeWidth": 2,
            "point": {"color": ACCENT, "size": 22},
        },
        "encoding": {
            "x": {"field": field, "type": "quantitative", "title": title, "axis": {"tickCount": 6}},
            "y": {"field": "hypervolume", "type": "quantitative", "title": y_title},
            "tooltip": [{"field": name} for name in ("trials", "spent_s", "hypervolume")],
        },
    }
