from __future__ import annotations

import numpy as np
import pytest

from legion.foundation.rng import RandomStream
from legion.neuro_architecture.generator.scalarisation import draw_directions, hypervolume_shares
from legion.neuro_architecture.objectives import hypervolume_contributions


@pytest.mark.parametrize("num_objectives", [2, 3, 4])
def test_shares_order_points_as_exact_contributions_do(num_objectives):
    draws = np.random.default_rng(0)
    points_nm = np.abs(draws.standard_normal((8, num_objectives)))
    points_nm = 1.0 - points_nm / np.linalg.norm(points_nm, axis=1, keepdims=True)
    reciprocals_md = draw_directions(20_000, num_objectives, RandomStream(0))
    shares = hypervolume_shares(np.ascontiguousarray(points_nm.T), reciprocals_md)
    low, high = points_nm.min(axis=0), points_nm.max(axis=0)
    scaled = (points_nm - low) / (high - low)
    exact = np.array(hypervolume_contributions(scaled, [1.1] * num_objectives, [-1] * num_objectives))
    assert shares / shares.sum() == pytest.approx(exact / exact.sum(), abs=0.02)


def test_doubles_add_nothing():
    losses_mn = np.array([[0.0, 0.0, 1.0], [0.0, 0.0, 1.0]])
    assert hypervolume_shares(losses_mn, draw_directions(64, 2, RandomStream(0)))[:2].tolist() == [0.0, 0.0]
