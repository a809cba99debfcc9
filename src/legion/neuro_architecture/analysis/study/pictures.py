"""All pictures of a study by name."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Final

from legion.neuro_architecture.analysis.study.curves import curves_picture
from legion.neuro_architecture.analysis.study.fidelity import fidelity_picture
from legion.neuro_architecture.analysis.study.front import front_picture
from legion.neuro_architecture.analysis.study.hypervolume import hypervolume_picture
from legion.neuro_architecture.analysis.study.importance import importance_picture
from legion.neuro_architecture.analysis.study.parallel import parallel_picture
from legion.neuro_architecture.analysis.study.rungs import rungs_picture

__all__ = ["STUDY_PICTURES", "study_pictures"]

STUDY_PICTURES: Final[Mapping[str, Callable[[Mapping[str, Any]], dict[str, Any]]]] = {
    "front": front_picture,
    "hypervolume": hypervolume_picture,
    "curves": curves_picture,
    "rungs": rungs_picture,
    "fidelity": fidelity_picture,
    "importance": importance_picture,
    "parallel": parallel_picture,
}
"""Each picture's function, in the order of a page."""


def study_pictures(record: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    """Every picture of a study as a Vega-Lite specification, by name."""
    return {name: draw(record) for name, draw in STUDY_PICTURES.items()}
