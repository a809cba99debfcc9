"""What dominated means: the one definition that evaluator, charts and searches share."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike, NDArray

__all__ = ["constrained_ranks", "dominates", "is_dominated", "non_domination_ranks"]

Floats = NDArray[np.float64]


def dominates(left: Sequence[float], right: Sequence[float], signs: Sequence[int]) -> bool:
    """Whether `left` is at least as good as `right` everywhere and better somewhere.

    Args:
        left: Values of one candidate, one for each objective.
        right: Values of the other.
        signs: +1 where more is better, -1 where less is.
    """
    gains = [sign * (one - other) for one, other, sign in zip(left, right, signs, strict=True)]
    return all(gain >= 0.0 for gain in gains) and any(gain > 0.0 for gain in gains)


def is_dominated(point: ArrayLike, others_nm: ArrayLike, signs: Sequence[int]) -> bool:
    """Whether any of the others dominates the point."""
    others = np.asarray(others_nm, dtype=float)
    if not others.size:
        return False
    gains = (others - np.asarray(point, dtype=float)) * np.asarray(signs)
    return bool(((gains >= 0.0).all(axis=1) & (gains > 0.0).any(axis=1)).any())


def non_domination_ranks(points: Sequence[Sequence[float]], signs: Sequence[int]) -> list[int]:
    """Rank of each point: 1 for the non-dominated ones, 2 for those left once rank 1 is taken away, and so on.

    Equal points never dominate each other, so they share a rank.

    Source: NSGA-II, doi:10.1109/4235.996017, section III-A; found as ENS-BS does, doi:10.1109/TEVC.2014.2308305: in an
    order in which no point is dominated by a later one, each goes to the first front of which no member dominates it.

    Args:
        points: n candidates, each with m finite values.
        signs: +1 where more is better, -1 where less is.

    Raises:
        ValueError: a value is no finite number.
    """
    if not len(points):
        return []
    losses_nm = -np.asarray(points, dtype=float) * np.asarray(signs)
    if not np.isfinite(losses_nm).all():
        raise ValueError("a candidate without a finite value for every objective has no rank")
    distinct_dm, places = np.unique(losses_nm, axis=0, return_inverse=True)  # sorted, the first objective first
    ranks = _ranks_of_sorted(distinct_dm)
    return [int(rank) for rank in ranks[places.reshape(-1)]]


def _ranks_of_sorted(losses_nm: Floats) -> NDArray[np.int64]:
    """Ranks of distinct points in lexicographic order, to be minimised."""
    fronts: list[list[int]] = []
    ranks = np.zeros(len(losses_nm), dtype=np.int64)
    for index, point in enumerate(losses_nm):
        low, high = 0, len(fronts)
        while low < high:
            middle = (low + high) // 2
            if bool((losses_nm[fronts[middle]] <= point).all(axis=1).any()):
                low = middle + 1
            else:
                high = middle
        if low == len(fronts):
            fronts.append([])
        fronts[low].append(index)
        ranks[index] = low + 1
    return ranks


def constrained_ranks(
    points: Sequence[Sequence[float]], signs: Sequence[int], violations: Sequence[float]
) -> list[int]:
    """Ranks with the feasible first, by non-domination, then the others, least violation first; equal ones share one.

    Source: NSGA-II's constrained domination, doi:10.1109/4235.996017, section VI.

    Args:
        points: As for `non_domination_ranks`.
        signs: Likewise.
        violations: How far each candidate is from satisfying all constraints, 0 where it does.
    """
    feasible = [index for index, violation in enumerate(violations) if violation <= 0.0]
    found = non_domination_ranks([points[index] for index in feasible], signs)
    ranks = dict(zip(feasible, found, strict=True))
    last = max(found, default=0)
    steps = sorted({violation for violation in violations if violation > 0.0})
    behind = {violation: last + 1 + place for place, violation in enumerate(steps)}
    return [ranks[index] if index in ranks else behind[violation] for index, violation in enumerate(violations)]
