"""Ranks and hypervolumes beside pymoo's and moocore's."""

from __future__ import annotations

import moocore
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pymoo.util.nds.non_dominated_sorting import NonDominatedSorting

from legion.neuro_architecture.objectives import hypervolume, hypervolume_contributions
from legion.neuro_architecture.spec.dominance import non_domination_ranks


@st.composite
def clouds(draw, most=40):
    """Points with ties: small whole numbers half of the time."""
    count, width = draw(st.integers(1, most)), draw(st.integers(2, 5))
    source = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    return source.integers(0, 6, (count, width)).astype(float) if draw(st.booleans()) else source.random((count, width))


@settings(max_examples=60)
@given(clouds())
def test_ranks_are_pymoos(points):
    fronts = NonDominatedSorting(method="fast_non_dominated_sort").do(points)
    expected = np.zeros(len(points), dtype=int)
    for rank, members in enumerate(fronts, start=1):
        expected[members] = rank
    assert non_domination_ranks(points.tolist(), [-1] * points.shape[1]) == expected.tolist()


@settings(max_examples=60)
@given(clouds(most=20))
def test_hypervolumes_are_moocores(points):
    reference = [1.1 * max(1.0, points.max())] * points.shape[1]
    found = hypervolume(points.tolist(), reference, [-1] * points.shape[1])
    assert found == pytest.approx(moocore.hypervolume(points, ref=reference), rel=1e-10)


@settings(max_examples=30)
@given(clouds(most=12))
def test_contributions_are_moocores(points):
    distinct = np.unique(points, axis=0)
    reference = [1.1 * max(1.0, points.max())] * points.shape[1]
    found = hypervolume_contributions(distinct.tolist(), reference, [-1] * points.shape[1])
    expected = moocore.hv_contributions(distinct, ref=reference, ignore_dominated=False)
    assert found == pytest.approx(expected, rel=1e-9, abs=1e-9)
