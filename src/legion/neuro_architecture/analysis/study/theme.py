"""What all pictures share: paper, type and colours, and the picture that only says why it is empty."""

from __future__ import annotations

import textwrap
from collections.abc import Mapping, Sequence
from typing import Any, Final

__all__ = [
    "ACCENT",
    "BAR",
    "GRID",
    "INK",
    "LINE",
    "MUTED",
    "PAPER",
    "PASSIVE",
    "ROLES",
    "WARNING",
    "empty_picture",
    "picture",
]

Spec = dict[str, Any]

# As in marks.py: after Okabe and Ito, which colour-blind readers can tell apart.
INK: Final = "#1b2230"
MUTED: Final = "#626c7e"
GRID: Final = "#e8ebf0"
LINE: Final = "#a3acbb"
BAR: Final = "#c3c9d3"
PAPER: Final = "#ffffff"
ACCENT: Final = "#0072b2"
PASSIVE: Final = "#8791a3"
WARNING: Final = "#c4530a"
ROLES: Final = {"on the front": ACCENT, "dominated": PASSIVE, "breaks a constraint": WARNING}
"""Colour of each role of a fully trained trial."""

_SCHEMA: Final = "https://vega.github.io/schema/vega-lite/v5.json"
_LINE_LENGTH: Final = 64
_CONFIG: Final[Spec] = {
    "background": PAPER,
    "font": "Inter, Arial, Liberation Sans, sans-serif",
    "padding": 18,
    "view": {"stroke": None},
    "title": {
        "anchor": "start",
        "color": INK,
        "fontSize": 16,
        "fontWeight": 600,
        "subtitleColor": MUTED,
        "subtitleFontSize": 12,
        "subtitleLineHeight": 16,
        "subtitlePadding": 5,
        "offset": 16,
    },
    "axis": {
        "domainColor": LINE,
        "gridColor": GRID,
        "labelColor": MUTED,
        "labelFlush": False,
        "labelFontSize": 11.5,
        "labelLimit": 220,
        "tickColor": LINE,
        "titleColor": INK,
        "titleFontSize": 12.5,
        "titleFontWeight": "normal",
        "titleLimit": 440,
        "titlePadding": 10,
    },
    "legend": {
        "labelColor": MUTED,
        "labelFontSize": 12,
        "labelLimit": 220,
        "layout": {"top": {"anchor": "start", "direction": "horizontal", "margin": 28}},
        "orient": "top",
        "titleColor": INK,
        "titleFontSize": 12,
        "titleFontWeight": "normal",
    },
}


def picture(title: str, subtitle: Sequence[str], body: Mapping[str, Any]) -> Spec:
    """A Vega-Lite specification with the theme around `body` (marks, encodings, data, sizes).

    Its `usermeta.empty_reason` is None: something is drawn.
    """
    return {
        "$schema": _SCHEMA,
        "title": {"text": title, "subtitle": list(subtitle)},
        **body,
        "config": _CONFIG,
        "usermeta": {"empty_reason": None},
    }


def empty_picture(title: str, subtitle: Sequence[str], reason: str) -> Spec:
    """A picture of one centred sentence; `usermeta.empty_reason` holds it too."""
    lines = textwrap.wrap(reason, _LINE_LENGTH, max_lines=6, placeholder=" …")
    mark = {"type": "text", "text": lines, "fontSize": 14, "lineHeight": 20, "color": MUTED, "baseline": "middle"}
    body = {"width": 560, "height": 200, "data": {"values": [{"reason": reason}]}, "mark": mark}
    return picture(title, subtitle, body) | {"usermeta": {"empty_reason": reason}}
