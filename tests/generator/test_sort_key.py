from __future__ import annotations

import numpy as np

from legion.neuro_architecture.generator.sort_key import crowding_distances, sort_keys
from legion.neuro_architecture.objectives import Observation


def order(*observations):
    found = sort_keys(observations)
    return sorted(range(len(found)), key=lambda index: found[index])


def seen(*losses, level=0, violation=0.0):
    return Observation(point=(0, 0), losses=losses, level=level, violation=violation)


def test_higher_level_comes_before_lower_losses():
    assert order(seen(0.0, 0.0), seen(9.0, 9.0, level=1)) == [1, 0]


def test_feasible_comes_before_lower_losses_and_less_violated_before_more():
    assert order(seen(0.0, 0.0, violation=2.0), seen(5.0, 5.0, violation=1.0), seen(9.0, 9.0)) == [2, 1, 0]


def test_non_dominated_comes_before_dominated():
    assert order(seen(2.0, 2.0), seen(1.0, 1.0), seen(3.0, 3.0)) == [1, 0, 2]


def test_lonely_comes_before_crowded():
    assert order(seen(0.0, 1.0), seen(0.1, 0.9), seen(0.15, 0.85), seen(0.6, 0.4), seen(1.0, 0.0))[-1] in {1, 2}


def test_crowding_is_the_sum_of_gaps_around_and_infinite_at_the_ends():
    found = crowding_distances(np.array([[0.0, 4.0], [1.0, 2.0], [4.0, 0.0]]))
    assert found.tolist() == [np.inf, 2.0, np.inf]


def test_equal_points_have_no_gap():
    found = crowding_distances(np.zeros((4, 2)))
    assert sorted(found.tolist())[:2] == [0.0, 0.0]
