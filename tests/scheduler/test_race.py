"""A verdict of the race is right as often as it says, and hears only paired evidence."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from legion.neuro_architecture.scheduler import race

losses = st.lists(st.floats(0.0, 3.0), min_size=2, max_size=40)


@given(losses)
def test_no_trial_is_worse_than_itself(values):
    assert not race(values, values, delta=0.1).is_worse


@given(st.lists(st.tuples(st.floats(0.0, 3.0), st.floats(0.0, 3.0)), min_size=2, max_size=40))
def test_two_trials_are_never_both_worse(pairs):
    one, other = zip(*pairs, strict=True)
    found = race(one, other, delta=0.2), race(other, one, delta=0.2)
    assert not (found[0].is_worse and found[1].is_worse)
    assert found[0].mean == pytest.approx(-found[1].mean, abs=1e-12)


def test_the_bound_is_that_of_the_theorem():
    one, other = [0.3, 0.1, 0.2, 0.4], [0.1, 0.1, 0.1, 0.1]
    found = race(one, other, delta=0.1, clip=0.25)
    log = math.log(20.0)
    clipped = [0.2, 0.0, 0.1, 0.25]
    expected = math.sqrt(2.0 * np.var(clipped, ddof=1) * log / 4) + 7.0 * 0.5 * log / 9.0
    assert found.mean == pytest.approx(np.mean(clipped))
    assert found.bound == pytest.approx(expected, rel=1e-12)


def test_alike_trials_are_told_apart_wrongly_no_more_often_than_delta():
    draws = np.random.default_rng(0)
    wrong = sum(race(draws.exponential(0.7, 100), draws.exponential(0.7, 100), delta=0.1).is_worse for _ in range(400))
    assert wrong <= 0.1 * 400


def test_a_clear_difference_on_the_same_examples_is_heard_where_the_means_alone_would_drown_it():
    hard = np.random.default_rng(1).exponential(2.0, 256)
    found = race(hard + 0.2, hard, delta=0.05)
    assert found.is_worse
    assert np.std(hard) / 16.0 > 0.1  # the standard error of one mean is half the difference


def test_a_larger_sample_gives_a_closer_bound():
    wide = race([1.0, 0.0] * 10, [0.0, 0.0] * 10, delta=0.1)
    assert race([1.0, 0.0] * 100, [0.0, 0.0] * 100, delta=0.1).bound < wide.bound


def test_other_predictions_are_refused():
    with pytest.raises(ValueError, match="not the same"):
        race([1.0, 2.0], [1.0], delta=0.1)
    with pytest.raises(ValueError, match="probability"):
        race([1.0], [1.0], delta=1.5)


def test_one_prediction_says_nothing():
    assert not race([3.0], [0.0], delta=0.1).is_worse
