"""What the table holds: which candidates, trained how far, looked at where."""

from __future__ import annotations

import base64
import random
from collections.abc import Sequence
from pathlib import Path
from typing import Final

import numpy as np

from legion.foundation.settings import Settings
from legion.neuro_architecture.objectives import choose_objectives
from legion.neuro_architecture.space import Point, PointSpace
from legion.neuro_architecture.spec.semantics import semantic_hash
from legion.neuro_architecture.study.criteria import Criteria
from legion.neuro_architecture.study.recipe import StudyRecipe
from legion.neuro_architecture.study.space import StudySpace

__all__ = ["BATCH", "FACTOR", "FULL", "LOOKS", "OBJECTIVES", "RESULTS", "RUNGS", "pack", "table_space", "unpack"]

RESULTS: Final = Path(__file__).parents[1] / "results"
LOOKS: Final = (4, 12, 36)  # before the end, in the table
FULL: Final = 108
RUNGS: Final = (12,)  # where searches look; a look over 512 examples costs as much as eleven steps
FACTOR: Final = 4.0
BATCH: Final = 4
OBJECTIVES: Final = ("accuracy", "latency_ms", "size_bytes")
_RATES: Final = (5e-4, 1e-3, 2e-3)
_NUM_ARCHITECTURES: Final = 70
_SEED: Final = 20

assert tuple(each.name for each in choose_objectives(OBJECTIVES)) == OBJECTIVES


def pack(losses: Sequence[float]) -> str:
    """Losses as the table keeps them: half precision, little endian, base64."""
    return base64.b64encode(np.asarray(losses, "<f2").tobytes()).decode("ascii")


def unpack(text: str) -> tuple[float, ...]:
    """The losses that `pack` wrote."""
    return tuple(np.frombuffer(base64.b64decode(text), "<f2").astype(float).tolist())


def table_space(settings: Settings) -> tuple[StudySpace, PointSpace, list[Point]]:
    """The study's space, the part of it that the table holds, and its points in the order they are trained.

    70 architectures drawn by the space's own prior, a third of each family, each with three learning rates: 210
    candidates. Nothing of how they perform decides what is drawn.
    """
    narrow = {"*": {"learning_rate": list(_RATES), "warmup_share": [0.06], "schedule": ["linear"]}}
    recipe = StudyRecipe.parse(
        {"name": "table", "task": "classification", "objectives": OBJECTIVES, "space": {"narrow": narrow}}, what="table"
    )
    study = StudySpace(recipe, Criteria.of(recipe.objectives, (), {}), settings)
    whole = PointSpace(study.problem.anatomy, recipe.space.strategies, narrow=narrow)
    chosen = _drawn(whole)
    table = PointSpace(
        study.problem.anatomy,
        recipe.space.strategies,
        narrow=narrow,
        allow=lambda architecture: semantic_hash(architecture) in chosen,
    )
    points = list(table.points())
    random.Random(_SEED).shuffle(points)
    return study, table, points


def _drawn(space: PointSpace) -> set[str]:
    """Hashes of the architectures, families in turn, the well-known starts first."""
    draw = random.Random(_SEED)
    found = {semantic_hash(space.candidate(point)[0]): None for point in space.starts}
    number = 0
    while len(found) < _NUM_ARCHITECTURES:
        branch = space.branches[number % len(space.branches)]
        found.setdefault(semantic_hash(branch.candidate(branch.draw(draw))[0]))
        number += 1
    return set(found)
