"""A cheap stand-in for hypervolume contributions in many objectives."""

from __future__ import annotations

from typing import Final

import numpy as np
from numpy.typing import NDArray

from legion.foundation.rng import RandomStream

__all__ = ["draw_directions", "hypervolume_shares"]

Floats = NDArray[np.float64]
Singles = NDArray[np.float32]

_MARGIN: Final = 0.1
_DIGITS: Final = 9


def draw_directions(num_directions: int, num_objectives: int, stream: RandomStream) -> Singles:
    """Reciprocals of random directions in the positive orthant, even over the sphere, [m, d]."""
    draws_dm = np.random.Generator(np.random.PCG64(stream.seed)).standard_normal((num_directions, num_objectives))
    lengths_dm = np.maximum(np.abs(draws_dm), 1e-9)
    reciprocals_dm = np.linalg.norm(lengths_dm, axis=1, keepdims=True) / lengths_dm
    return np.ascontiguousarray(reciprocals_dm.T, dtype=np.float32)


def hypervolume_shares(losses_mn: Floats, reciprocals_md: Singles) -> Floats:
    """What the points would lose together without each, up to a common factor, in an estimate.

    A hypervolume is an average over directions w of max over points of min over objectives ((r - y) / w) to the power
    of m. What a point adds to it is the average of how far that maximum falls without it. Losses are scaled by the
    range of these points; the reference r lies a tenth of it behind the worst.

    Source: Golovin and Zhang 2020, arXiv:2006.04655.

    Args:
        losses_mn: m objectives of n points, less is better.
        reciprocals_md: From `draw_directions`.

    Returns:
        n shares, rounded so that the last bits of a machine's arithmetic decide nothing.
    """
    num_objectives, num_points = losses_mn.shape
    worst_m, best_m = losses_mn.max(axis=1), losses_mn.min(axis=1)
    spread_m = np.where(worst_m > best_m, worst_m - best_m, 1.0)
    gaps_mn = ((worst_m[:, None] - losses_mn) / spread_m[:, None] + _MARGIN).astype(np.float32)
    heights_dn = reciprocals_md[0][:, None] * gaps_mn[0]
    buffer_dn = np.empty_like(heights_dn)
    for reciprocals_d, gaps_n in zip(reciprocals_md[1:], gaps_mn[1:], strict=True):
        np.multiply(reciprocals_d[:, None], gaps_n, out=buffer_dn)
        np.minimum(heights_dn, buffer_dn, out=heights_dn)
    rows = np.arange(len(heights_dn))
    highest = heights_dn.argmax(axis=1)
    first_d = heights_dn[rows, highest].astype(np.float64)
    heights_dn[rows, highest] = 0.0
    second_d = heights_dn.max(axis=1).astype(np.float64)
    falls_d = first_d**num_objectives - second_d**num_objectives
    shares_n: Floats = np.bincount(highest, weights=falls_d, minlength=num_points) / len(rows)
    return shares_n.round(_DIGITS)
