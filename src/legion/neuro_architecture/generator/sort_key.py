"""Which of two trials is the better parent."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from legion.neuro_architecture.objectives import Observation
from legion.neuro_architecture.spec.dominance import non_domination_ranks

__all__ = ["SortKey", "crowding_distances", "sort_keys"]

Floats = NDArray[np.float64]

# (-level, violation, non-domination rank, -crowding distance): the least is the best.
SortKey = tuple[float, float, float, float]


def sort_keys(observations: Sequence[Observation]) -> list[SortKey]:
    """Each one's place among all: the higher level first, then the lower violation, the lower non-domination rank
    among those of its level and feasibility, the greater crowding distance within that rank.

    Source: NSGA-II's constrained domination, doi:10.1109/4235.996017, section VI; levels come before it because losses
    of different levels do not compare.
    """
    groups: dict[tuple[int, bool], list[int]] = {}
    for index, observation in enumerate(observations):
        groups.setdefault((observation.level, observation.violation <= 0.0), []).append(index)
    found: dict[int, SortKey] = {}
    for members in groups.values():
        losses_nm = np.array([observations[index].losses for index in members])
        ranks = np.array(non_domination_ranks(losses_nm.tolist(), [-1] * losses_nm.shape[1]))
        distances = np.zeros(len(members))
        for rank in range(1, int(ranks.max()) + 1):
            distances[ranks == rank] = crowding_distances(losses_nm[ranks == rank])
        for index, rank, distance in zip(members, ranks.tolist(), distances.tolist(), strict=True):
            observation = observations[index]
            found[index] = (-observation.level, observation.violation, rank, -distance)
    return [found[index] for index in range(len(observations))]


def crowding_distances(losses_nm: Floats) -> Floats:
    """How far the neighbours of each point lie apart, summed over objectives in shares of their range; infinite at the
    ends. Source: doi:10.1109/4235.996017, section III-B.
    """
    distances = np.zeros(len(losses_nm))
    for values in losses_nm.T:
        order = np.argsort(values, kind="stable")
        spread = values[order[-1]] - values[order[0]]
        if spread > 0.0:
            distances[order[1:-1]] += (values[order[2:]] - values[order[:-2]]) / spread
        distances[order[[0, -1]]] = np.inf
    return distances
