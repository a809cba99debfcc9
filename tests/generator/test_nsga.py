from __future__ import annotations

import random

from tests.generator.point_spaces import small_space

from legion.foundation.rng import RandomStream
from legion.neuro_architecture.generator.nsga import Nsga2
from legion.neuro_architecture.objectives import Observation


def test_best_survive_whenever_they_were_told():
    space, draw = small_space(), random.Random(0)
    points = sorted({space.draw(draw) for _ in range(40)})
    generator = Nsga2(space, RandomStream(0), population=5)
    for place, point in enumerate(points):
        generator.tell([Observation(point=point, losses=(float(place), float(place)))])
    assert [parent for _, parent in generator._parents] == points[:5]


def test_child_takes_each_choice_from_a_parent_of_its_branch():
    space, draw = small_space(), random.Random(0)
    generator = Nsga2(space, RandomStream(0))
    for _ in range(50):
        first, second = space.draw(draw), space.draw(draw)
        if first[0] == second[0]:
            child = generator._crossed(first, second)
            assert space.holds(child)
            assert all(code in pair for code, *pair in zip(child, first, second, strict=True))
