"""Proxy fidelity: whether the ranks of cheap runs are those of dear ones."""

from __future__ import annotations

import textwrap
from collections.abc import Mapping
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from legion.neuro_architecture.analysis.study.cleaning import mappings, number, shorten, text
from legion.neuro_architecture.analysis.study.record import Study, read_study
from legion.neuro_architecture.analysis.study.theme import ACCENT, GRID, LINE, MUTED, empty_picture, picture
from legion.neuro_architecture.analysis.study.wording import count, why_none_trained

__all__ = ["fidelity_picture", "ranks"]

_TITLE: Final = "How well cheap runs foretell dear ones"
_SIDE: Final = 260
_COLUMNS: Final = 3
_LINE_LENGTH: Final = 44


def fidelity_picture(record: Mapping[str, Any]) -> dict[str, Any]:
    """For each pair of a cheap and a dear run: ranks against ranks, Kendall's tau, and the share of the best found.

    On the dotted diagonal both agree. Where a pair has no tau, its panel says why.
    """
    study = read_study(record)
    items = mappings(record.get("fidelity"))
    if not items:
        return empty_picture(_TITLE, [study.about], _why_empty(study))
    if not any(_points(item) or number(item.get("tau")) is not None for item in items):
        reasons = [text(item.get("reason")) for item in items if item.get("reason")]
        reason = reasons[0] if reasons else "no trial was measured both cheaply and dearly"
        return empty_picture(_TITLE, [study.about], f"the fidelity is not known: {reason}")
    subtitle = [
        f"{study.about}; a dot is a trial, rank 1 has the least value",
        "τ is Kendall's: 1 where both runs order all trials alike, 0 where their orders have nothing in common.",
    ]
    return picture(_TITLE, subtitle, {"concat": [_panel(item) for item in items], "columns": _COLUMNS, "spacing": 36})


def ranks(values: NDArray[np.float64]) -> NDArray[np.float64]:
    """Ranks from 1 for the least value; equal values share the mean of their ranks."""
    _, places, counts = np.unique(values, return_inverse=True, return_counts=True)
    last = np.cumsum(counts)
    found: NDArray[np.float64] = (last - (counts - 1) / 2.0)[places.reshape(-1)]
    return found


def _why_empty(study: Study) -> str:
    if not study.trained:
        return why_none_trained(study)
    return "the study has compared no cheap run with a dear one"


def _points(item: Mapping[str, Any]) -> list[dict[str, float]]:
    pairs = [pair for pair in item.get("pairs") or () if isinstance(pair, list | tuple) and len(pair) == 2]
    placed = [(cheap, dear) for cheap, dear in (map(number, pair) for pair in pairs) if None not in (cheap, dear)]
    if not placed:
        return []
    cheap_n, dear_n = np.asarray(placed, dtype=float).T
    rows = zip(ranks(cheap_n), ranks(dear_n), cheap_n, dear_n, strict=True)
    names = ("cheap_rank", "dear_rank", "cheap", "dear")
    return [dict(zip(names, map(float, row), strict=True)) for row in rows]


def _panel(item: Mapping[str, Any]) -> dict[str, Any]:
    cheap, dear = (shorten(text(item.get(name)) or "unnamed", 24) for name in ("cheap", "dear"))
    rows = _points(item)
    title = {"text": f"{cheap} against {dear}", "subtitle": _verdict(item), "fontSize": 13, "offset": 8}
    size = {"width": _SIDE, "height": _SIDE, "title": title}
    if not rows:
        mark = {"type": "text", "text": "no pairs in the record", "color": MUTED, "fontSize": 12}
        return size | {
            "view": {"stroke": GRID},
            "data": {"values": [{"reason": "no pairs in the record"}]},
            "mark": mark,
        }
    scale = {"domain": [0, len(rows) + 1], "nice": False}
    axes = {
        "x": {"field": "cheap_rank", "title": f"Rank by {cheap}"},
        "y": {"field": "dear_rank", "title": f"Rank by {dear}"},
    }
    form = {"type": "quantitative", "scale": scale, "axis": {"tickCount": 5, "tickMinStep": 1, "format": "d"}}
    encoding = {key: value | form for key, value in axes.items()}
    ends = [{"cheap_rank": 0, "dear_rank": 0}, {"cheap_rank": len(rows) + 1, "dear_rank": len(rows) + 1}]
    tip = [{"field": name} for name in ("cheap", "dear", "cheap_rank", "dear_rank")]
    dots = {"type": "point", "filled": True, "color": ACCENT, "size": 48, "opacity": 0.75}
    return size | {
        "encoding": encoding,
        "layer": [
            {"data": {"values": ends}, "mark": {"type": "line", "color": LINE, "strokeDash": [4, 4]}},
            {"data": {"values": rows}, "mark": dots, "encoding": {"tooltip": tip}},
        ],
    }


def _verdict(item: Mapping[str, Any]) -> list[str]:
    tau, low, high = (number(item.get(name)) for name in ("tau", "low", "high"))
    size, recall = number(item.get("n")), number(item.get("recall_top_tenth"))
    of = f", {count(int(size), 'trial')}" if size is not None else ""
    if tau is None:
        reason = text(item.get("reason")) or "the record gives no reason"
        first = textwrap.wrap(f"no τ: {reason}", _LINE_LENGTH, max_lines=3, placeholder=" …")
    else:
        interval = f" ({low:.2f} to {high:.2f})" if low is not None and high is not None else ""
        first = [f"τ = {tau:.2f}{interval}{of}"]
    second = "share of the true top tenth found: " + ("not known" if recall is None else f"{recall:.0%}")
    return [*first, second]
