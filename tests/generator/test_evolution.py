from __future__ import annotations

import random

from tests.generator.point_spaces import small_space

from legion.foundation.rng import RandomStream
from legion.neuro_architecture.generator.evolution import RegularisedEvolution
from legion.neuro_architecture.objectives import Observation


def told(points, loss):
    return [Observation(point=point, losses=(loss,)) for point in points]


def test_oldest_dies_however_good_it_was():
    space, draw = small_space(), random.Random(0)
    generator = RegularisedEvolution(space, RandomStream(0), population=4, sample=2)
    generator.tell(told(space.starts, 0.0))
    generator.tell(told(sorted({space.draw(draw) for _ in range(9)} - set(space.starts)), 1.0))
    assert len(generator._living) == 4
    assert not set(space.starts) & set(generator._living)


def test_child_is_a_step_from_the_winner():
    space = small_space()
    generator = RegularisedEvolution(space, RandomStream(1), population=3, sample=3)
    generator.tell([Observation(point=point, losses=(float(place),)) for place, point in enumerate(space.starts)])
    same = [child for child in generator.propose(20) if child[0] == space.starts[0][0]]
    near = [sum(a != b for a, b in zip(child, space.starts[0], strict=True)) for child in same]
    assert len(same) > 10
    assert sorted(near)[len(near) // 2] == 1
