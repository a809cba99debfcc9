"""Which examples step k trains on: a pure function of seed and k."""

from __future__ import annotations

from collections.abc import Sequence
from typing import final

from legion.foundation.rng import RandomStream
from legion.neuro_architecture.data.encoding import length_buckets

__all__ = ["BatchStream"]


@final
class BatchStream:
    """Endless epochs of batches of like length; epoch e is drawn from the stream's child `epoch-e`.

    Any step may be asked for in any order; going forward is cheap. Not thread-safe.

    Args:
        lengths: Tokens of each training example.
        batch_size: Examples in a batch; the last of an epoch may have fewer.
        stream: Where the draws come from.
    """

    def __init__(self, lengths: Sequence[int], batch_size: int, stream: RandomStream) -> None:
        self._lengths = lengths
        self._batch_size = batch_size
        self._stream = stream
        self._enter(0, 0)

    def batch(self, step: int) -> list[int]:
        """Indices of the examples of step `step`, counted from 0."""
        if step < self._first:
            self._enter(0, 0)
        while step >= self._first + len(self._batches):
            self._enter(self._epoch + 1, self._first + len(self._batches))
        return self._batches[step - self._first]

    def _enter(self, epoch: int, first: int) -> None:
        draw = self._stream.child(f"epoch-{epoch}").random()
        self._epoch = epoch
        self._first = first
        self._batches = length_buckets(self._lengths, self._batch_size, draw)
