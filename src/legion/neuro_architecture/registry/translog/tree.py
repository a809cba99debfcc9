"""The Merkle tree of a log: its right edge in memory, the rest in tiles that are verified where they are read."""

from __future__ import annotations

import logging
from collections import OrderedDict
from collections.abc import Callable, Sequence
from typing import Final, final

from legion.foundation.errors import IntegrityError
from legion.neuro_architecture.registry.translog.merkle import (
    EMPTY_ROOT,
    HASH_BYTES,
    CompactRange,
    consistency_path,
    inclusion_path,
    range_hash,
)
from legion.neuro_architecture.registry.translog.tiles import TILE_BYTES, TILE_WIDTH, TileStore, pyramid, tile_path

__all__ = ["TileTree"]

log = logging.getLogger(__name__)

_CACHED_TILES: Final = 4096  # 16 KB each


@final
class TileTree:
    """A tree that grows, and gives the hash of any of its nodes.

    A node is believed because it hashes to its parent, up to the right edge, and the right edge because the caller
    compared its root with a signed one.

    Args:
        store: The tiles on disk.
        leaves: Gives the leaf hashes of the entries from `start` to `stop`, made from the entries themselves.
    """

    def __init__(self, store: TileStore, leaves: Callable[[int, int], Sequence[bytes]]) -> None:
        self._store = store
        self._leaves = leaves
        self._rows: list[bytearray] = [bytearray()]
        self._edges: dict[int, list[bytes]] = {}
        self._verified: OrderedDict[tuple[int, int], list[bytes]] = OrderedDict()
        self.compact = CompactRange()
        self.unwritten: dict[tuple[int, int], bytes] = {}

    @property
    def size(self) -> int:
        """Leaves in the tree."""
        return self.compact.size

    def load(self, size: int) -> None:
        """Makes the right edge of the tree of `size` leaves from tiles; the caller compares the root.

        Raises:
            IntegrityError: an entry cannot be read.
        """
        self._forget()
        nodes: list[bytes] = []
        level = 0
        while (count := size >> (8 * level)) or level == 0:
            first = count - count % TILE_WIDTH
            row = self._edge_row(level, first, count)
            self._rows[level:] = [bytearray(row)]
            rows = pyramid(row)
            heights = [height for height in range(8) if count >> height & 1]
            nodes += [rows[height][-HASH_BYTES:] for height in heights]
            level += 1
        self.compact = CompactRange(reversed(nodes), size)

    def _edge_row(self, level: int, first: int, count: int) -> bytes:
        if level == 0:
            return b"".join(self._leaves(first, count))
        roots = []
        for index in range(first, count):
            rows = pyramid(self._raw(level - 1, index))
            self._keep((level - 1, index), rows)
            roots.append(rows[-1])
        return b"".join(roots)

    def _forget(self) -> None:
        self._rows = [bytearray()]
        self._edges.clear()
        self._verified.clear()
        self.unwritten.clear()

    def rebuild(self, size: int) -> None:
        """Makes the whole tree of `size` leaves from the entries, whatever the tiles say; every tile is `unwritten`.

        Raises:
            IntegrityError: an entry cannot be read.
        """
        self._forget()
        self.compact = CompactRange()
        for start in range(0, size, TILE_WIDTH):
            self.extend(self._leaves(start, min(start + TILE_WIDTH, size)))

    def extend(self, leaves: Sequence[bytes]) -> None:
        """Appends leaf hashes."""
        compact = self.compact.copy()
        self.adopt(leaves, compact, compact.extend(leaves))

    def adopt(self, leaves: Sequence[bytes], compact: CompactRange, completed: Sequence[tuple[int, bytes]]) -> None:
        """Appends leaf hashes that `compact`, a copy of this tree's, was extended by, which `completed` these nodes."""
        self.compact = compact
        self._edges.clear()
        self._rows[0] += b"".join(leaves)
        for level, node in completed:
            if level == len(self._rows):
                self._rows.append(bytearray())
            self._rows[level] += node
        for level, row in enumerate(self._rows):
            num_full = len(row) // TILE_BYTES
            first = (self.size >> (8 * level)) // TILE_WIDTH - num_full
            for place in range(num_full):
                self.unwritten[level, first + place] = bytes(row[place * TILE_BYTES : (place + 1) * TILE_BYTES])
            del row[: num_full * TILE_BYTES]

    def write(self) -> None:
        """Writes the tiles that are not on disk yet.

        Raises:
            OSError: the disk refused; what was not written stays `unwritten`.
        """
        for level, index in list(self.unwritten):
            self._store.write(level, index, self.unwritten[level, index])
            del self.unwritten[level, index]

    def prune(self) -> None:
        """Forgets the tiles to be written that somebody else wrote."""
        for place in [place for place, row in self.unwritten.items() if self._store.read(*place) == row]:
            del self.unwritten[place]

    def _keep(self, place: tuple[int, int], rows: list[bytes]) -> None:
        self._verified[place] = rows
        if len(self._verified) > _CACHED_TILES:
            self._verified.popitem(last=False)

    def _raw(self, level: int, index: int) -> bytes:
        """A full tile that nobody vouches for yet."""
        row = self.unwritten.get((level, index)) or self._store.read(level, index)
        if row is None:
            row = self._derive(level, index)
            self.unwritten[level, index] = row
        return row

    def _derive(self, level: int, index: int) -> bytes:
        first = index * TILE_WIDTH
        if level == 0:
            return b"".join(self._leaves(first, first + TILE_WIDTH))
        return b"".join([pyramid(self._raw(level - 1, place))[-1] for place in range(first, first + TILE_WIDTH)])

    def _tile(self, level: int, index: int) -> list[bytes]:
        place = (level, index)
        rows = self._verified.get(place)
        if rows is None:
            rows = self._verify(level, index)
            self._keep(place, rows)
        return rows

    def _verify(self, level: int, index: int) -> list[bytes]:
        expected = self.node(8 * (level + 1), index)
        rows = pyramid(self._raw(level, index))
        if rows[-1] == expected:
            return rows
        log.warning("hash tile %s is altered; its entries are read instead", tile_path(level, index))
        rows = pyramid(self._derive(level, index))
        if rows[-1] != expected:
            first = index << (8 * (level + 1))
            last = first + (1 << (8 * (level + 1))) - 1
            raise IntegrityError(
                f"entries {first} to {last} are not those that the checkpoint covers",
                cause=f"neither {tile_path(level, index)} nor the entries hash to {expected.hex()}",
                hint="legion registry verify",
            )
        return rows

    def node(self, height: int, index: int) -> bytes:
        """The hash of the complete subtree of 2^height leaves from leaf index * 2^height on, 32 bytes.

        Raises:
            IntegrityError: what it is made of is altered.
        """
        level, bits = divmod(height, 8)
        tile = (index << bits) // TILE_WIDTH
        num_full = (self.size >> (8 * level)) // TILE_WIDTH
        rows = self._tile(level, tile) if tile < num_full else self._edge(level)
        at = (index % (TILE_WIDTH >> bits)) * HASH_BYTES
        return rows[bits][at : at + HASH_BYTES]

    def _edge(self, level: int) -> list[bytes]:
        rows = self._edges.get(level)
        if rows is None:
            rows = self._edges[level] = pyramid(bytes(self._rows[level]))
        return rows

    def leaf(self, number: int) -> bytes:
        """The leaf hash of an entry, 32 bytes."""
        if number >= self.size - self.size % TILE_WIDTH:
            at = number % TILE_WIDTH * HASH_BYTES
            return bytes(self._rows[0][at : at + HASH_BYTES])
        at = number % TILE_WIDTH * HASH_BYTES
        return self._tile(0, number // TILE_WIDTH)[0][at : at + HASH_BYTES]

    def leaves(self, first: int, last: int) -> list[bytes]:
        """The leaf hashes of the entries from `first` to `last`."""
        full = self.size - self.size % TILE_WIDTH
        rows = b"".join(
            self._tile(0, tile)[0] for tile in range(first // TILE_WIDTH, -(-min(last, full) // TILE_WIDTH))
        )
        if last > full:
            rows += bytes(self._rows[0])
        skipped = first % TILE_WIDTH * HASH_BYTES if first < full else (first - full) * HASH_BYTES
        return [rows[at : at + HASH_BYTES] for at in range(skipped, skipped + (last - first) * HASH_BYTES, HASH_BYTES)]

    def root(self, size: int | None = None) -> bytes:
        """The root of the tree as it was at `size` leaves, 32 bytes."""
        if size is None or size == self.size:
            return self.compact.root()
        return range_hash(0, size, self.node) if size else EMPTY_ROOT

    def inclusion_path(self, number: int, size: int) -> tuple[bytes, ...]:
        """The hashes that lead from a leaf to the root at `size`."""
        return inclusion_path(number, size, self.node)

    def consistency_path(self, old: int, new: int) -> tuple[bytes, ...]:
        """The hashes that lead from the root at `old` to the root at `new`."""
        return consistency_path(old, new, self.node)
