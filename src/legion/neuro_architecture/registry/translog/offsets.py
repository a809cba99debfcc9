"""Where the entries of a segment stand: a file beside the segment, derived from it.

```
segments/00000000.idx     a record an entry: offset of its frame u32 | first 4 bytes of its leaf hash u32, big endian
```
It lags behind the segment after a kill, and may lie after a power failure or by malice: whoever reads an entry by it
verifies the entry's hash, and has the segment read through where that fails.
"""

from __future__ import annotations

import os
import struct
from collections.abc import Iterable
from pathlib import Path
from typing import Final, final

from legion.neuro_architecture.registry.failpoints import failpoint

__all__ = ["RECORD", "Offsets", "encode_records"]

RECORD: Final = struct.Struct(">II")


def encode_records(offsets: Iterable[int], leaves: Iterable[bytes]) -> bytes:
    """The records of entries with these offsets, in bytes from the segment's start, and leaf hashes."""
    return b"".join([offset.to_bytes(4, "big") + leaf[:4] for offset, leaf in zip(offsets, leaves, strict=True)])


@final
class Offsets:
    """The records of one segment: those on disk, then those in memory that are not there yet.

    Args:
        path: Of the `.idx` file.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._descriptor: int | None = None
        self._num_written = 0
        self._fresh = bytearray()
        self._open()

    def _open(self) -> None:
        try:
            self._descriptor = os.open(self.path, os.O_RDONLY | os.O_CLOEXEC)
            self._num_written = os.fstat(self._descriptor).st_size // RECORD.size
        except OSError:
            self.close()
            self._num_written = 0

    @property
    def num(self) -> int:
        """Entries that have a record."""
        return self._num_written + len(self._fresh) // RECORD.size

    def offset(self, place: int) -> int | None:
        """The offset of the segment's entry at `place`, counted from 0; None where there is no record."""
        at = (place - self._num_written) * RECORD.size
        if at >= 0:
            content: bytes = bytes(self._fresh[at : at + RECORD.size])
        elif self._descriptor is not None:
            content = os.pread(self._descriptor, RECORD.size, place * RECORD.size)
        else:
            return None
        offset: int | None = RECORD.unpack(content)[0] if len(content) == RECORD.size else None
        return offset

    def slice(self, start: int, stop: int) -> list[int] | None:
        """The offsets of the segment's entries from place `start` to `stop`; None where one has no record."""
        num = max(0, min(stop, self._num_written) - start) * RECORD.size
        content = b""
        if num and self._descriptor is not None:
            content = os.pread(self._descriptor, num, start * RECORD.size)
        first = max(0, start - self._num_written) * RECORD.size
        content += self._fresh[first : max(0, stop - self._num_written) * RECORD.size]
        if len(content) != (stop - start) * RECORD.size:
            return None
        return [offset for offset, _ in RECORD.iter_unpack(content)]

    def append(self, records: bytes) -> None:
        """Adds records in memory."""
        self._fresh += records

    def replace(self, records: bytes) -> None:
        """Takes these for all records, whatever the file says."""
        self._num_written = 0
        self._fresh = bytearray(records)

    def write(self) -> None:
        """Writes the records that are not on disk yet; they need not be durable.

        Raises:
            OSError: the disk refused; the records stay in memory.
        """
        if not self._fresh:
            return
        failpoint("log.before-offsets")
        descriptor = os.open(self.path, os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC, 0o644)
        try:
            start = self._num_written * RECORD.size
            if os.fstat(descriptor).st_size < start:  # somebody deleted it; the records are still open here
                self._fresh[:0] = self._written()
                start = self._num_written = 0
            if os.pwrite(descriptor, self._fresh, start) == len(self._fresh):
                failpoint("log.during-offsets")
                os.ftruncate(descriptor, start + len(self._fresh))
                self._num_written += len(self._fresh) // RECORD.size
                self._fresh.clear()
            is_another = self._descriptor is None or not os.path.sameopenfile(descriptor, self._descriptor)
        finally:
            os.close(descriptor)
        if is_another:
            self.close()
            self._descriptor = os.open(self.path, os.O_RDONLY | os.O_CLOEXEC)
        failpoint("log.after-offsets")

    def _written(self) -> bytes:
        """The records that were on disk when the file was opened, or none where they cannot be read any more."""
        length = self._num_written * RECORD.size
        content = b"" if self._descriptor is None else os.pread(self._descriptor, length, 0)
        return content if len(content) == length else bytes(length)

    def close(self) -> None:
        """Frees the file."""
        if self._descriptor is not None:
            os.close(self._descriptor)
            self._descriptor = None
