"""Snapshots as a sequence that reads each one when it is asked for."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import final, overload

from legion.neuro_architecture.spec.snapshot import ArchitectureSnapshot

__all__ = ["Lineage", "SnapshotList"]


@final
class SnapshotList(Sequence[ArchitectureSnapshot]):
    """Snapshots by the numbers of their entries. A million cost no more memory than their numbers.

    Equal to any sequence of the same snapshots in the same order.

    Args:
        numbers: Of the entries.
        read: The snapshot in an entry.
    """

    def __init__(self, numbers: Sequence[int], read: Callable[[int], ArchitectureSnapshot]) -> None:
        self._numbers = numbers
        self._read = read

    @property
    def numbers(self) -> Sequence[int]:
        """Of the entries, in the list's order; nothing is read for it."""
        return self._numbers

    def __len__(self) -> int:
        return len(self._numbers)

    def __iter__(self) -> Iterator[ArchitectureSnapshot]:
        return map(self._read, self._numbers)

    @overload
    def __getitem__(self, place: int) -> ArchitectureSnapshot: ...

    @overload
    def __getitem__(self, place: slice) -> SnapshotList: ...

    def __getitem__(self, place: int | slice) -> ArchitectureSnapshot | SnapshotList:
        if isinstance(place, slice):
            return SnapshotList(self._numbers[place], self._read)
        return self._read(self._numbers[place])

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Sequence) or isinstance(other, (str, bytes)):
            return NotImplemented
        return len(self) == len(other) and all(mine == theirs for mine, theirs in zip(self, other, strict=True))

    __hash__ = None  # type: ignore[assignment]  # equal to lists, which have none

    def __repr__(self) -> str:
        return f"SnapshotList({len(self)} snapshots)"


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class Lineage:
    """Where a snapshot comes from and what came of it.

    Attributes:
        ancestors: The revision before, the one before that, and so on.
        children: Snapshots that name it as their parent.
    """

    ancestors: tuple[ArchitectureSnapshot, ...]
    children: tuple[ArchitectureSnapshot, ...]
