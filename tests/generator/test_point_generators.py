"""What every generator keeps to, whichever it is."""

from __future__ import annotations

import math
import random

import pytest
from tests.generator.point_spaces import generator_of, seen_as, small_space, tiny_space

from legion.foundation.rng import RandomStream
from legion.neuro_architecture.generator import GENERATORS, PointGenerator
from legion.neuro_architecture.objectives import Observation


@pytest.fixture(params=GENERATORS)
def build(request):
    """`build(space, seed)`: one of each name."""

    def make(space, seed=0) -> PointGenerator:
        return generator_of(request.param, space, RandomStream(seed))

    make.named = request.param
    return make


def walk(generator, batches=(5, 1, 6, 2), seed=0, **told):
    """Asks and tells for a while; gives every point in its order."""
    draw, points = random.Random(seed), []
    for count in batches:
        batch = generator.propose(count)
        points += batch
        generator.tell([seen_as(point, draw, **told) for point in batch])
    return points


def test_generator_carries_its_name(build):
    assert build(small_space()).name == build.named


def test_nothing_is_proposed_twice_and_everything_is_held(build):
    space = small_space()
    points = walk(build(space))
    assert len(points) == len(set(points)) == 14
    assert all(space.holds(point) for point in points)


def test_points_are_of_plain_integers(build):
    assert {type(code) for point in walk(build(small_space())) for code in point} == {int}


def test_same_seed_and_calls_give_the_same_points(build):
    assert walk(build(small_space(), 3)) == walk(build(small_space(), 3))


def test_other_seed_gives_other_points(build):
    assert walk(build(small_space(), 3)) != walk(build(small_space(), 4))


def test_told_points_are_not_proposed(build):
    space, draw = tiny_space(), random.Random(1)
    told = {space.draw(draw) for _ in range(12)}
    generator = build(space)
    generator.tell([seen_as(point, draw) for point in sorted(told)])
    assert told.isdisjoint(generator.propose(4))


def test_space_that_runs_out_gives_what_is_left_and_then_nothing(build):
    space = tiny_space()
    generator = build(space)
    first = generator.propose(space.size - 3)
    assert len(first) == space.size - 3
    generator.tell([seen_as(point, random.Random(2)) for point in first])
    rest = generator.propose(10)
    assert len(rest) == 3
    assert len({*first, *rest}) == space.size
    assert generator.propose(1) == []


def test_nothing_is_proposed_where_nothing_is_asked(build):
    assert build(small_space()).propose(0) == []


@pytest.mark.parametrize("num_objectives", [1, 2, 5])
def test_violations_and_levels_are_understood(build, num_objectives):
    space, draw = small_space(), random.Random(5)
    generator = build(space)
    points = []
    for step in range(6):
        batch = generator.propose(3)
        points += batch
        violation = (0.0, 0.25, math.inf)[step % 3]
        generator.tell(
            [seen_as(p, draw, num_objectives=num_objectives, level=step % 2, violation=violation) for p in batch]
        )
    assert len(set(points)) == 18


def test_point_told_again_from_a_higher_level_is_understood(build):
    generator = build(small_space())
    for level in (0, 1, 2):
        generator.tell([Observation(point=point, losses=(float(sum(point)),), level=level) for point in points_of(12)])
    assert not set(generator.propose(5)) & set(points_of(12))


def points_of(count):
    draw = random.Random(9)
    return sorted({small_space().draw(draw) for _ in range(count)})
