"""Named random streams: the same seed and name give the same draws, whatever else was drawn before."""

from __future__ import annotations

import hashlib
import random
from typing import final

__all__ = ["RandomStream"]


@final
class RandomStream:
    """A node in a tree of independent random streams.

    The state of a node is sha256 of its parent's state and its name, so adding a consumer never shifts another one's
    draws. Nothing here is global.

    Args:
        seed: Any integer.
    """

    __slots__ = ("_state",)

    def __init__(self, seed: int) -> None:
        self._state = hashlib.sha256(f"legion:{seed}".encode()).digest()

    def child(self, name: str) -> RandomStream:
        """The stream called `name` below this one."""
        stream = object.__new__(RandomStream)
        stream._state = hashlib.sha256(self._state + b"/" + name.encode()).digest()
        return stream

    @property
    def seed(self) -> int:
        """A non-negative 63-bit seed for a library's own generator (torch, numpy, scikit-learn take the low bits)."""
        return int.from_bytes(self._state[:8], "big") >> 1

    @property
    def seed32(self) -> int:
        """A non-negative 32-bit seed, for libraries that take no more."""
        return int.from_bytes(self._state[:4], "big")

    def random(self) -> random.Random:
        """A fresh generator at the start of this stream."""
        return random.Random(self.seed)
