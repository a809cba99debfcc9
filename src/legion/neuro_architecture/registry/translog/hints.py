"""What the derived files say that a segment should hold: no proof, but it tells which entry of a commit is damaged."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import final

from legion.neuro_architecture.registry.translog.damage import Damage
from legion.neuro_architecture.registry.translog.merkle import HASH_BYTES
from legion.neuro_architecture.registry.translog.offsets import RECORD
from legion.neuro_architecture.registry.translog.tiles import TILE_WIDTH, TileStore

__all__ = ["Hints"]


@final
class Hints:
    """Leaf hashes by tiles, and offsets by the file beside the segment.

    Args:
        tiles: Of the log.
        path: Of the segment's `.idx` file.
        first: Number of the segment's first entry.
    """

    def __init__(self, tiles: TileStore, path: Path, first: int) -> None:
        self._tiles = tiles
        self._first = first
        self._name = f"segments/{path.name}"
        self._rows: dict[int, bytes | None] = {}
        try:
            self.content = path.read_bytes()
        except OSError:
            self.content = b""

    @property
    def num(self) -> int:
        """Entries of the segment that have a record."""
        return len(self.content) // RECORD.size

    def offset(self, number: int) -> int | None:
        """Where the entry's frame should stand, or None where nothing says so."""
        place = number - self._first
        if not 0 <= place < self.num:
            return None
        offset: int = RECORD.unpack_from(self.content, place * RECORD.size)[0]
        return offset

    def whole(self, number: int) -> bytes | None:
        """The entry's leaf hash by its tile, or None where it has no full tile."""
        index = number // TILE_WIDTH
        if index not in self._rows:
            self._rows = {index: self._tiles.read(0, index)}
        row = self._rows[index]
        at = number % TILE_WIDTH * HASH_BYTES
        return None if row is None else row[at : at + HASH_BYTES]

    def leaf(self, number: int) -> bytes | None:
        """The entry's leaf hash, or its first 4 bytes, or None where nothing says so."""
        whole = self.whole(number)
        place = number - self._first
        if whole is None and 0 <= place < self.num:
            return self.content[place * RECORD.size + 4 : (place + 1) * RECORD.size]
        return whole

    def compare(self, records: bytes) -> Iterator[Damage]:
        """The file of offsets against the records made from the segment; it may lag, not lie."""
        if records.startswith(self.content):
            return
        alike = 0
        while records[alike : alike + RECORD.size].startswith(self.content[alike : alike + RECORD.size]):
            alike += RECORD.size
        number = self._first + alike // RECORD.size
        yield Damage(
            path=self._name,
            problem="altered",
            detail=f"the record of entry {number} is not what the segment says",
            start=alike,
            stop=min(alike + RECORD.size, len(self.content)),
            entry=number,
            stop_entry=number + 1,
        )
