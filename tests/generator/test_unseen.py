from __future__ import annotations

from tests.generator.point_spaces import tiny_space

from legion.foundation.rng import RandomStream
from legion.neuro_architecture.generator.unseen import UnseenPoints


def test_every_point_of_the_space_is_drawn_before_it_runs_out():
    space = tiny_space()
    unseen = UnseenPoints(space, RandomStream(0))
    points = unseen.take(space.size + 5, unseen.draw)
    assert len(points) == len(set(points)) == space.size
    assert unseen.draw() is None


def test_suggestion_that_is_known_is_replaced_by_a_draw():
    space = tiny_space()
    unseen = UnseenPoints(space, RandomStream(0))
    first, second = unseen.take(2, lambda: space.starts[0])
    assert first == space.starts[0] != second


def test_invalid_suggestion_is_replaced_by_a_draw():
    space = tiny_space()
    unseen = UnseenPoints(space, RandomStream(0))
    (point,) = unseen.take(1, lambda: (1, *[len(axis.values) for axis in space.branches[1].axes]))
    assert space.holds(point)
