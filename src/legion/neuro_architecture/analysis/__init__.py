"""Floor 3: an evaluation as charts and pages. Charts are data first and drawing second; nothing here loads torch."""

from legion.neuro_architecture.analysis.axes import axis_names
from legion.neuro_architecture.analysis.chart import front_chart
from legion.neuro_architecture.analysis.report import render_report
from legion.neuro_architecture.analysis.svg import draw_svg

__all__ = ["axis_names", "draw_svg", "front_chart", "render_report"]
