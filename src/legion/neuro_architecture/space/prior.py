"""A prior learnt from good candidates of elsewhere."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from legion.foundation.errors import InvalidValueError
from legion.neuro_architecture.space.points import Point, PointSpace

__all__ = ["learnt_prior", "prior_gain"]

# Pseudo-counts of the space's own prior beside the good candidates.
_OWN: Final = 2.0
# Of a count on an ordered axis, what each neighbour gets.
_SMEAR: Final = 0.2


def learnt_prior(
    space: PointSpace, good: Sequence[Point], likeness: float, *, starts: Sequence[Point] = ()
) -> PointSpace:
    """The space with a prior that leans towards where good points lie.

    Every weight becomes (1 - likeness) times its own and likeness times how often good points chose it, the latter
    smoothed by the former; so nothing gets a weight of zero, and a likeness of zero changes nothing.

    Args:
        space: What may be proposed.
        good: Points of the space that were good elsewhere.
        likeness: From 0 to 1, how far elsewhere is like here.
        starts: Those of them that are looked at first.

    Raises:
        InvalidValueError: a likeness outside 0 to 1.
    """
    if not 0.0 <= likeness <= 1.0:
        raise InvalidValueError(f"likeness {likeness} is not from 0 to 1")
    if not good or likeness == 0.0:
        return space
    shares = _mixed(
        space.shares, [sum(point[0] == number for point in good) for number in range(len(space.branches))], likeness
    )
    weights = []
    for number, branch in enumerate(space.branches):
        members = [point[1:] for point in good if point[0] == number]
        rows = []
        for place, axis in enumerate(branch.axes):
            counts = [float(sum(codes[place] == code for codes in members)) for code in range(len(axis.values))]
            rows.append(_mixed(axis.weights, _smeared(counts) if axis.is_ordered else counts, likeness))
        weights.append(rows)
    return space.biased(shares, weights, starts)


def prior_gain(biased: PointSpace, own: PointSpace, point: Point) -> float:
    """How much likelier the learnt prior makes a point than the space's own does; 1 where alike."""
    number, *codes = point
    gain = biased.shares[number] / own.shares[number]
    for after, before, code in zip(biased.branches[number].axes, own.branches[number].axes, codes, strict=True):
        gain *= after.weights[code] / before.weights[code]
    return gain


def _mixed(own: Sequence[float], counts: Sequence[float], likeness: float) -> list[float]:
    total = sum(counts)
    return [
        (1.0 - likeness) * weight + likeness * (count + _OWN * weight) / (total + _OWN)
        for weight, count in zip(own, counts, strict=True)
    ]


def _smeared(counts: Sequence[float]) -> list[float]:
    found = list(counts)
    for place, count in enumerate(counts):
        for neighbour in (place - 1, place + 1):
            if 0 <= neighbour < len(counts):
                found[neighbour] += _SMEAR * count
                found[place] -= _SMEAR * count
    return found
