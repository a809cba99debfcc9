"""Spaces of paper models, and losses on them, for tests of generators."""

from __future__ import annotations

import functools

from legion.neuro_architecture.generator import build_generator
from legion.neuro_architecture.objectives import Observation
from legion.neuro_architecture.space import PointSpace
from legion.testing import paper_anatomy


@functools.cache
def small_space() -> PointSpace:
    """Three branches with invalid combinations, some thousand points."""
    anatomy = paper_anatomy(num_layers=2, is_causal=False, is_ffn_gated=False)
    narrow = {
        "*": {"warmup_share": [0.06], "layers": ["all"]},
        "LoRA": {"rank": [4, 8, 16, 32], "dropout": [0.0]},
        "Adapter": {"activation": ["relu", "gelu"]},
    }
    return PointSpace(anatomy, ["LoRA", "Adapter", "MoE"], narrow=narrow)


@functools.cache
def tiny_space() -> PointSpace:
    """Two branches, few enough points to run out."""
    narrow = {"*": {"warmup_share": [0.06], "schedule": ["linear"], "layers": ["all"], "learning_rate": [0.001, 0.002]}}
    return PointSpace(
        paper_anatomy(num_layers=2, is_causal=False),
        ["Adapter", "MoE"],
        narrow={"*": narrow["*"], "MoE": {"num_experts": [2, 4], "bottleneck_size": [8], "activation": ["relu"]}},
    )


def generator_of(name, space, stream):
    if name.startswith("optuna"):
        import pytest

        pytest.importorskip("optuna")
    return build_generator(name, space, stream)


def distance(space, point, target) -> float:
    """Shares of each axis between two points, and 1 for another branch."""
    if point[0] != target[0]:
        return 1.0 + 0.01 * len(point)
    steps = [
        abs(one - other) / (len(axis.values) - 1) if axis.is_ordered else float(one != other)
        for axis, one, other in zip(space.axes(point), point[1:], target[1:], strict=True)
        if len(axis.values) > 1
    ]
    return sum(steps) / len(steps)


def seen_as(point, draw, *, num_objectives=2, level=0, violation=0.0) -> Observation:
    losses = tuple(draw.random() + 0.1 * sum(point) * place for place in range(num_objectives))
    return Observation(point=point, losses=losses, level=level, violation=violation)
