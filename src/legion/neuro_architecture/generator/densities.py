"""Products of smoothed categoricals: where in a space trials lie, as two tables that are cheap to add to."""

from __future__ import annotations

from typing import Final, final

import numpy as np
from numpy.typing import NDArray

from legion.neuro_architecture.space import Point, PointSpace

__all__ = ["PointTable"]

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]

# The share of a count that each neighbour on an ordered axis gets.
_SMEAR: Final = 0.15


@final
class PointTable:
    """Every choice of a space as a cell of one table, for arithmetic on all of them at once.

    Row 0 is the choice of a branch; each axis of each branch has a row of its own. A point is the list of its cells,
    filled up with a cell outside the table (`num_cells - 1`) where its branch has fewer axes than another.

    Args:
        space: What points lie in.
    """

    def __init__(self, space: PointSpace) -> None:
        axes = [branch.axes for branch in space.branches]
        num_branches = len(axes)
        self._num_axes = max(map(len, axes))
        self.num_rows = 1 + sum(map(len, axes))
        self.num_values = max(num_branches, *(len(axis.values) for each in axes for axis in each))
        self.width = 1 + self._num_axes
        self.num_cells = self.num_rows * self.num_values + 1
        self._lengths = [len(each) for each in axes]
        self._rows_ba = np.zeros((num_branches, self._num_axes), dtype=np.int64)
        self.prior_rv = np.zeros((self.num_rows, self.num_values))
        self._pairs_rv = np.zeros((self.num_rows, self.num_values - 1))
        self.prior_rv[0, :num_branches] = space.shares
        row = 1
        for number, each in enumerate(axes):
            for place, axis in enumerate(each):
                self._rows_ba[number, place] = row
                self.prior_rv[row, : len(axis.values)] = axis.weights
                self._pairs_rv[row, : len(axis.values) - 1] = _SMEAR * axis.is_ordered
                row += 1
        self._is_padding_rv = self.prior_rv <= 0.0
        self._stay_rv = np.ones_like(self.prior_rv)
        self._stay_rv[:, :-1] -= self._pairs_rv
        self._stay_rv[:, 1:] -= self._pairs_rv

    def cells(self, point: Point) -> Ints:
        """The cells of a point, [1 + axes]."""
        number, *codes = point
        cells = np.full(self.width, self.num_cells - 1, dtype=np.int64)
        cells[0] = number
        cells[1 : 1 + len(codes)] = self._rows_ba[number, : len(codes)] * self.num_values + codes
        return cells

    def count(self, cells_na: Ints) -> Floats:
        """How many points have each choice, [rows, values]."""
        counts = np.bincount(cells_na.ravel(), minlength=self.num_cells)[:-1]
        return counts.reshape(self.num_rows, self.num_values).astype(np.float64)

    def probabilities(self, counts_rv: Floats, strength: float) -> Floats:
        """Of each choice in its row: counts, smeared to neighbours on ordered axes, and `strength` pseudo-counts that
        follow the prior; 1 in cells that are no choice.
        """
        smeared_rv = counts_rv * self._stay_rv
        smeared_rv[:, 1:] += counts_rv[:, :-1] * self._pairs_rv
        smeared_rv[:, :-1] += counts_rv[:, 1:] * self._pairs_rv
        smeared_rv += strength * self.prior_rv
        smeared_rv /= (counts_rv.sum(axis=1) + strength)[:, None]
        smeared_rv[self._is_padding_rv] = 1.0
        return smeared_rv

    def bounds(self, probabilities_rv: Floats) -> Floats:
        """Where the choices of each row end on the way from 0 to 1; infinite for the last."""
        bounds_rv = np.cumsum(probabilities_rv, axis=1)
        bounds_rv[:, :-1][self._is_padding_rv[:, 1:]] = np.inf
        bounds_rv[:, -1] = np.inf
        return bounds_rv

    def draw(self, bounds_srv: Floats, sources_n: Ints, draws: np.random.Generator) -> tuple[Ints, Ints]:
        """A point, held by the space or not, from each of the sources, as codes and as cells, [n, width].

        Args:
            bounds_srv: From `bounds`, for each source.
            sources_n: Which source each point is drawn from.
            draws: Source of the draws.
        """
        uniform_na = draws.random((len(sources_n), self.width))
        codes_na = np.empty(uniform_na.shape, dtype=np.int64)
        codes_na[:, 0] = (uniform_na[:, :1] >= bounds_srv[sources_n, 0]).sum(axis=1)
        rows_na = self._rows_ba[codes_na[:, 0]]
        codes_na[:, 1:] = (uniform_na[:, 1:, None] >= bounds_srv[sources_n[:, None], rows_na]).sum(axis=2)
        cells_na = codes_na.copy()
        cells_na[:, 1:] += rows_na * self.num_values
        cells_na[:, 1:][rows_na == 0] = self.num_cells - 1
        return codes_na, cells_na

    def point(self, codes_a: Ints) -> Point:
        """The point of drawn codes."""
        number, *codes = codes_a.tolist()
        return (number, *codes[: self._lengths[number]])
