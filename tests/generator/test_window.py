from __future__ import annotations

import random

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from legion.foundation.rng import RandomStream
from legion.neuro_architecture.generator.window import ObservationWindow
from legion.neuro_architecture.objectives import Observation
from legion.neuro_architecture.spec.dominance import dominates


def counted(observations):
    """Dominators of each among its like, from scratch."""
    return [
        sum(
            dominates(other.losses, one.losses, [-1] * len(one.losses))
            for other in observations
            if other.level == one.level and (other.violation <= 0.0) == (one.violation <= 0.0)
        )
        for one in observations
    ]


told = st.builds(
    Observation,
    point=st.tuples(st.integers(0, 1), st.integers(0, 8)),
    losses=st.tuples(*[st.integers(0, 3).map(float)] * 3),
    level=st.integers(0, 1),
    violation=st.sampled_from([0.0, 0.5]),
)


@given(st.lists(told, max_size=40), st.integers(1, 9))
def test_kept_counts_of_dominators_equal_those_from_scratch(observations, capacity):
    window, slots = ObservationWindow(capacity, RandomStream(0)), {}
    for observation in observations:
        slots[window.put(observation)] = observation
        assert len(slots) == window.size <= capacity
    assert window.dominators.tolist() == counted([slots[slot] for slot in range(window.size)])


def test_newcomer_takes_the_place_of_the_oldest():
    window = ObservationWindow(2, RandomStream(0))
    assert [window.put(Observation(point=(0, code), losses=(1.0,))) for code in range(5)] == [0, 1, 0, 1, 0]


def test_point_told_again_keeps_its_slot():
    window = ObservationWindow(4, RandomStream(0))
    for loss in (3.0, 2.0):
        window.put(Observation(point=(0, 7), losses=(0.5,)))
        assert window.put(Observation(point=(0, 1), losses=(loss,))) == 1
    assert window.size == 2


def filled(*rows):
    window = ObservationWindow(64, RandomStream(0))
    for code, (losses, level, violation) in enumerate(rows):
        window.put(Observation(point=(0, code), losses=losses, level=level, violation=violation))
    return window


def test_best_are_of_the_highest_level_then_least_violated_then_least_dominated():
    window = filled(
        ((0.0, 0.0), 0, 0.0), ((1.0, 1.0), 1, 3.0), ((2.0, 2.0), 1, 0.0), ((1.0, 1.0), 1, 0.0), ((0.0, 0.0), 1, 0.5)
    )
    assert [window.best(count)[count - 1] for count in range(1, 6)] == [3, 2, 4, 1, 0]


def test_those_tied_are_told_apart_by_what_they_add_to_the_hypervolume():
    rows = [((0.0, 1.0), 0, 0.0), ((0.49, 0.52), 0, 0.0), ((0.2, 0.2), 0, 0.0), ((1.0, 0.0), 0, 0.0)]
    assert filled(*rows).best(1).tolist() == [2]


def test_best_of_many_objectives_are_distinct_and_as_many_as_asked():
    draw = random.Random(0)
    window = filled(*[(tuple(draw.random() for _ in range(5)), 0, 0.0) for _ in range(64)])
    for count in (1, 10, 25, 63, 64, 80):
        assert len(np.unique(window.best(count))) == min(count, 64)


def test_other_number_of_objectives_is_refused():
    with pytest.raises(ValueError, match="1 objectives told, 2 before"):
        filled(((0.0, 0.0), 0, 0.0), ((0.0,), 0, 0.0))
