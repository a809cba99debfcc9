from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy
import pytest
from safetensors.numpy import save_file

from legion.neuro_architecture.registry import ArchitectureRegistry


class StepClock:
    """Each look at it is a second later."""

    def __init__(self) -> None:
        self._moment = datetime(2026, 1, 1, tzinfo=UTC)

    def now(self) -> datetime:
        self._moment += timedelta(seconds=1)
        return self._moment

    def monotonic_s(self) -> float:
        return self._moment.timestamp()


@pytest.fixture
def root(tmp_path) -> Path:
    return tmp_path / "registry"


@pytest.fixture
def registry(root) -> ArchitectureRegistry:
    return ArchitectureRegistry(root, clock=StepClock())


@pytest.fixture
def weights(tmp_path) -> Path:
    path = tmp_path / "adapter_model.safetensors"
    save_file({"lora_A": numpy.arange(12, dtype=numpy.float32).reshape(3, 4)}, path)
    return path


@pytest.fixture
def filled(registry, weights):
    """Three snapshots of two architectures, the first with weights."""
    registry.register("1", {"strategy": "LoRA"}, {"accuracy": 0.8}, tags=["a"], files={weights.name: weights})
    registry.register("1", {"strategy": "MoE"}, {"accuracy": 0.7}, tags=["b"])
    registry.register("2", {"strategy": "LoRA"}, {"accuracy": 0.9}, tags=["a", "b"])
    return registry
