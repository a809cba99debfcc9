"""The signs that a chart is made of, and their colours."""

from __future__ import annotations

from html import escape
from typing import Final

__all__ = ["MARKERS", "RADIUS", "STYLE", "draw_line", "draw_marker", "draw_text", "style_class"]

RADIUS: Final = 6.0
MARKERS: Final[dict[str, str]] = {"LoRA": "circle", "Adapter": "square", "MoE": "triangle"}
"""Shape of each strategy: colour is never the only sign."""

# Colours after Okabe and Ito, which colour-blind readers can tell apart, lightened for dark paper.
STYLE: Final = """
.lc{--lc-ink:#1b2230;--lc-muted:#626c7e;--lc-grid:#e8ebf0;--lc-line:#a3acbb;--lc-paper:#ffffff;
--lc-lora:#0072b2;--lc-adapter:#c4530a;--lc-moe:#00805f;--lc-unknown:#7a5195;
font-family:Inter,system-ui,-apple-system,"Segoe UI",Roboto,"Helvetica Neue",sans-serif}
@media (prefers-color-scheme:dark){.lc{--lc-ink:#e7eaf0;--lc-muted:#98a2b3;--lc-grid:#262d3a;--lc-line:#5b667a;
--lc-paper:#12161f;--lc-lora:#56b4e9;--lc-adapter:#f0914c;--lc-moe:#2fc79c;--lc-unknown:#c39bd3}}
.lc-paper{fill:var(--lc-paper)}.lc-grid{stroke:var(--lc-grid);stroke-width:1}.lc-text{fill:var(--lc-muted);font-size:12px}
.lc-title{fill:var(--lc-ink);font-size:16px;font-weight:600}.lc-axis{fill:var(--lc-ink);font-size:12.5px}
.lc-name{fill:var(--lc-ink);font-size:11.5px;paint-order:stroke;stroke:var(--lc-paper);stroke-width:3px}
.lc-lead{stroke:var(--lc-line);stroke-width:1}.lc-front{fill:none;stroke:var(--lc-line);stroke-width:2}
.lc-base{stroke:var(--lc-muted);stroke-width:1;stroke-dasharray:4 4}.lc-cross{stroke:var(--lc-ink);stroke-width:2.2}
.lc-bar{stroke-width:1.2;opacity:.5}
.lc-lora{--lc-own:var(--lc-lora)}.lc-adapter{--lc-own:var(--lc-adapter)}.lc-moe{--lc-own:var(--lc-moe)}
.lc-unknown{--lc-own:var(--lc-unknown)}
.lc-point{stroke:var(--lc-own);stroke-width:2;fill:var(--lc-paper)}.lc-full{fill:var(--lc-own)}
.lc-bar{stroke:var(--lc-own)}
"""


def draw_marker(strategy: str, x: float, y: float, *, is_full: bool, kind: str | None = None) -> str:
    """The sign of a strategy, filled when its candidate is on the front."""
    style = f'class="lc-point{" lc-full" if is_full else ""} {style_class(kind or strategy)}"'
    r = RADIUS
    match MARKERS.get(strategy):
        case "square":
            return (
                f'<rect {style} x="{x - r + 0.5:.1f}" y="{y - r + 0.5:.1f}" width="{2 * r - 1}" height="{2 * r - 1}"/>'
            )
        case "triangle":
            tips = f"{x:.1f},{y - r - 1:.1f} {x + r + 1:.1f},{y + r - 0.5:.1f} {x - r - 1:.1f},{y + r - 0.5:.1f}"
            return f'<polygon {style} stroke-linejoin="round" points="{tips}"/>'
        case _:
            return f'<circle {style} cx="{x:.1f}" cy="{y:.1f}" r="{r - 0.5}"/>'


def style_class(strategy: str) -> str:
    """The style class of a strategy's colour."""
    return f"lc-{strategy.lower()}" if strategy in MARKERS else "lc-unknown"


def draw_line(style: str, x1: float, y1: float, x2: float, y2: float) -> str:
    """A line between two places."""
    return f'<line class="{style}" x1="{x1:.1f}" y1="{y1:.1f}" x2="{x2:.1f}" y2="{y2:.1f}"/>'


def draw_text(x: float, y: float, style: str, text: str, *, anchor: str = "start") -> str:
    """A text, escaped; `anchor` is `start`, `middle` or `end`."""
    return f'<text class="{style}" x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}">{escape(text)}</text>'
