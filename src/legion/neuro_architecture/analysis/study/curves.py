"""Learning curves: how each trial learned, and which were stopped on the way."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final, Literal

from legion.neuro_architecture.analysis.study.record import Study, Trial, read_study
from legion.neuro_architecture.analysis.study.theme import ACCENT, LINE, MUTED, WARNING, empty_picture, picture
from legion.neuro_architecture.analysis.study.wording import count

__all__ = ["curves_picture"]

Quantity = Literal["loss", "metric"]
_TITLE: Final = "Learning curves"
_FATES: Final = {
    "stopped": "#b3bac6",
    "failed": WARNING,
    "under way or paused": "#d9a400",
    "completed": "#86b3d3",
    "on the front": ACCENT,
}
"""Colour of each fate, the ones to be drawn on top last."""
_TITLES: Final[dict[Quantity, str]] = {
    "loss": "Validation loss, lower is better ↓",
    "metric": "Validation metric, higher is better ↑",
}


def curves_picture(record: Mapping[str, Any], quantity: Quantity | None = None) -> dict[str, Any]:
    """Validation loss or metric of every trial by step, the stopped ones grey, the front coloured.

    Args:
        record: A study's record.
        quantity: `loss` or `metric`; where None, the loss if any trial has one.
    """
    study = read_study(record)
    has_loss = any(loss is not None for trial in study.trials for _, loss, _ in trial.curve)
    chosen: Quantity = quantity or ("loss" if has_loss or not _has_metric(study) else "metric")
    rows = [row for trial in study.trials for row in _rows(trial, study, chosen)]
    if not rows:
        return empty_picture(_TITLE, [study.about], _why_empty(study, chosen))
    num_curves = len({row["curve"] for row in rows})
    return picture(_TITLE, [f"{study.about}; {count(num_curves, 'trial')}"], _layers(study, rows, chosen))


def _has_metric(study: Study) -> bool:
    return any(metric is not None for trial in study.trials for _, _, metric in trial.curve)


def _why_empty(study: Study, quantity: Quantity) -> str:
    if not study.trials:
        return "no trial has been started yet"
    return f"none of {count(len(study.trials), 'trial')} has kept a validation {quantity}"


def _fate(trial: Trial, study: Study) -> str:
    if trial.id in study.front:
        return "on the front"
    return trial.state if trial.state in {"stopped", "failed", "completed"} else "under way or paused"


def _rows(trial: Trial, study: Study, quantity: Quantity) -> list[dict[str, Any]]:
    fate, place = _fate(trial, study), 1 if quantity == "loss" else 2
    order = list(_FATES).index(fate)
    return [
        {"curve": f"{order} {trial.id}", "id": trial.id, "fate": fate, "step": sample[0], "value": sample[place]}
        for sample in trial.curve
        if sample[place] is not None
    ]


def _layers(study: Study, rows: list[dict[str, Any]], quantity: Quantity) -> dict[str, Any]:
    fates = [fate for fate in _FATES if any(row["fate"] == fate for row in rows)]
    lengths: dict[str, int] = {}
    for row in rows:
        lengths[row["curve"]] = lengths.get(row["curve"], 0) + 1
    color = {
        "field": "fate",
        "type": "nominal",
        "title": None,
        "scale": {"domain": fates[::-1], "range": [_FATES[fate] for fate in fates[::-1]]},
        "legend": {"symbolType": "stroke", "symbolStrokeWidth": 3},
    }
    encoding = {
        "x": {"field": "step", "type": "quantitative", "title": "Training step", "scale": {"nice": False}},
        "y": {"field": "value", "type": "quantitative", "title": _TITLES[quantity], "scale": {"zero": False}},
    }
    tip = [{"field": name} for name in ("id", "fate", "step", "value")]
    layers = [
        _rungs(study),
        *(_lines([row for row in rows if row["fate"] == fate], fate, color, tip) for fate in fates),
        {
            "data": {"values": [row for row in rows if lengths[row["curve"]] == 1]},
            "mark": {"type": "point", "filled": True, "size": 26, "opacity": 1},
            "encoding": encoding | {"color": color, "tooltip": tip},
        },
    ]
    layers[1:-1] = [layer | {"encoding": encoding | layer["encoding"]} for layer in layers[1:-1]]
    return {"width": 680, "height": 380, "layer": layers}


def _lines(
    rows: list[dict[str, Any]], fate: str, color: Mapping[str, Any], tip: list[dict[str, Any]]
) -> dict[str, Any]:
    width = 2.4 if fate == "on the front" else 1.2
    return {
        "data": {"values": rows},
        "mark": {"type": "line", "strokeWidth": width, "opacity": 1 if fate == "on the front" else 0.8},
        "encoding": {"color": color, "detail": {"field": "curve", "type": "nominal"}, "tooltip": tip},
    }


def _rungs(study: Study) -> dict[str, Any]:
    """A line and a word at each rung."""
    rows = [{"rung": steps, "text": f"rung {steps}"} for steps in study.rungs]
    x = {"field": "rung", "type": "quantitative", "title": "Training step"}
    name = {"type": "text", "align": "right", "baseline": "top", "dx": -4, "fontSize": 11, "color": MUTED}
    return {
        "data": {"values": rows},
        "layer": [
            {"mark": {"type": "rule", "color": LINE, "strokeDash": [4, 4]}, "encoding": {"x": x}},
            {"mark": name | {"y": 2}, "encoding": {"x": x, "text": {"field": "text", "type": "nominal"}}},
        ],
    }
