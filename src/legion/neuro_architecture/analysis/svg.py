"""Draws a chart of `front_chart` as one self-contained SVG that follows the reader's light or dark scheme."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from html import escape
from itertools import pairwise
from typing import Any, Final

from legion.neuro_architecture.analysis.labels import Box, Label, place_labels
from legion.neuro_architecture.analysis.marks import (
    MARKERS,
    RADIUS,
    STYLE,
    draw_line,
    draw_marker,
    draw_text,
    style_class,
)
from legion.neuro_architecture.analysis.scale import Scale, format_tick, padded_range, round_ticks

__all__ = ["draw_svg"]

_HEIGHT: Final = 460
_CAP: Final = 3.0


def draw_svg(chart: Mapping[str, Any], *, width: int = 800) -> str:
    """The SVG text of a chart that `front_chart` gave, `width` pixels wide at its natural size."""
    frame = Box(78.0, 86.0, width - 24.0, _HEIGHT - 62.0)
    body = [
        f'<rect class="lc-paper" width="{width}" height="{_HEIGHT}"/>',
        draw_text(frame.left, 28, "lc-title", chart["title"]),
        draw_text(frame.left, 48, "lc-text", chart["subtitle"]),
    ]
    body += _empty(frame, chart["empty_reason"]) if chart["empty_reason"] is not None else _plot(frame, chart)
    return (
        f'<svg class="lc" xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {_HEIGHT}" role="img" '
        f'aria-label="{escape(chart["title"])}"><style>{STYLE}</style>{"".join(body)}</svg>'
    )


def _empty(frame: Box, reason: str) -> list[str]:
    middle = (frame.left + frame.right) / 2
    return [
        draw_text(middle, 230, "lc-axis", "There is nothing to draw yet", anchor="middle"),
        draw_text(middle, 252, "lc-text", reason, anchor="middle"),
    ]


def _plot(frame: Box, chart: Mapping[str, Any]) -> list[str]:
    points, baseline = chart["points"], chart["baseline"]
    shown = [*points, *([baseline] if baseline else [])]
    across = Scale(*_range(shown, "x"), frame.left, frame.right)
    up = Scale(*_range(shown, "y"), frame.bottom, frame.top)
    corners = [(across(x), up(y)) for x, y in chart["front_line"]]
    body = _grid(frame, across, up) + _axis_titles(frame, chart) + _legend(frame, chart)
    body += _baseline_lines(frame, baseline, across, up)
    if len(corners) > 1:
        path = " ".join(f"{x:.1f},{y:.1f}" for x, y in corners)
        body.append(f'<polyline class="lc-front" points="{path}"/>')
    body += [_bars(point, across, up) for point in points]
    body += [_marker(point, across, up) for point in sorted(points, key=lambda point: bool(point["on_front"]))]
    return body + _baseline_mark(baseline, across, up) + _names(frame, points, baseline, across, up, corners)


def _range(shown: Sequence[Mapping[str, Any]], axis: str) -> tuple[float, float]:
    ends = [point[axis] + side * (point[f"{axis}_error"] or 0.0) for point in shown for side in (-1, 1)]
    return padded_range(ends, padding=0.08)


def _grid(frame: Box, across: Scale, up: Scale) -> list[str]:
    body = []
    ticks = round_ticks(across.low, across.high, about=7)
    for tick in ticks:
        x = across(tick)
        body.append(draw_line("lc-grid", x, frame.top, x, frame.bottom))
        body.append(draw_text(x, frame.bottom + 18, "lc-text", _tick(tick, ticks), anchor="middle"))
    ticks = round_ticks(up.low, up.high, about=6)
    for tick in ticks:
        y = up(tick)
        body.append(draw_line("lc-grid", frame.left, y, frame.right, y))
        body.append(draw_text(frame.left - 10, y + 4, "lc-text", _tick(tick, ticks), anchor="end"))
    return body


def _tick(value: float, ticks: Sequence[float]) -> str:
    return format_tick(value, ticks[1] - ticks[0] if len(ticks) > 1 else abs(value) or 1.0)


def _axis_titles(frame: Box, chart: Mapping[str, Any]) -> list[str]:
    middle_y = (frame.top + frame.bottom) / 2
    return [
        draw_text((frame.left + frame.right) / 2, _HEIGHT - 20, "lc-axis", chart["x"]["label"], anchor="middle"),
        f'<g transform="translate(22 {middle_y}) rotate(-90)">'
        + draw_text(0, 0, "lc-axis", chart["y"]["label"], anchor="middle")
        + "</g>",
    ]


def _legend(frame: Box, chart: Mapping[str, Any]) -> list[str]:
    strategies = [name for name in MARKERS if any(point["strategy"] == name for point in chart["points"])]
    body, x = [], frame.left + RADIUS
    for name in strategies:
        body += [draw_marker(name, x, 68, is_full=True), draw_text(x + 11, 72, "lc-text", name)]
        x += 30 + 7.2 * len(name)
    body += [
        draw_marker("LoRA", x, 68, is_full=False, kind="unknown"),
        draw_text(x + 11, 72, "lc-text", "hollow: dominated"),
    ]
    x += 134
    body += [
        draw_line("lc-front", x - 6, 68, x + 12, 68),
        draw_text(x + 18, 72, "lc-text", "best on these two axes"),
    ]
    return body


def _baseline_lines(frame: Box, baseline: Mapping[str, Any] | None, across: Scale, up: Scale) -> list[str]:
    if baseline is None:
        return []
    x, y = across(baseline["x"]), up(baseline["y"])
    return [
        draw_line("lc-base", x, frame.top, x, frame.bottom),
        draw_line("lc-base", frame.left, y, frame.right, y),
    ]


def _baseline_mark(baseline: Mapping[str, Any] | None, across: Scale, up: Scale) -> list[str]:
    if baseline is None:
        return []
    x, y, arm = across(baseline["x"]), up(baseline["y"]), RADIUS
    tip = escape(f"{baseline['name']}: {baseline['x']:.4g}, {baseline['y']:.4g}")
    cross = draw_line("lc-cross", x - arm, y - arm, x + arm, y + arm) + draw_line(
        "lc-cross", x - arm, y + arm, x + arm, y - arm
    )
    return [f"<g><title>{tip}</title>{cross}</g>"]


def _bars(point: Mapping[str, Any], across: Scale, up: Scale) -> str:
    x, y = across(point["x"]), up(point["y"])
    body = ""
    if point["x_error"]:
        left, right = across(point["x"] - point["x_error"]), across(point["x"] + point["x_error"])
        body += draw_line("lc-bar", left, y, right, y)
        body += draw_line("lc-bar", left, y - _CAP, left, y + _CAP) + draw_line(
            "lc-bar", right, y - _CAP, right, y + _CAP
        )
    if point["y_error"]:
        low, high = up(point["y"] - point["y_error"]), up(point["y"] + point["y_error"])
        body += draw_line("lc-bar", x, low, x, high)
        body += draw_line("lc-bar", x - _CAP, low, x + _CAP, low) + draw_line("lc-bar", x - _CAP, high, x + _CAP, high)
    return f'<g class="{style_class(point["strategy"])}">{body}</g>'


def _marker(point: Mapping[str, Any], across: Scale, up: Scale) -> str:
    score = "no score" if point["score"] is None else f"score {point['score']:.3f}"
    tip = escape(f"{point['id']}: {point['x']:.4g}, {point['y']:.4g}, {score}")
    mark = draw_marker(point["strategy"], across(point["x"]), up(point["y"]), is_full=bool(point["on_front"]))
    return f"<g><title>{tip}</title>{mark}</g>"


def _names(
    frame: Box,
    points: Sequence[Mapping[str, Any]],
    baseline: Mapping[str, Any] | None,
    across: Scale,
    up: Scale,
    corners: Sequence[tuple[float, float]],
) -> list[str]:
    ordered = sorted(points, key=lambda point: not point["on_front"])
    wanted = [(baseline["label"], across(baseline["x"]), up(baseline["y"]), True)] if baseline else []
    wanted += [(point["label"], across(point["x"]), up(point["y"]), bool(point["on_front"])) for point in ordered]
    lines = [_span(*start, *end) for start, end in pairwise(corners)]
    lines += [box for point in points for box in _bar_boxes(point, across, up)]
    if baseline:
        x, y = across(baseline["x"]), up(baseline["y"])
        lines += [_span(x, frame.top, x, frame.bottom), _span(frame.left, y, frame.right, y)]
    return [_name(label) for label in place_labels(wanted, frame=frame, lines=lines)]


def _bar_boxes(point: Mapping[str, Any], across: Scale, up: Scale) -> list[Box]:
    x, y, x_error, y_error = point["x"], point["y"], point["x_error"] or 0.0, point["y_error"] or 0.0
    return [
        _span(across(x - x_error), up(y), across(x + x_error), up(y)),
        _span(across(x), up(y - y_error), across(x), up(y + y_error)),
    ]


def _span(x1: float, y1: float, x2: float, y2: float) -> Box:
    return Box(min(x1, x2) - 2, min(y1, y2) - 2, max(x1, x2) + 2, max(y1, y2) + 2)


def _name(label: Label) -> str:
    lead = ""
    if label.is_far:
        x, y = label.anchor
        near_x = min(max(x, label.box.left), label.box.right)
        near_y = label.box.top + 2 if label.box.top > y else label.box.bottom - 2 if label.box.bottom < y else y
        lead = draw_line("lc-lead", x, y, near_x, near_y)
    return lead + draw_text(label.x, label.y, "lc-name", label.text)
