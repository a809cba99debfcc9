"""Against a count of cells: on a grid of whole numbers a hypervolume is a number of unit cubes."""

import itertools

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from legion.neuro_architecture.objectives import hypervolume, hypervolume_contributions, reference_point

SIDE = 5


def points_of(num_objectives):
    point = st.tuples(*[st.integers(0, SIDE)] * num_objectives)
    return st.lists(point, min_size=0, max_size=9)


def cells(points, num_objectives):
    """Unit cubes below SIDE that some point dominates, all to be minimised."""
    corners = itertools.product(range(SIDE), repeat=num_objectives)
    return sum(any(all(x <= c for x, c in zip(point, corner, strict=True)) for point in points) for corner in corners)


@pytest.mark.parametrize("num_objectives", [1, 2, 3, 4, 5])
def test_hypervolume_is_the_number_of_dominated_cells(num_objectives):
    @settings(max_examples=60, deadline=None)
    @given(points_of(num_objectives))
    def check(points):
        reference, signs = [SIDE] * num_objectives, [-1] * num_objectives
        assert hypervolume(points, reference, signs) == cells(points, num_objectives)

    check()


@settings(max_examples=60, deadline=None)
@given(points_of(3))
def test_a_contribution_is_what_is_lost_without_the_point(points):
    reference, signs = [SIDE] * 3, [-1] * 3
    whole = hypervolume(points, reference, signs)
    found = hypervolume_contributions(points, reference, signs)
    for index, contribution in enumerate(found):
        rest = points[:index] + points[index + 1 :]
        assert contribution == pytest.approx(whole - hypervolume(rest, reference, signs), abs=1e-9)


def test_signs_turn_objectives_around():
    assert hypervolume([(0.8, 10.0), (0.9, 12.0)], (0.5, 20.0), (1, -1)) == pytest.approx(0.3 * 10 + 0.1 * 8)


def test_points_behind_the_reference_point_add_nothing():
    assert hypervolume([(0.4, 10.0), (0.5, 1.0)], (0.5, 20.0), (1, -1)) == 0.0


def test_reference_point_lies_a_tenth_of_the_range_behind_the_worst():
    assert reference_point([(0.8, 10.0), (0.9, 30.0)], (1, -1)) == pytest.approx([0.79, 32.0])
    assert reference_point([(0.0, 10.0)], (1, -1)) == pytest.approx([-0.1, 11.0])
    with pytest.raises(ValueError, match="no point"):
        reference_point([], (1, -1))
