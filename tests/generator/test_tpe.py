from __future__ import annotations

import random
import statistics

import numpy as np
import pytest
from tests.generator.point_spaces import distance, small_space

from legion.foundation.rng import RandomStream
from legion.neuro_architecture.generator import build_generator
from legion.neuro_architecture.generator.tpe import TreeParzen
from legion.neuro_architecture.objectives import Observation


def nearest_found(name, seed, num_trials=60, batch=3):
    """How near the best of some trials lies to a point that the seed decides."""
    space = small_space()
    target = space.draw(random.Random(seed))
    generator = build_generator(name, space, RandomStream(seed))
    best = 2.0
    for _ in range(num_trials // batch):
        points = generator.propose(batch)
        told = [Observation(point=point, losses=(distance(space, point, target),)) for point in points]
        best = min(best, *(each.losses[0] for each in told))
        generator.tell(told)
    return best


@pytest.mark.parametrize("name", ["tpe", "evolution", "nsga2"])
def test_what_learns_comes_nearer_to_the_optimum_than_chance(name):
    seeds, num_trials = range(8), 90
    chance = statistics.fmean(nearest_found("random", seed, num_trials) for seed in seeds)
    assert statistics.fmean(nearest_found(name, seed, num_trials) for seed in seeds) < 0.8 * chance


def test_tpe_reaches_in_sixty_trials_what_chance_does_not_in_four_hundred():
    seeds = range(10)
    found = statistics.fmean(nearest_found("tpe", seed, 60) for seed in seeds)
    assert found < statistics.fmean(nearest_found("random", seed, 400) for seed in seeds)


def test_starts_come_first_and_in_order():
    space = small_space()
    assert TreeParzen(space, RandomStream(0)).propose(3) == list(space.starts)


def test_start_that_was_told_is_not_proposed():
    space = small_space()
    generator = TreeParzen(space, RandomStream(0))
    generator.tell([Observation(point=space.starts[0], losses=(1.0,))])
    assert generator.propose(2) == list(space.starts[1:])


def taught(space, seed, num_trials=80):
    """A generator that was told that the second branch is good."""
    generator, draw = TreeParzen(space, RandomStream(seed)), random.Random(seed)
    points = sorted({space.draw(draw) for _ in range(num_trials)})
    generator.tell([Observation(point=point, losses=(float(point[0] != 1),)) for point in (*space.starts, *points)])
    return generator


def test_good_branch_is_preferred():
    points = taught(small_space(), 0).propose(12)
    assert sum(point[0] == 1 for point in points) >= 9


def test_batch_is_spread():
    space = small_space()
    points = taught(space, 1).propose(12)
    rates = {space.traits(point)["learning_rate"] for point in points}
    assert len(rates) >= 3


def test_pending_points_count_until_they_are_told():
    space = small_space()
    generator = taught(space, 2)
    points = generator.propose(4)
    assert len(generator._pending) == 4
    generator.tell([Observation(point=point, losses=(0.0,)) for point in points])
    assert not generator._pending


def test_candidates_may_have_any_choice():
    space = small_space()
    generator = taught(space, 3, num_trials=300)
    split = generator._halves()
    codes, _ = generator._table.draw(split.bounds_srv, np.ones(4000, dtype=np.int64), np.random.default_rng(0))
    assert set(codes[:, 0].tolist()) == {0, 1, 2}


def test_window_bounds_what_is_remembered_of_trials():
    space, draw = small_space(), random.Random(0)
    generator = TreeParzen(space, RandomStream(0))
    points = sorted({space.draw(draw) for _ in range(1500)})
    generator.tell([Observation(point=point, losses=(draw.random(),)) for point in points])
    assert len(points) > generator._window.size == 512
    assert set(generator.propose(5)).isdisjoint(points)
