"""Rank correlation beside an independent library's."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import kendalltau

from legion.neuro_architecture.scheduler import kendall_tau, measure_fidelity


@given(st.lists(st.tuples(st.integers(0, 5), st.integers(0, 5)), min_size=3, max_size=30))
def test_tau_is_scipys_ties_and_all(pairs):
    left, right = zip(*pairs, strict=True)
    found = kendall_tau(left, right)
    if found is None:
        assert len(set(left)) == 1 or len(set(right)) == 1
    else:
        assert found == pytest.approx(kendalltau(left, right).statistic, abs=1e-12)


def test_recall_counts_the_best_tenth_of_each_look():
    dear = np.arange(20.0)
    cheap = dear.copy()
    cheap[[1, 19]] = cheap[[19, 1]]  # the second best looks worst
    found = measure_fidelity("cheap", "dear", list(zip(cheap, dear, strict=True)))
    assert found.recall_top_tenth == 0.5
    assert found.tau == pytest.approx(kendalltau(cheap, dear).statistic)
    assert found.low < found.tau < found.high
    assert found.is_trusted


def test_too_few_trials_and_ties_alone_give_a_reason_and_no_number():
    few = measure_fidelity("cheap", "dear", [(0.0, 1.0)] * 4)
    tied = measure_fidelity("cheap", "dear", [(0.0, float(place)) for place in range(6)])
    assert (few.tau, tied.tau, few.is_trusted) == (None, None, None)
    assert "5 are needed" in few.reason
    assert "same value" in tied.reason


def test_a_look_that_says_the_opposite_is_not_trusted():
    found = measure_fidelity("cheap", "dear", [(float(-place), float(place)) for place in range(8)])
    assert found.tau == -1.0
    assert found.is_trusted is False
