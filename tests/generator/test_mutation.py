from __future__ import annotations

import random
from collections import Counter

from hypothesis import given
from hypothesis import strategies as st
from tests.generator.point_spaces import small_space

from legion.neuro_architecture.generator.mutation import mutated


@given(st.integers(0, 2**32))
def test_step_leads_to_another_point_that_the_space_holds(seed):
    space, draw = small_space(), random.Random(seed)
    point = space.draw(draw)
    stepped = mutated(space, point, draw)
    assert space.holds(stepped)
    assert stepped != point


@given(st.integers(0, 2**32))
def test_step_within_a_branch_changes_one_choice(seed):
    space, draw = small_space(), random.Random(seed)
    point = space.draw(draw)
    stepped = mutated(space, point, draw, branch_share=0.0)
    assert sum(one != other for one, other in zip(point, stepped, strict=True)) == 1


@given(st.integers(0, 2**32))
def test_other_branch_keeps_the_training_that_both_have(seed):
    space, draw = small_space(), random.Random(seed)
    point = space.draw(draw)
    stepped = mutated(space, point, draw, branch_share=1.0)
    assert stepped[0] != point[0]
    assert stepped[-3:] == point[-3:]


def test_neighbour_on_an_ordered_axis_is_likelier_than_a_far_value():
    space, draw = small_space(), random.Random(0)
    start = space.starts[0]
    place = [axis.name for axis in space.axes(start)].index("learning_rate") + 1
    steps = Counter(abs(mutated(space, start, draw, branch_share=0.0)[place] - start[place]) for _ in range(1500))
    assert steps[1] > 1.4 * steps[2] > 0
