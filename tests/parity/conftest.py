"""The engines themselves, as `legion engines install` left them. Where one is missing, its tests fail and say how."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from legion.foundation.clock import SystemClock, rfc3339
from legion.foundation.files import write_json
from legion.foundation.machine import describe_machine
from legion.foundation.revision import describe_revision
from legion.foundation.settings import Settings
from legion.neuro_architecture.portability.engines.environments import find_engine, install_command

# `make parity` names the file that the measured differences go to; a partial run by hand names none.
_RESULTS = os.environ.get("LEGION_PARITY_RESULTS")
# Before any test puts an empty home in its place.
_HOME = {key: value for key, value in os.environ.items() if key.startswith("LEGION_")}


@pytest.fixture(scope="session")
def engine_settings() -> Settings:
    """Settings with the machine's own home, where the engines are."""
    return Settings.load(environment=_HOME)


@pytest.fixture
def measured(record_property):
    """Notes one comparison for the results: who was asked about what, how far apart, and what was to lose."""

    def note(engine: str, case: str, *, difference: float, tolerance: float, effect: float | None = None) -> None:
        row = {"case": case, "largest_difference": difference, "tolerance": tolerance, "effect": effect}
        record_property("parity", {"engine": engine, **row})

    return note


def pytest_sessionfinish(session: pytest.Session, exitstatus: int) -> None:
    """Writes what a whole, passed run measured, with machine, date and commit."""
    if _RESULTS is None or exitstatus != 0:
        return
    rows = [
        value
        for item in session.items
        for name, value in item.user_properties
        if name == "parity" and isinstance(value, dict)
    ]
    engines: dict[str, list[dict[str, object]]] = {}
    for row in rows:
        engines.setdefault(row.pop("engine"), []).append(row)
    write_json(
        Path(_RESULTS),
        {
            "command": "make parity",
            "measured_at": rfc3339(SystemClock().now()),
            "revision": describe_revision(Path(__file__).parents[2]),
            "machine": describe_machine(),
            "summary": {
                name: {
                    "comparisons": len(found),
                    "largest_difference": max(row["largest_difference"] for row in found),
                    "largest_share_of_tolerance": max(row["largest_difference"] / row["tolerance"] for row in found),
                }
                for name, found in sorted(engines.items())
            },
            "comparisons": engines,
        },
    )


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
def llama_engine(engine_settings):
    """llama.cpp as an engine."""
    from legion.neuro_architecture.portability.engines.llama_cpp import LlamaCppEngine

    found = _engine("llama.cpp", engine_settings)
    return LlamaCppEngine(found.binary, version=found.title)


@pytest.fixture(scope="session")
def adapters_python(engine_settings) -> Path:
    """A Python that imports the `adapters` library."""
    return _engine("adapters", engine_settings).python
