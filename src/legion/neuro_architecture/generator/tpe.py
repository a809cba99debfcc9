"""Tree-structured Parzen estimator for several objectives, constraints, levels and known priors."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, final

import numpy as np
from numpy.typing import NDArray

from legion.foundation.rng import RandomStream
from legion.neuro_architecture.generator.densities import PointTable
from legion.neuro_architecture.generator.unseen import UnseenPoints
from legion.neuro_architecture.generator.window import ObservationWindow
from legion.neuro_architecture.objectives import Observation
from legion.neuro_architecture.space import Point, PointSpace

__all__ = ["TreeParzen"]

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]

_WINDOW: Final = 512
_GOOD_SHARE: Final = 0.15
_MOST_GOOD: Final = 25
# Candidates from the prior, so that no region is ever out of reach.
_PRIOR_SHARE: Final = 0.125
# Pseudo-counts of the prior: at first and after many trials.
_FIRST_STRENGTH: Final = 4.0
_LAST_STRENGTH: Final = 1.0
_FADE: Final = 50.0
# Scores are compared after rounding, so that the last bits of a machine's logarithms decide nothing.
_DIGITS: Final = 9


@final
class TreeParzen:
    """Proposes where good trials are dense and the others are not.

    Of the latest 512 trials the best min(ceil(0.15 n), 25) are good, the others bad. Each density is a probability for
    each branch, times one smoothed categorical for each of its axes; the prior counts as a few trials, fewer as more
    are told. Candidates are drawn from the good density, one in eight from the prior; the one with the largest
    log good - log bad is proposed. What was proposed and not told counts as bad, which spreads a batch.

    At first come the space's starts, and then until `num_startup` trials are told points by prior weight.

    Source: Bergstra et al. 2011 (NeurIPS 24) for the estimator; Ozaki et al. 2022, doi:10.1613/jair.1.13188, for
    several objectives; arXiv:2304.11127 for what its parts do. Ranked as `ObservationWindow.best` does.

    Args:
        space: What may be proposed.
        stream: Source of its draws.
        num_startup: Trials before the densities are used.
        num_candidates: Draws for each point proposed.
    """

    name: Final = "tpe"

    def __init__(
        self, space: PointSpace, stream: RandomStream, *, num_startup: int = 10, num_candidates: int = 64
    ) -> None:
        self._unseen = UnseenPoints(space, stream)
        self._table = PointTable(space)
        self._draws = np.random.Generator(np.random.PCG64(stream.child("tpe").seed))
        self._num_startup = num_startup
        self._sources = (np.arange(num_candidates) < _PRIOR_SHARE * num_candidates).astype(np.int64)
        self._window = ObservationWindow(_WINDOW, stream)
        self._cells_wa = np.zeros((_WINDOW, self._table.width), dtype=np.int64)
        self._pending: dict[Point, Ints] = {}
        self._prior_bounds_rv = self._table.bounds(self._table.probabilities(0.0 * self._table.prior_rv, 1.0))
        self._split: _Split | None = None

    def propose(self, count: int) -> list[Point]:
        proposed: list[Point] = []
        while len(proposed) < count:
            points = self._unseen.take(1, self._suggest)
            if not points:
                break
            self._pending[points[0]] = self._table.cells(points[0])
            if len(self._pending) > _WINDOW:
                del self._pending[next(iter(self._pending))]
            proposed += points
        return proposed

    def tell(self, observations: Sequence[Observation]) -> None:
        for observation in observations:
            self._unseen.mark(observation.point)
            self._pending.pop(observation.point, None)
            self._cells_wa[self._window.put(observation)] = self._table.cells(observation.point)
            self._split = None

    def _suggest(self) -> Point | None:
        start = self._unseen.start()
        if start is not None or self._window.size < self._num_startup:
            return start
        split = self._split = self._split or self._halves()
        gains = np.append(split.log_good_rv - self._log_bad(split), 0.0)
        codes, cells = self._table.draw(split.bounds_srv, self._sources, self._draws)
        scores = gains[cells].sum(axis=1).round(_DIGITS)
        for place in np.argsort(-scores, kind="stable"):
            point = self._table.point(codes[place])
            if self._unseen.holds(point):
                return point
        return None

    def _halves(self) -> _Split:
        """The good and the bad of what was told."""
        size = self._window.size
        best = self._window.best(min(math.ceil(_GOOD_SHARE * size), _MOST_GOOD))
        good_rv = self._table.count(self._cells_wa[best])
        strength = _LAST_STRENGTH + (_FIRST_STRENGTH - _LAST_STRENGTH) * _FADE / (_FADE + size)
        probabilities_rv = self._table.probabilities(good_rv, strength)
        return _Split(
            bounds_srv=np.stack((self._table.bounds(probabilities_rv), self._prior_bounds_rv)),
            log_good_rv=np.log(probabilities_rv),
            bad_rv=self._table.count(self._cells_wa[:size]) - good_rv,
            strength=strength,
        )

    def _log_bad(self, split: _Split) -> Floats:
        """Log density of the bad, with what is proposed and not told."""
        bad_rv = split.bad_rv
        if self._pending:
            bad_rv = bad_rv + self._table.count(np.array(list(self._pending.values())))
        log_rv: Floats = np.log(self._table.probabilities(bad_rv, split.strength))
        return log_rv


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class _Split:
    """What the densities need to know of the trials so far.

    Attributes:
        bounds_srv: Where draws change their choice: from the good density, from the prior.
        log_good_rv: Log density of the good.
        bad_rv: How many of the bad have each choice.
        strength: Pseudo-counts of the prior.
    """

    bounds_srv: Floats
    log_good_rv: Floats
    bad_rv: Floats
    strength: float
