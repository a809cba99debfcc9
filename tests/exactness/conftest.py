"""Where the measured differences go: `make exactness` names the file, a partial run by hand names none."""

from __future__ import annotations

import functools
import os
from pathlib import Path

import pytest
from tests.packed.conftest import double_norms  # noqa: F401 - a fixture
from tests.packed.harness import train_packed, zoo_trials

from legion.foundation.clock import SystemClock, rfc3339
from legion.foundation.files import write_json
from legion.foundation.machine import describe_machine
from legion.foundation.revision import describe_revision

STEPS = 100
_RESULTS = os.environ.get("LEGION_EXACTNESS_RESULTS")


@pytest.fixture(scope="session")
def packed():
    """`packed(family, task, precision)`: final weights of all kinds that fit, trained in one pool."""

    @functools.cache
    def train(family: str, task: str, precision: str):
        return train_packed(family, task, zoo_trials(family, task), STEPS, precision=precision)[0]

    return train


@pytest.fixture
def measured(record_property):
    """Notes one pair of kind and base for the results."""
    return lambda row: record_property("exactness", row)


def pytest_sessionfinish(session: pytest.Session, exitstatus: int) -> None:
    """Writes what a whole run measured, passed or failed, with machine, date and commit."""
    if _RESULTS is None or exitstatus > pytest.ExitCode.TESTS_FAILED:
        return
    rows = [
        value
        for item in session.items
        for name, value in item.user_properties
        if name == "exactness" and isinstance(value, dict)
    ]
    largest: dict[str, dict[str, float]] = {}
    for row in rows:
        families = largest.setdefault(row["strategy"], {})
        families[row["family"]] = max(families.get(row["family"], 0.0), row["fp32"])
    write_json(
        Path(_RESULTS),
        {
            "command": "make exactness",
            "measured_at": rfc3339(SystemClock().now()),
            "revision": describe_revision(Path(__file__).parents[2]),
            "machine": describe_machine(),
            "what": (
                f"largest difference between any weight of a packed trial and of the same training by PEFT alone, "
                f"after {STEPS} steps; peft_to_itself: of two such trainings by PEFT whose batches hold the same rows "
                "in another order, measured where the tolerance is exceeded"
            ),
            "tolerances": {"fp32": 1e-5, "fp64": 1e-9},
            "has_passed": exitstatus == 0,
            "comparisons": len(rows),
            "within_fp32_tolerance": sum(row["fp32"] <= 1e-5 for row in rows),
            "within_fp64_tolerance": sum(row["fp64"] <= 1e-9 for row in rows),
            "largest_fp32_by_strategy_and_family": largest,
            "pairs": rows,
        },
    )
