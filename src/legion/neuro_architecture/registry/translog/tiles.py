"""Hash tiles as files, laid out as C2SP tlog-tiles has them: `tile/<level>/<index>`, 256 hashes of 32 bytes each.

Only full tiles are kept. They are derived from the segments: one that is missing or torn is made again, and nothing
that a tile says is believed before it hashes to what its parent says.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from hashlib import sha256
from pathlib import Path
from typing import Final, final

from legion.neuro_architecture.registry.failpoints import failpoint
from legion.neuro_architecture.registry.translog.merkle import HASH_BYTES

__all__ = ["TILE_BYTES", "TILE_WIDTH", "TileStore", "parse_tile_path", "pyramid", "tile_path"]

TILE_WIDTH: Final = 256
TILE_BYTES: Final = TILE_WIDTH * HASH_BYTES
_PAIR: Final = 2 * HASH_BYTES


def tile_path(level: int, index: int, width: int = TILE_WIDTH) -> str:
    """The path of a tile: index 1234067 of level 0 is `tile/0/x001/x234/067`. Source: C2SP tlog-tiles, "Merkle Tree".

    Args:
        level: 0 for leaf hashes.
        index: From 0.
        width: Hashes in it; a partial tile's path ends in `.p/<width>`.
    """
    parts = [f"{index % 1000:03d}"]
    while index := index // 1000:
        parts.append(f"x{index % 1000:03d}")
    suffix = "" if width == TILE_WIDTH else f".p/{width}"
    return f"tile/{level}/" + "/".join(reversed(parts)) + suffix


def parse_tile_path(path: str) -> tuple[int, int] | None:
    """Level and index of the full tile with this path, or None where no full tile has it."""
    parts = path.split("/")
    digits = [part.removeprefix("x") for part in parts[2:]]
    if len(parts) < 3 or not all(part.isascii() and part.isdigit() for part in [parts[1], *digits]):
        return None
    level, index = int(parts[1]), int("".join(digits))
    return (level, index) if tile_path(level, index) == path else None


def pyramid(row: bytes) -> list[bytes]:
    """Rows of hashes over a row of hashes: each holds the parents of the pairs in the one before.

    A last hash without a partner has no parent. Of a full tile the ninth and last row is its root.
    """
    rows = [row]
    while len(row) >= _PAIR:
        stop = len(row) - len(row) % _PAIR
        row = b"".join([sha256(b"\1" + row[at : at + _PAIR]).digest() for at in range(0, stop, _PAIR)])
        rows.append(row)
    return rows


@final
class TileStore:
    """The tiles of one log. Writers hold the registry's lock; readers need none.

    Args:
        folder: The registry's; the tiles are under its `tile/`.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def read(self, level: int, index: int) -> bytes | None:
        """The 8192 bytes of a tile, not verified; None where it is missing, torn or cannot be read."""
        try:
            content = (self._folder / tile_path(level, index)).read_bytes()
        except OSError:
            return None
        return content if len(content) == TILE_BYTES else None

    def write(self, level: int, index: int, row: bytes) -> None:
        """Writes a tile and renames it into place; it need not be durable.

        Raises:
            OSError: the disk refused.
        """
        path = self._folder / tile_path(level, index)
        path.parent.mkdir(parents=True, exist_ok=True)
        scratch = path.with_name(f".{path.name}.tmp")
        failpoint("log.before-tile")
        scratch.write_bytes(row)
        failpoint("log.during-tile")
        scratch.replace(path)
        failpoint("log.after-tile")

    def paths(self) -> Iterator[str]:
        """Path of every file under `tile/`, relative to the registry's folder."""
        for parent, folders, names in os.walk(self._folder / "tile"):
            folders.sort()
            yield from (str((Path(parent) / name).relative_to(self._folder)) for name in sorted(names))
