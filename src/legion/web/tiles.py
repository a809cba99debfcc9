"""The log's tree as tiles, for clients of C2SP tlog-tiles: whole tiles from disk, the right edge made when asked for.

A tile is evidence only together with a checkpoint: a client hashes it up to the signed root.
"""

from __future__ import annotations

import re
from typing import Final, final

from legion.foundation.errors import UnknownNameError
from legion.neuro_architecture.registry.translog import TransparencyLog
from legion.neuro_architecture.registry.translog.merkle import HASH_BYTES
from legion.neuro_architecture.registry.translog.tiles import TILE_WIDTH, TileStore, parse_tile_path, pyramid

__all__ = ["TileReader"]

_MAX_PATH: Final = 100
_PARTIAL: Final = re.compile(r"(.+)\.p/([1-9][0-9]{0,2})")


@final
class TileReader:
    """Gives tiles by their paths.

    Args:
        log: Whose tree it is.
    """

    def __init__(self, log: TransparencyLog) -> None:
        self._log = log
        self._store = TileStore(log.folder)

    def read(self, path: str) -> tuple[bytes, bool]:
        """The hashes of a tile, and whether it is a whole one, which never changes.

        Args:
            path: `tile/<level>/<index>`, with `.p/<width>` for one that is not whole. Source: C2SP tlog-tiles.

        Raises:
            UnknownNameError: the tree has no such tile.
            IntegrityError: an entry under it is altered.
        """
        partial = _PARTIAL.fullmatch(path)
        found = parse_tile_path(partial[1] if partial else path) if len(path) <= _MAX_PATH else None
        width = int(partial[2]) if partial else TILE_WIDTH
        if found is None or (partial and width >= TILE_WIDTH):
            raise UnknownNameError(
                f"{path[:_MAX_PATH]!r} is no path of a tile", cause="such are tile/0/000, tile/0/000.p/42"
            )
        level, index = found
        size = self._log.refresh()
        if (index * TILE_WIDTH + width) > size >> (8 * level):
            raise UnknownNameError(f"the tree has no {path[:_MAX_PATH]}", cause=f"the log has {size} entries")
        return self._row(level, index, width), width == TILE_WIDTH

    def _row(self, level: int, index: int, width: int) -> bytes:
        whole = self._store.read(level, index)
        if whole is not None:
            return whole[: width * HASH_BYTES]
        first = index * TILE_WIDTH
        if level == 0:
            return b"".join(self._log.leaf_hash(number) for number in range(first, first + width))
        return b"".join(pyramid(self._row(level - 1, below, TILE_WIDTH))[-1] for below in range(first, first + width))
