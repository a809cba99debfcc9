"""Dominance against a brute-force reading of its definition, and its laws."""

from __future__ import annotations

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from legion.neuro_architecture.spec.dominance import constrained_ranks, dominates, is_dominated, non_domination_ranks

SIGNS = (1, -1, -1)
POINT = st.tuples(*[st.integers(0, 4)] * 3)
POINTS = st.lists(POINT, max_size=12)


def is_worse(point, other):
    """`other` is at least as good everywhere and better somewhere, written out objective by objective."""
    return (
        other[0] >= point[0]
        and other[1] <= point[1]
        and other[2] <= point[2]
        and (other[0] > point[0] or other[1] < point[1] or other[2] < point[2])
    )


def peel(points):
    ranks, left, rank = {}, list(enumerate(points)), 1
    while left:
        front = [(i, p) for i, p in left if not any(is_worse(p, other) for _, other in left)]
        ranks |= {i: rank for i, _ in front}
        left = [item for item in left if item not in front]
        rank += 1
    return [ranks[index] for index in range(len(points))]


@given(POINTS)
def test_ranks_are_those_of_peeling_by_hand(points):
    assert non_domination_ranks(points, SIGNS) == peel(points)


@given(POINT, POINT)
def test_dominance_is_never_mutual_and_never_of_oneself(one, other):
    assert not dominates(one, one, SIGNS)
    assert not (dominates(one, other, SIGNS) and dominates(other, one, SIGNS))


@given(POINT, POINT, POINT)
def test_dominance_is_transitive(one, two, three):
    if dominates(one, two, SIGNS) and dominates(two, three, SIGNS):
        assert dominates(one, three, SIGNS)


@given(POINTS.filter(bool))
def test_some_point_is_on_the_front_and_every_other_is_dominated_by_the_rank_before(points):
    ranks = non_domination_ranks(points, SIGNS)
    assert 1 in ranks
    for point, rank in zip(points, ranks, strict=True):
        if rank > 1:
            assert any(r == rank - 1 and dominates(p, point, SIGNS) for p, r in zip(points, ranks, strict=True))


@given(POINTS, st.randoms(use_true_random=False))
def test_order_of_candidates_does_not_matter(points, random):
    order = list(range(len(points)))
    random.shuffle(order)
    shuffled = non_domination_ranks([points[index] for index in order], SIGNS)
    assert shuffled == [non_domination_ranks(points, SIGNS)[index] for index in order]


def test_equal_points_share_a_rank():
    assert non_domination_ranks([(1, 1, 1), (1, 1, 1), (0, 2, 2)], SIGNS) == [1, 1, 2]


@given(POINTS, POINT)
def test_a_point_is_dominated_where_one_of_the_others_dominates_it(points, point):
    assert is_dominated(point, points, SIGNS) == any(dominates(other, point, SIGNS) for other in points)


def test_the_feasible_come_first_and_the_others_by_how_far_they_are_off():
    points = [(5, 0, 0), (1, 1, 1), (2, 1, 1), (9, 0, 0), (9, 9, 9)]
    assert constrained_ranks(points, SIGNS, [0.5, 0.0, 0.0, 0.2, 0.5]) == [4, 2, 1, 3, 4]
    assert constrained_ranks(points[:2], SIGNS, [1.0, 2.0]) == [1, 2]
    assert constrained_ranks([], SIGNS, []) == []


def test_a_value_that_is_no_number_has_no_rank():
    with pytest.raises(ValueError, match="finite"):
        non_domination_ranks([(1.0, float("nan"), 2.0)], SIGNS)


@given(st.integers(0, 10))
def test_many_points_are_ranked_as_few_are(seed):
    draw = random.Random(seed)
    points = [tuple(draw.random() for _ in range(3)) for _ in range(150)]
    assert non_domination_ranks(points, SIGNS) == peel(points)
