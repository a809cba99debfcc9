"""The front: every fully trained trial on two objectives, beside the bare base."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

from legion.foundation.errors import UnknownNameError
from legion.neuro_architecture.analysis.axes import Axis
from legion.neuro_architecture.analysis.study.plane import Plane
from legion.neuro_architecture.analysis.study.record import Place, Study, Trial, read_study
from legion.neuro_architecture.analysis.study.theme import BAR, INK, LINE, MUTED, PAPER, ROLES, empty_picture, picture
from legion.neuro_architecture.analysis.study.wording import axis_label, count, why_none_trained
from legion.neuro_architecture.spec.dominance import non_domination_ranks

__all__ = ["front_picture"]

Rows = list[dict[str, Any]]
_SHAPES: Final = ("circle", "square", "triangle-up", "diamond", "triangle-down", "cross")
_SALTIRE: Final = "M-0.6,-0.6L0.6,0.6M-0.6,0.6L0.6,-0.6"
_TIP: Final = ("id", "strategy", "role", "x", "x_error", "y", "y_error")


def front_picture(record: Mapping[str, Any], x: str | None = None, y: str | None = None) -> dict[str, Any]:
    """Every fully trained trial on two objectives, with bars of one standard error.

    Colour says whether a trial is on the front over all objectives; the staircase joins those that keep the constraints
    and are non-dominated on these two alone: all below and behind it is certainly attained.

    Args:
        record: A study's record.
        x: Objective on the horizontal axis, the second where None.
        y: Objective on the vertical axis, the first where None.

    Raises:
        UnknownNameError: the study has no such objective.
    """
    study = read_study(record)
    if len(study.objectives) < 2:
        named = count(len(study.objectives), "objective")
        return empty_picture("Front", [study.about], f"a plane needs two objectives, and the study has {named}")
    axes = (_find(study, x, study.objectives[1]), _find(study, y, study.objectives[0]))
    title = f"{axes[1].title} and {axes[0].title[:1].lower()}{axes[0].title[1:]}"
    trials = [trial for trial in study.trained if _is_placed(trial.place, axes)]
    if not trials:
        return empty_picture(title, [study.about], _why_empty(study, axes))
    rows = [_row(trial, study, axes) for trial in trials]
    return picture(title, _subtitle(study, len(trials)), _layers(study, rows, axes))


def _find(study: Study, name: str | None, default: Axis) -> Axis:
    if name is None:
        return default
    for axis in study.objectives:
        if axis.name == name:
            return axis
    raise UnknownNameError.of("objective", name, [axis.name for axis in study.objectives])


def _is_placed(place: Place | None, axes: Sequence[Axis]) -> bool:
    return place is not None and all(axis.name in place.values for axis in axes)


def _why_empty(study: Study, axes: Sequence[Axis]) -> str:
    if not study.trained:
        return why_none_trained(study)
    return f"none of {count(len(study.trained), 'fully trained trial')} has both {axes[1].name} and {axes[0].name}"


def _subtitle(study: Study, num_shown: int) -> list[str]:
    missing = len(study.trained) - num_shown
    left_out = f"; {count(missing, 'trial')} left out for want of a value" if missing else ""
    return [
        f"{study.about}; {count(num_shown, 'fully trained trial')}, bars are one standard error{left_out}",
        "The staircase joins the best trade-offs on these two axes.",
    ]


def _row(trial: Trial, study: Study, axes: Sequence[Axis]) -> dict[str, Any]:
    assert trial.place is not None  # noqa: S101 - only placed trials come here
    strategy = trial.traits.get("strategy")
    return {
        "id": trial.id,
        "strategy": "unknown" if strategy is None else str(strategy),
        "role": study.role(trial),
        "is_infeasible": trial.is_infeasible,
    } | _position(trial.place, axes)


def _position(place: Place, axes: Sequence[Axis]) -> dict[str, float | None]:
    found: dict[str, float | None] = {}
    for key, axis in zip("xy", axes, strict=True):
        value, error = place.values[axis.name], place.errors.get(axis.name)
        found |= {key: value, f"{key}_error": error}
        found |= {f"{key}_low": None, f"{key}_high": None}
        if error:
            found |= {f"{key}_low": value - abs(error), f"{key}_high": value + abs(error)}
    return found


def _layers(study: Study, rows: Rows, axes: tuple[Axis, Axis]) -> dict[str, Any]:
    base = study.baseline
    bases: Rows = [{"id": base.id} | _position(base, axes)] if base is not None and _is_placed(base, axes) else []
    plane = Plane.around([*rows, *bases])
    best = _best(rows, axes)
    names = plane.names([row for row in rows if row["role"] == "on the front"], best, rows, bases)
    layers = [
        _bars([*rows, *bases], "x"),
        _bars([*rows, *bases], "y"),
        _staircase(best, axes),
        _points(rows),
        _baseline(bases),
        _leads([name for name in names if name["is_far"]]),
        _names(names),
    ]
    encoding = {
        key: {
            "field": key,
            "type": "quantitative",
            "title": axis_label(axis, is_horizontal=key == "x"),
            "scale": {"domain": list(domain), "nice": False, "zero": False},
        }
        for key, axis, domain in zip("xy", axes, (plane.x_domain, plane.y_domain), strict=True)
    }
    return {"width": plane.width, "height": plane.height, "encoding": encoding, "layer": layers}


def _bars(rows: Rows, key: str) -> dict[str, Any]:
    found = [row for row in rows if row[f"{key}_low"] is not None]
    ends = {key: {"field": f"{key}_low"}, f"{key}2": {"field": f"{key}_high"}}
    return {"data": {"values": found}, "mark": {"type": "rule", "color": BAR, "strokeWidth": 1.1}, "encoding": ends}


def _best(rows: Rows, axes: Sequence[Axis]) -> list[tuple[float, float]]:
    """Places that keep the constraints and are non-dominated on these two axes, from left to right."""
    feasible = [row for row in rows if not row["is_infeasible"]]
    ranks = non_domination_ranks([(row["x"], row["y"]) for row in feasible], [axis.sign for axis in axes])
    return sorted({(row["x"], row["y"]) for row, rank in zip(feasible, ranks, strict=True) if rank == 1})


def _staircase(best: Sequence[tuple[float, float]], axes: Sequence[Axis]) -> dict[str, Any]:
    """Between two neighbours lies the point that is the worse of both on each axis."""
    step = "step-after" if axes[0].direction == "minimise" else "step-before"
    return {
        "data": {"values": [{"x": across, "y": up} for across, up in best]},
        "mark": {"type": "line", "interpolate": step, "color": LINE, "strokeWidth": 2},
    }


def _points(rows: Rows) -> dict[str, Any]:
    strategies = sorted({row["strategy"] for row in rows})
    roles = [role for role in ROLES if any(row["role"] == role for row in rows)]
    fills = [PAPER if role == "breaks a constraint" else ROLES[role] for role in roles]
    is_shaped = 1 < len(strategies) <= len(_SHAPES)
    shape = {
        "field": "strategy",
        "type": "nominal",
        "title": None,
        "scale": {"domain": strategies, "range": list(_SHAPES[: len(strategies)])},
        "legend": {"symbolFillColor": PAPER, "symbolStrokeColor": MUTED},
    }
    role = {"field": "role", "type": "nominal", "title": None}
    return {
        "data": {"values": rows},
        "mark": {"type": "point", "size": 90, "strokeWidth": 1.8, "opacity": 1},
        "encoding": {
            "stroke": role | {"scale": {"domain": roles, "range": [ROLES[name] for name in roles]}},
            "fill": role | {"scale": {"domain": roles, "range": fills}},
            "tooltip": [{"field": name} for name in _TIP],
        }
        | ({"shape": shape} if is_shaped else {}),
    }


def _baseline(bases: Rows) -> dict[str, Any]:
    tip = [{"field": name} for name in ("id", "x", "x_error", "y", "y_error")]
    mark = {"type": "point", "shape": _SALTIRE, "size": 200, "stroke": INK, "strokeWidth": 2.4, "opacity": 1}
    return {"data": {"values": bases}, "mark": mark, "encoding": {"tooltip": tip}}


def _leads(names: Rows) -> dict[str, Any]:
    ends = {"x": {"field": "x"}, "x2": {"field": "end_x"}, "y": {"field": "y"}, "y2": {"field": "end_y"}}
    return {"data": {"values": names}, "mark": {"type": "rule", "color": MUTED, "strokeWidth": 0.8}, "encoding": ends}


def _names(names: Rows) -> dict[str, Any]:
    places = {"x": {"field": "text_x"}, "y": {"field": "text_y"}, "text": {"field": "text", "type": "nominal"}}
    mark = {"type": "text", "align": {"expr": "datum.align"}, "baseline": "alphabetic", "fontSize": 11.5}
    rim = mark | {"color": PAPER, "stroke": PAPER, "strokeWidth": 3}
    layers = [{"mark": rim, "encoding": places}, {"mark": mark | {"color": INK}, "encoding": places}]
    return {"data": {"values": names}, "layer": layers}
