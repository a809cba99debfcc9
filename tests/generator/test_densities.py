from __future__ import annotations

import random

import numpy as np
from tests.generator.point_spaces import small_space

from legion.neuro_architecture.generator.densities import PointTable


def row_lengths(space):
    return [len(space.branches), *(len(axis.values) for branch in space.branches for axis in branch.axes)]


def drawn(space, count, seed=0):
    draw = random.Random(seed)
    return [space.draw(draw) for _ in range(count)]


def test_probabilities_of_each_row_sum_to_one_whatever_was_counted():
    space = small_space()
    table = PointTable(space)
    counts = table.count(np.array([table.cells(point) for point in drawn(space, 40)]))
    probabilities = table.probabilities(counts, 2.0)
    for row, length in zip(probabilities, row_lengths(space), strict=True):
        assert np.isclose(row[:length].sum(), 1.0)
        assert (row[:length] > 0.0).all()


def test_without_trials_the_density_is_the_prior():
    space = small_space()
    table = PointTable(space)
    probabilities = table.probabilities(np.zeros_like(table.prior_rv), 3.0)
    assert np.allclose(probabilities[table.prior_rv > 0.0], table.prior_rv[table.prior_rv > 0.0])


def test_neighbours_on_an_ordered_axis_share_a_count_and_words_do_not():
    space = small_space()
    table = PointTable(space)
    start = space.starts[0]
    cells = table.cells(start)
    raised = table.probabilities(table.count(cells[None]), 1e-9)
    names = [axis.name for axis in space.axes(start)]
    rate, form = (cells[1 + names.index(name)] for name in ("learning_rate", "form"))
    assert raised.ravel()[rate] > raised.ravel()[rate + 1] > 0.1
    assert np.isclose(raised.ravel()[form], 1.0)


def test_draws_have_the_frequencies_of_their_density():
    space = small_space()
    table = PointTable(space)
    probabilities = table.probabilities(np.zeros_like(table.prior_rv), 1.0)
    bounds = table.bounds(probabilities)[None]
    _, cells = table.draw(bounds, np.zeros(20_000, dtype=np.int64), np.random.default_rng(0))
    counts = table.count(cells)
    shares = counts / counts.sum(axis=1, keepdims=True)
    assert np.abs(shares - table.prior_rv)[table.prior_rv > 0.0].max() < 0.03
    assert counts[table.prior_rv <= 0.0].sum() == 0.0


def test_drawn_codes_and_cells_are_of_one_point():
    space = small_space()
    table = PointTable(space)
    bounds = table.bounds(table.probabilities(np.zeros_like(table.prior_rv), 1.0))[None]
    codes, cells = table.draw(bounds, np.zeros(50, dtype=np.int64), np.random.default_rng(1))
    for each, expected in zip(codes, cells, strict=True):
        point = table.point(each)
        assert len(point) == 1 + len(space.axes(point))
        assert table.cells(point).tolist() == expected.tolist()
