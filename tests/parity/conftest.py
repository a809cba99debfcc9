"""The engines themselves, as `legion engines install` left them. Where one is missing, its tests fail and say how."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from legion.foundation.settings import Settings
from legion.neuro_architecture.portability.engines.environments import find_engine, install_command

# Before any test puts an empty home in its place.
_HOME = {key: value for key, value in os.environ.items() if key.startswith("LEGION_")}


@pytest.fixture(scope="session")
def engine_settings() -> Settings:
    """Settings with the machine's own home, where the engines are."""
    return Settings.load(environment=_HOME)


def _engine(name: str, settings: Settings):
    found = find_engine(name, settings)
    if found is None:
        pytest.fail(f"{name} is not installed in {settings.home}; install it: {install_command(name)}", pytrace=False)
    return found


@pytest.fixture(scope="session")
def vllm(engine_settings):
    """vLLM as an engine."""
    from legion.neuro_architecture.portability.engines.vllm import VllmEngine

    found = _engine("vllm", engine_settings)
    return VllmEngine(found.python, version=found.title)


@pytest.fixture(scope="session")
def llama_server(engine_settings) -> Path:
    """The `llama-server` program."""
    return _engine("llama.cpp", engine_settings).binary


@pytest.fixture(scope="session")
def adapters_python(engine_settings) -> Path:
    """A Python that imports the `adapters` library."""
    return _engine("adapters", engine_settings).python
