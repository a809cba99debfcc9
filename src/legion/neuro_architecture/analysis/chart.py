"""The chart of the front as plain data: what is drawn, apart from how."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from legion.neuro_architecture.analysis.axes import Axis, baseline_value, find_axis, value_of
from legion.neuro_architecture.spec.dominance import non_domination_ranks
from legion.neuro_architecture.spec.evaluation import EvaluationResult, EvaluationSummary
from legion.neuro_architecture.spec.measurement import Measurement

__all__ = ["front_chart"]

_SHORTEST_SUFFIX = 4


def front_chart(summary: EvaluationSummary, x: str = "latency_ratio", y: str = "accuracy") -> dict[str, Any]:
    """Every candidate on two axes, the bare base, and the best trade-offs between the two.

    `on_front` says whether a candidate is non-dominated over all weighted objectives; `front_line` joins those that
    are non-dominated on these two axes alone, which is what a plane can show.

    Args:
        summary: An evaluation.
        x: Name of the horizontal axis, one of `axis_names()`.
        y: Name of the vertical axis.

    Returns:
        Plain values (JSON): `title`, `subtitle`, `x` and `y` (name, title, unit, direction, label), `points`,
        `baseline` or None, `front_line`, `excluded` (candidates that cannot be placed, with the reason) and
        `empty_reason`, which says why there is no point, or None.

    Raises:
        UnknownNameError: no such axis.
    """
    axes = (find_axis(x, summary), find_axis(y, summary))
    names = _short_names(sorted({result.proposal_id for result in summary.results}))
    points: list[dict[str, Any]] = []
    excluded: list[dict[str, str]] = []
    for result in summary.results:
        placed = [value_of(result, axis) for axis in axes]
        reasons = [item.reason for item in placed if item.reason is not None]
        if reasons:
            excluded.append({"id": result.proposal_id, "reason": reasons[0]})
        else:
            points.append(_point(placed) | _identity(result, names[result.proposal_id]))
    return {
        "title": f"{axes[1].title} and {_lower_first(axes[0].title)}",
        "subtitle": _subtitle(summary),
        "x": _axis(axes[0], is_horizontal=True),
        "y": _axis(axes[1], is_horizontal=False),
        "points": points,
        "baseline": _baseline(summary, axes),
        "front_line": _front_line(points, axes),
        "excluded": excluded,
        "empty_reason": None if points else _empty_reason(summary, excluded),
    }


def _subtitle(summary: EvaluationSummary) -> str:
    base = f", {summary.base.name}" if summary.base is not None else ""
    return f"{summary.task}{base}; bars are one standard error"


def _axis(axis: Axis, *, is_horizontal: bool) -> dict[str, str]:
    is_more = axis.direction == "maximise"
    arrow = ("→" if is_more else "←") if is_horizontal else ("↑" if is_more else "↓")
    better = "higher is better" if is_more else "lower is better"
    return {
        "name": axis.name,
        "title": axis.title,
        "unit": axis.unit,
        "direction": axis.direction,
        "label": f"{axis.title} ({axis.unit}), {better} {arrow}",
    }


def _point(placed: Sequence[Measurement]) -> dict[str, Any]:
    across, up = placed
    return {"x": across.value, "y": up.value, "x_error": across.error, "y_error": up.error}


def _identity(result: EvaluationResult, short_name: str) -> dict[str, Any]:
    return {
        "id": result.proposal_id,
        "label": short_name,
        "strategy": result.strategy,
        "on_front": result.is_on_front,
        "rank": result.rank,
        "score": result.composite_score,
    }


def _baseline(summary: EvaluationSummary, axes: tuple[Axis, Axis]) -> dict[str, Any] | None:
    placed = [baseline_value(summary, axis) for axis in axes]
    if any(item.value is None for item in placed):
        return None
    return _point(placed) | {"label": "bare base", "name": summary.baseline_name}


def _front_line(points: Sequence[dict[str, Any]], axes: tuple[Axis, Axis]) -> list[list[float]]:
    """Corners of the staircase through the best trade-offs, from left to right.

    Between two neighbours lies the point that is the worse of both on each axis: all that is certainly attained there.
    """
    plane = [(point["x"], point["y"]) for point in points]
    ranks = non_domination_ranks(plane, [axis.sign for axis in axes])
    best = sorted({place for place, rank in zip(plane, ranks, strict=True) if rank == 1})
    worse = [min if axis.sign > 0 else max for axis in axes]
    line: list[list[float]] = []
    for index, place in enumerate(best):
        if index:
            line.append([worse[axis](best[index - 1][axis], place[axis]) for axis in (0, 1)])
        line.append(list(place))
    return line


def _empty_reason(summary: EvaluationSummary, excluded: Sequence[dict[str, str]]) -> str:
    if not summary.results:
        return "no candidate has been evaluated"
    return f"none of {len(summary.results)} candidates can be placed: {excluded[0]['id']}: {excluded[0]['reason']}"


def _short_names(ids: Sequence[str]) -> dict[str, str]:
    """Each id with its hash cut as short as all stay distinct."""
    for length in range(_SHORTEST_SUFFIX, max(map(len, ids), default=0)):
        names = {name: _cut(name, length) for name in ids}
        if len(set(names.values())) == len(ids):
            return names
    return {name: name for name in ids}


def _cut(name: str, length: int) -> str:
    prefix, dash, suffix = name.rpartition("-")
    return prefix + dash + suffix[:length]


def _lower_first(text: str) -> str:
    return text[0].lower() + text[1:]
