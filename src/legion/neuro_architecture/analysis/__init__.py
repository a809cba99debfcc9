"""Floor 3: an evaluation as charts and pages. Charts are data first and drawing second; nothing here loads torch."""

from legion.neuro_architecture.analysis.axes import axis_names
from legion.neuro_architecture.analysis.chart import front_chart
from legion.neuro_architecture.analysis.report import render_report
from legion.neuro_architecture.analysis.study import (
    STUDY_PICTURES,
    draw_png,
    draw_svg_of,
    importances,
    study_page,
    study_pictures,
)
from legion.neuro_architecture.analysis.svg import draw_svg

__all__ = [
    "STUDY_PICTURES",
    "axis_names",
    "draw_png",
    "draw_svg",
    "draw_svg_of",
    "front_chart",
    "importances",
    "render_report",
    "study_page",
    "study_pictures",
]
