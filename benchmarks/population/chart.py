"""The ratios as one picture, SVG and PNG: median and range of each, beside the bound and what is aimed at."""

from __future__ import annotations

import textwrap
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

__all__ = ["chart_rows", "draw"]

# Okabe and Ito's colours, which colour-blind readers can tell apart; shape is the second sign.
_INK: Final = {"met": "#0072b2", "not met": "#c4530a", "not judged": "#626c7e"}
_MARKS: Final = {"met": "o", "not met": "X", "not judged": "s"}
_WIDTH: Final = 46
_STYLE: Final = {"svg.hashsalt": "population", "svg.fonttype": "none"}  # the same figures give the same file


def chart_rows(report: Mapping[str, Any]) -> list[dict[str, Any]]:
    """What is drawn, apart from how: the judged measure of each comparison, from the top down."""
    rows = []
    for row in report["rows"].values():
        measures = [item["measure"] for item in row["comparisons"]]
        for item in row["comparisons"]:
            if item["measure"] != measures[0]:
                continue
            state = {True: "met", False: "not met", None: "not judged"}[item["is_met"]]
            names = f"{row['title']}\n{item['label']}"
            rows.append({"name": names, "state": state, **item["ratio"], "must": item["must"], "aim": item["aim"]})
    return rows


def draw(report: Mapping[str, Any], paths: list[Path]) -> None:
    """Writes the picture to each path, in the format of its suffix."""
    import matplotlib as mpl
    from matplotlib.figure import Figure

    rows = chart_rows(report)
    figure = Figure(figsize=(9.5, 1.4 + 0.62 * max(1, len(rows))), layout="constrained")
    axes = figure.subplots()
    for place, row in enumerate(rows):
        ink = _INK[row["state"]]
        axes.plot([row["min"], row["max"]], [place, place], color=ink, linewidth=2, alpha=0.5)
        axes.plot(row["median"], place, marker=_MARKS[row["state"]], color=ink, markersize=8, linestyle="none")
        axes.annotate(f"{row['median']:.3g}x", (row["median"], place), (0, 8), textcoords="offset points", ha="center")
        for bound, style in ((row["must"], "-"), (row["aim"], ":")):
            if bound:
                axes.plot([bound, bound], [place - 0.34, place + 0.34], color="#1b2230", linestyle=style, linewidth=1.4)
    axes.set_yticks(range(len(rows)), [_wrapped(row["name"]) for row in rows], fontsize=8)
    axes.set_ylim(len(rows) - 0.4, -0.7)
    axes.set_xscale("log")
    axes.axvline(1.0, color="#a3acbb", linewidth=1)
    axes.grid(axis="x", which="both", color="#e8ebf0", linewidth=0.8)
    axes.xaxis.set_major_formatter(lambda value, _: f"{value:g}x")
    axes.set_xlabel("median ratio (bar: least to most of the repeats; full tick: must; dotted tick: aim)", fontsize=9)
    axes.set_title(f"One population against one trial after another, {report['date']}", fontsize=11, loc="left")
    with mpl.rc_context(_STYLE):
        for path in paths:
            figure.savefig(path, dpi=140, metadata={"Date": None} if path.suffix == ".svg" else None)


def _wrapped(name: str) -> str:
    return "\n".join(textwrap.fill(line, _WIDTH) for line in name.splitlines())
