"""The latest trials, and which of them are good."""

from __future__ import annotations

from typing import Final, final

import numpy as np
from numpy.typing import NDArray

from legion.foundation.rng import RandomStream
from legion.neuro_architecture.generator.scalarisation import draw_directions, hypervolume_shares
from legion.neuro_architecture.objectives import Observation
from legion.neuro_architecture.space import Point

__all__ = ["ObservationWindow"]

Ints = NDArray[np.int64]

_NUM_DIRECTIONS: Final = 128


@final
class ObservationWindow:
    """Keeps up to `capacity` trials, each with the number of those that dominate it among its like.

    Alike are trials of one level that are both feasible or both not. The counts are kept up to date: a newcomer is
    compared with all once, and what leaves is subtracted, so that a trial costs the same whatever came before it.

    Args:
        capacity: When as many are in, a newcomer replaces the oldest.
        stream: Decides the directions along which hypervolume is estimated.

    Attributes:
        size: How many are in; they lie in the slots 0 to size - 1.
    """

    def __init__(self, capacity: int, stream: RandomStream) -> None:
        self._capacity = capacity
        self._stream = stream
        self._slots: dict[Point, int] = {}
        self._points: list[Point] = []
        self._next = 0
        self._age = 0
        self._groups = np.full(capacity, -1, dtype=np.int64)
        self._levels = np.zeros(capacity, dtype=np.int64)
        self._violations = np.zeros(capacity)
        self._dominators = np.zeros(capacity, dtype=np.int64)
        self._ages = np.zeros(capacity, dtype=np.int64)
        self._losses_mw = np.zeros((0, capacity))
        self._reciprocals_md = np.zeros((0, 0), dtype=np.float32)

    @property
    def size(self) -> int:
        return len(self._points)

    @property
    def dominators(self) -> Ints:
        """By how many of its like each is dominated."""
        return self._dominators[: self.size].copy()

    def put(self, observation: Observation) -> int:
        """Takes a trial in, in place of what was told of its point before or of the oldest; gives its slot.

        Raises:
            ValueError: its objectives are not as many as before.
        """
        self._check(observation)
        slot = self._slot_for(observation.point)
        self._losses_mw[:, slot] = observation.losses
        self._levels[slot] = observation.level
        self._violations[slot] = observation.violation
        self._groups[slot] = 2 * observation.level + (observation.violation <= 0.0)
        self._ages[slot] = self._age
        self._age += 1
        better, worse = self._compare(slot)
        self._dominators[: self.size] += worse
        self._dominators[slot] = np.count_nonzero(better)
        return slot

    def best(self, count: int) -> Ints:
        """Slots of the best: the higher level, the lower violation, fewer dominators, the larger share of what those
        that are tied at the edge dominate together, the later.
        """
        size = self.size
        levels, violations, dominators = self._levels[:size], self._violations[:size], self._dominators[:size]
        order: Ints = np.lexsort((-self._ages[:size], dominators, violations, -levels))
        if count >= size:
            return order
        last = order[count - 1]
        is_tied = (levels == levels[last]) & (violations == violations[last]) & (dominators == dominators[last])
        places = np.flatnonzero(is_tied[order])
        first = int(places[0])
        tied = order[first : first + len(places)]
        if first + len(tied) == count:
            return order[:count]
        shares = hypervolume_shares(self._losses_mw[:, tied], self._reciprocals_md)
        chosen = tied[np.argsort(-shares, kind="stable")[: count - first]]
        return np.concatenate((order[:first], chosen))

    def _check(self, observation: Observation) -> None:
        num_objectives = len(observation.losses)
        if not self.size:
            self._losses_mw = np.zeros((num_objectives, self._capacity))
            self._reciprocals_md = draw_directions(_NUM_DIRECTIONS, num_objectives, self._stream.child("directions"))
        elif num_objectives != len(self._losses_mw):
            raise ValueError(f"{num_objectives} objectives told, {len(self._losses_mw)} before")

    def _slot_for(self, point: Point) -> int:
        """The slot that the point has, or that becomes free for it; nobody counts its former owner any more."""
        slot = self._slots.get(point)
        if slot is None and self.size < self._capacity:
            self._slots[point] = self.size
            self._points.append(point)
            return self._slots[point]
        if slot is None:
            slot = self._next
            self._next = (slot + 1) % self._capacity
            del self._slots[self._points[slot]]
            self._slots[point] = slot
            self._points[slot] = point
        _, worse = self._compare(slot)
        self._dominators[: self.size] -= worse
        return slot

    def _compare(self, slot: int) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
        """Which of its like dominate the one in `slot`, and which it dominates."""
        losses_mn = self._losses_mw[:, : self.size]
        own_m1 = losses_mn[:, slot, None]
        is_no_worse = (losses_mn <= own_m1).all(axis=0)
        is_no_better = (losses_mn >= own_m1).all(axis=0)
        is_apart = (self._groups[: self.size] == self._groups[slot]) & (is_no_worse ^ is_no_better)
        return is_apart & is_no_worse, is_apart & is_no_better
