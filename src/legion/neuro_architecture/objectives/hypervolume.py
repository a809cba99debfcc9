"""How much of the space a front dominates, exactly, and what each of its points adds."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import numpy as np
from numpy.typing import ArrayLike, NDArray

__all__ = ["hypervolume", "hypervolume_contributions", "reference_point"]

Floats = NDArray[np.float64]

# How far behind the worst seen value the reference point lies, as a share of what was seen.
_MARGIN: Final = 0.1


def reference_point(points_nm: ArrayLike, signs: Sequence[int]) -> list[float]:
    """A point that all of `points_nm` dominate: a tenth of the range behind the worst value of each objective; where
    all values are equal, a tenth of the value, or of 1.

    Hypervolumes compare only against one reference point: a study states its own once and keeps it.

    Raises:
        ValueError: there is no point.
    """
    losses = _losses(points_nm, signs)
    if not len(losses):
        raise ValueError("no point to look behind")
    worst, best = losses.max(axis=0), losses.min(axis=0)
    spread = worst - best
    floor = np.where(worst != 0.0, np.abs(worst), 1.0)
    behind = worst + _MARGIN * np.where(spread > 0.0, spread, floor)
    return [float(value) for value in -behind * np.asarray(signs)]


def hypervolume(points_nm: ArrayLike, reference_m: Sequence[float], signs: Sequence[int]) -> float:
    """Volume between the points and the reference point, in the product of the objectives' units.

    Source: WFG, doi:10.1109/TEVC.2010.2077298: a point's volume less what later points share of it, objective by
    objective. Exact; its time grows steeply with the number of objectives.

    Args:
        points_nm: Candidates; those that do not dominate the reference point in every objective add nothing.
        reference_m: The reference point.
        signs: +1 where more is better, -1 where less is.
    """
    return _volume(_inside(points_nm, reference_m, signs))


def hypervolume_contributions(points_nm: ArrayLike, reference_m: Sequence[float], signs: Sequence[int]) -> list[float]:
    """What the whole would lose without each point; 0 for dominated, doubled and outer ones."""
    losses = _losses(points_nm, signs) - _losses([reference_m], signs)
    found = []
    for index, point in enumerate(losses):
        if not (point < 0.0).all():
            found.append(0.0)
            continue
        others = np.delete(losses, index, axis=0)
        found.append(_exclusive(point, others[(others < 0.0).all(axis=1)]))
    return found


def _losses(points_nm: ArrayLike, signs: Sequence[int]) -> Floats:
    """Values to be minimised, [n, m]."""
    points: Floats = np.asarray(points_nm, dtype=np.float64).reshape(-1, len(signs))
    losses: Floats = -points * np.asarray(signs, dtype=np.float64)
    return losses


def _inside(points_nm: ArrayLike, reference_m: Sequence[float], signs: Sequence[int]) -> Floats:
    """The non-dominated points as negative distances from the reference point."""
    losses = _losses(points_nm, signs) - _losses([reference_m], signs)
    return _front(losses[(losses < 0.0).all(axis=1)])


def _front(losses_nm: Floats) -> Floats:
    """The distinct non-dominated rows."""
    if len(losses_nm) <= 1:
        return losses_nm
    distinct = np.unique(losses_nm, axis=0)
    is_no_worse = (distinct[:, None, :] <= distinct[None, :, :]).all(axis=2)  # each is no worse than itself
    front: Floats = distinct[is_no_worse.sum(axis=0) == 1]
    return front


def _exclusive(point_m: Floats, others_nm: Floats) -> float:
    """Volume that the point dominates and the others do not."""
    volume = float(np.prod(-point_m))
    if not len(others_nm):
        return volume
    return volume - _volume(_front(np.maximum(others_nm, point_m)))


def _volume(front_nm: Floats) -> float:
    """Volume of a front of distinct rows, all of them negative."""
    count, num_objectives = front_nm.shape
    if not count:
        return 0.0
    if count == 1 or num_objectives == 1:
        return float(np.prod(-front_nm.min(axis=0)))
    if num_objectives == 2:
        ordered = front_nm[np.argsort(front_nm[:, 0])]
        widths = -ordered[:, 0]
        heights = -np.diff(ordered[:, 1], prepend=0.0)
        return float((widths * heights).sum())
    # the worst in the last objective first: of all later points a point shares what is cut off at its own value there
    ordered = front_nm[np.argsort(-front_nm[:, -1], kind="stable")]
    total = 0.0
    for place, point in enumerate(ordered):
        total += -float(point[-1]) * _exclusive(point[:-1], ordered[place + 1 :, :-1])
    return total
