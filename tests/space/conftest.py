"""Tiny models of each family and task with their anatomy, and rates of a machine that never changes."""

from __future__ import annotations

import functools
from pathlib import Path

import pytest

from legion.foundation.settings import Settings
from legion.neuro_architecture.anatomy import inspect_model
from legion.neuro_architecture.data.base_models import resolve_base
from legion.neuro_architecture.space import Calibration
from legion.neuro_architecture.spec.task import TaskSpec

CASES = (
    ("bert", "classification"),
    ("llama", "classification"),
    ("gpt2", "classification"),
    ("llama", "summarization"),
    ("gpt2", "summarization"),
)


@pytest.fixture(params=CASES, ids="-".join)
def case(request) -> tuple[str, str]:
    return request.param


@pytest.fixture(scope="session")
def load(tiny_folders, tmp_path_factory):
    """`load(family, kind)`: a fresh tiny model with weights."""
    folder: Path = tmp_path_factory.mktemp("space")
    settings = Settings.load(workspace=folder, environment={"LEGION_HOME": str(folder)})

    def make(family: str, kind: str):
        labels = ("bad", "fair", "good") if kind == "classification" else ()
        return resolve_base(str(tiny_folders[family]), settings).load(TaskSpec(name="tiny", kind=kind, labels=labels))

    return make


@pytest.fixture(scope="session")
def anatomy_of(load):
    @functools.cache
    def read(family: str, kind: str):
        return inspect_model(load(family, kind))

    return read


@pytest.fixture(scope="session")
def calibration() -> Calibration:
    return Calibration(
        machine="paper",
        device="cpu",
        torch_version="0",
        threads=1,
        matmul_flops_per_s=5e10,
        memory_bytes_per_s=1e10,
        elements_per_s=1e9,
        kernel_overhead_s=1e-5,
    )
