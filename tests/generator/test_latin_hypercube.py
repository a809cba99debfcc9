from __future__ import annotations

from collections import Counter

import pytest
from tests.generator.point_spaces import small_space

from legion.foundation.rng import RandomStream
from legion.neuro_architecture.generator.latin_hypercube import LatinHypercube


def test_branches_take_turns():
    points = LatinHypercube(small_space(), RandomStream(0)).propose(24)
    assert [point[0] for point in points] == [0, 1, 2] * 8


def test_every_value_of_the_training_comes_as_often_as_its_prior_says():
    space, strata = small_space(), 48
    points = LatinHypercube(space, RandomStream(0)).propose(strata * len(space.branches))
    for number, branch in enumerate(space.branches):
        if branch.size < 10 * strata:
            continue  # what is met twice there gives way to draws from the prior
        counts = Counter(point[-3] for point in points if point[0] == number)
        for code, weight in enumerate(branch.axes[-3].weights):
            assert counts[code] == pytest.approx(weight * strata, abs=4)


def test_small_batches_share_one_design():
    space = small_space()
    one = LatinHypercube(space, RandomStream(0))
    together = LatinHypercube(space, RandomStream(0)).propose(12)
    assert [*one.propose(4), *one.propose(4), *one.propose(4)] == together
