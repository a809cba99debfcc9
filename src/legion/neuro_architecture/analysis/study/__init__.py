"""A search study as pictures and a page: pure functions from its record to Vega-Lite, and the drawing of them."""

from legion.neuro_architecture.analysis.study.curves import curves_picture
from legion.neuro_architecture.analysis.study.drawing import draw_png, draw_svg_of
from legion.neuro_architecture.analysis.study.fidelity import fidelity_picture
from legion.neuro_architecture.analysis.study.front import front_picture
from legion.neuro_architecture.analysis.study.hypervolume import hypervolume_picture
from legion.neuro_architecture.analysis.study.importance import importance_picture, importances
from legion.neuro_architecture.analysis.study.page import study_page
from legion.neuro_architecture.analysis.study.parallel import parallel_picture
from legion.neuro_architecture.analysis.study.pictures import STUDY_PICTURES, study_pictures
from legion.neuro_architecture.analysis.study.rungs import rungs_picture

__all__ = [
    "STUDY_PICTURES",
    "curves_picture",
    "draw_png",
    "draw_svg_of",
    "fidelity_picture",
    "front_picture",
    "hypervolume_picture",
    "importance_picture",
    "importances",
    "parallel_picture",
    "rungs_picture",
    "study_page",
    "study_pictures",
]
