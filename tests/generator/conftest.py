"""A generator on a tiny base, with this machine measured once for all tests."""

from __future__ import annotations

import dataclasses
import shutil
from pathlib import Path

import pytest

from legion.foundation.settings import Settings
from legion.neuro_architecture.generator import ArchitectureGenerator
from legion.neuro_architecture.space import calibrate


@pytest.fixture(scope="session")
def calibrated_home(tmp_path_factory) -> Path:
    home = tmp_path_factory.mktemp("calibrated")
    calibrate(Settings.load(workspace=home, environment={"LEGION_HOME": str(home), "LEGION_THREADS": "1"}))
    return home


@pytest.fixture
def ready(settings, calibrated_home) -> Settings:
    """Settings of an empty workspace on a machine that is already measured."""
    shutil.copytree(calibrated_home, settings.home)
    return settings


@pytest.fixture
def generator(ready, tiny_folders):
    """`generator(seed, family)`: proposes for a tiny base."""

    def make(seed: int = 0, family: str = "bert") -> ArchitectureGenerator:
        return ArchitectureGenerator(seed, settings=dataclasses.replace(ready, base=str(tiny_folders[family])))

    return make
