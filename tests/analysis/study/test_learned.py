"""What can be learned from a study: fidelity, importance and parallel coordinates."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import rankdata

from legion.neuro_architecture.analysis.study import (
    fidelity_picture,
    importance_picture,
    importances,
    parallel_picture,
)
from legion.neuro_architecture.analysis.study.fidelity import ranks
from legion.neuro_architecture.analysis.study.importance import omega_squared


def test_each_pair_is_a_scatter_of_ranks_with_its_tau(record):
    known, unknown = fidelity_picture(record)["concat"]
    assert known["title"]["subtitle"] == [
        "τ = 0.61 (0.40 to 0.80), 3 trials",
        "share of the true top tenth found: 50%",
    ]
    dots = known["layer"][1]["data"]["values"]
    assert [(row["cheap_rank"], row["dear_rank"]) for row in dots] == [(2.0, 1.0), (1.0, 2.0), (3.0, 3.0)]
    assert known["layer"][1]["mark"]["type"] == "point"
    assert unknown["title"]["subtitle"][0] == "no τ: all scores are equal"
    assert unknown["mark"]["text"] == "no pairs in the record"


@given(st.lists(st.integers(0, 5), min_size=1, max_size=20))
def test_ranks_are_those_of_scipy(values):
    assert ranks(np.asarray(values, dtype=float)).tolist() == rankdata(values).tolist()


def test_omega_squared_agrees_with_a_case_by_hand():
    # means 2 and 6 around 4: between 24, within 4, total 28, mean square within 4 / 4
    found = omega_squared(np.asarray([0, 0, 0, 1, 1, 1]), np.asarray([1.0, 2.0, 3.0, 5.0, 6.0, 7.0]))
    assert found == pytest.approx((24 - 1) / (28 + 1))


def test_omega_squared_is_floored_at_nothing_and_absent_where_it_cannot_be_told():
    assert omega_squared(np.asarray([0, 0, 1, 1]), np.asarray([1.0, 2.0, 1.0, 2.0])) == 0.0
    assert omega_squared(np.asarray([0, 0, 0]), np.asarray([1.0, 2.0, 3.0])) is None
    assert omega_squared(np.asarray([0, 1, 2]), np.asarray([1.0, 2.0, 3.0])) is None
    assert omega_squared(np.asarray([0, 0, 1]), np.asarray([2.0, 2.0, 2.0])) is None
    assert omega_squared(np.asarray([], dtype=int), np.asarray([])) is None


@given(st.lists(st.tuples(st.integers(0, 3), st.floats(-100, 100)), min_size=1, max_size=20))
def test_omega_squared_is_a_share(pairs):
    found = omega_squared(np.asarray([level for level, _ in pairs]), np.asarray([value for _, value in pairs]))
    assert found is None or 0.0 <= found <= 1.0 + 1e-9


@pytest.fixture
def searched(record_of, trial_of):
    """Twelve trials: accuracy hangs on the learning rate alone, latency on nothing that varies."""
    rates = [0.001 * (place + 1) for place in range(12)]
    return record_of(
        [
            trial_of(f"lora-{place}", rate * 10, 10.0, traits={"learning_rate": rate, "targets": "ab"[place % 2]})
            for place, rate in enumerate(rates)
        ]
    )  # fmt: skip


def test_importance_of_an_ordered_trait_is_that_of_its_quarters(searched):
    first, second = importances(searched)
    assert (first["objective"], first["trait"], first["n"]) == ("accuracy", "learning_rate", 12)
    # quarters of 1..12: between 3 * (4.5^2 + 1.5^2) * 2 = 135, within 4 * 2 = 8, mean square within 1
    assert first["share"] == pytest.approx((135 - 3) / (143 + 1))
    assert second == {"objective": "accuracy", "trait": "targets", "share": 0.0, "n": 12}


def test_the_bars_are_the_importances(searched):
    spec = importance_picture(searched)
    (panel,) = spec["hconcat"]
    assert [row["text"] for row in panel["data"]["values"]] == ["92%", "0%"]
    assert panel["title"]["text"] == "accuracy"
    assert [layer["mark"]["type"] for layer in panel["layer"]] == ["bar", "text"]


def test_few_trials_are_said_to_be_few(record, searched):
    lines = importance_picture(record)["title"]["subtitle"]
    assert lines[-1] == "Only 4 fully trained trials, fewer than 10: these shares may be chance alone."
    assert not any("fewer" in line for line in importance_picture(searched)["title"]["subtitle"])


def test_a_share_that_rests_on_fewer_trials_says_on_how_many(searched):
    del searched["trials"][0]["traits"]["targets"]
    (panel,) = importance_picture(searched)["hconcat"]
    assert [row["text"] for row in panel["data"]["values"]] == ["92%", "0% (n = 11)"]


def lines_of(spec):
    found = {}
    for layer in spec["layer"][1:-2]:
        for row in layer["data"]["values"]:
            found.setdefault(row["id"], {})[row["axis"]] = row
    return found


def test_a_line_runs_through_every_trait_and_objective_that_varies(record):
    lines = lines_of(parallel_picture(record))
    assert list(lines["lora-aaaa00000001"]) == [
        *("strategy", "rank", "learning_rate", "bottleneck", "experts"),
        "accuracy",
        "latency_ms",
    ]
    assert len(lines) == 4
    assert [layer["mark"]["type"] for layer in parallel_picture(record)["layer"][1:4]] == ["line"] * 3


def test_better_is_up_and_what_is_not_set_lies_below(record):
    lines = lines_of(parallel_picture(record))
    best, worst = lines["lora-aaaa00000001"]["latency_ms"], lines["moe-dddd00000004"]["latency_ms"]
    assert (best["y"], worst["y"]) == (1.0, 0.0)
    assert lines["moe-dddd00000004"]["accuracy"]["y"] == 1.0
    unset = lines["moe-dddd00000004"]["rank"]
    assert (unset["value"], unset["is_unset"]) == ("not set", True)
    assert unset["y"] < -0.09


def test_a_wide_positive_range_is_drawn_by_its_logarithm(record_of, trial_of):
    rates = [0.0001, 0.001, 0.01]
    trials = [
        trial_of(f"lora-{rate}", 0.8 + rate, 10.0, traits={"learning_rate": rate, "rank": rank})
        for rate, rank in zip(rates, (1, 2, 3), strict=True)
    ]
    middle = lines_of(parallel_picture(record_of(trials)))["lora-0.001"]
    assert middle["learning_rate"]["y"] == pytest.approx(0.5)
    assert middle["rank"]["y"] == pytest.approx(0.5)


def test_the_front_is_drawn_last_and_thickest(record):
    drawn = parallel_picture(record)["layer"][1:-2]
    assert [layer["data"]["values"][0]["role"] for layer in drawn] == [
        "breaks a constraint",
        "dominated",
        "on the front",
    ]
    assert drawn[-1]["mark"]["strokeWidth"] > drawn[0]["mark"]["strokeWidth"]
