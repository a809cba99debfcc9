"""Every term is a ratio to the bare base, so the bare base scores the signed sum of the weights."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from legion.neuro_architecture.evaluator.terms import NORMALISATION, baseline_score, composite_score, normalise
from legion.neuro_architecture.spec.evaluation import DEFAULT_WEIGHTS, OBJECTIVES
from legion.neuro_architecture.spec.measurement import Measurement

NAMES = [objective.name for objective in OBJECTIVES]
PAIRED = ("accuracy", "robustness", "flops_per_example", "peak_memory_mb", "size_on_disk_bytes", "safety_violations")
NUMBER = st.floats(1e-3, 1e6)


def measured(**changes):
    values = dict.fromkeys(PAIRED, 2.0) | {f"base_{name}": 2.0 for name in PAIRED} | {"latency_ratio": 1.0}
    return {name: Measurement.measured(value, "u") for name, value in (values | changes).items()}


@given(st.fixed_dictionaries(dict.fromkeys(PAIRED, NUMBER)), st.dictionaries(st.sampled_from(NAMES), st.floats(0, 10)))
def test_a_candidate_that_measures_as_the_base_scores_as_the_base(values, weights):
    terms, reasons = normalise(measured(**values, **{f"base_{name}": value for name, value in values.items()}))
    assert not reasons
    assert composite_score(terms, weights) == pytest.approx(baseline_score(weights))


def test_default_weights_give_the_base_one_tenth():
    assert baseline_score(DEFAULT_WEIGHTS) == pytest.approx(0.5 - 0.2 - 0.15 - 0.1 + 0.05)


@pytest.mark.parametrize(
    ("name", "better"),
    [
        ("accuracy", 3.0), ("robustness", 3.0), ("latency_ratio", 0.5), ("flops_per_example", 1.0),
        ("peak_memory_mb", 1.0), ("size_on_disk_bytes", 1.0), ("safety_violations", 0.0),
    ],
)  # fmt: skip
def test_a_better_measurement_raises_the_score(name, better):
    terms, _ = normalise(measured(**{name: better}))
    assert composite_score(terms, DEFAULT_WEIGHTS) > baseline_score(DEFAULT_WEIGHTS)


def test_cost_is_the_geometric_mean_of_three_ratios():
    terms, _ = normalise(measured(flops_per_example=4.0, peak_memory_mb=8.0, size_on_disk_bytes=2.0))
    assert terms["cost"] == pytest.approx((2.0 * 4.0 * 1.0) ** (1 / 3))


def test_safety_counts_one_more_on_both_sides():
    terms, _ = normalise(measured(safety_violations=5.0, base_safety_violations=0.0))
    assert terms["safety"] == 6.0


def test_no_score_without_a_weighted_term():
    terms, reasons = normalise(measured() | {"accuracy": Measurement.absent("share", "no test row")})
    assert reasons["accuracy"] == "accuracy: no test row"
    assert composite_score(terms, {"accuracy": 1.0}) is None
    assert composite_score(terms, {"accuracy": 0.0, "latency": 1.0}) == -1.0


def test_a_base_of_zero_makes_a_ratio_undefined_and_says_so():
    _, reasons = normalise(measured(base_robustness=0.0))
    assert "base_robustness is zero" in reasons["robustness"]


def test_what_was_not_measured_is_named():
    _, reasons = normalise({})
    assert set(reasons) == set(NAMES) == set(NORMALISATION)
