"""Frames of a segment and the commits that they make up. Pure; no file is touched.

```
frame      kind u8 ('E' entry, 'C' checkpoint) | length u32 big endian | payload
commit     one or more entry frames, then one checkpoint frame
segment    commits, then perhaps the torn tail of a commit that a killed writer did not finish
```
"""

from __future__ import annotations

import struct
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, final

from legion.foundation.errors import InvalidValueError

__all__ = [
    "CHECKPOINT",
    "ENTRY",
    "HEADER",
    "HEADER_BYTES",
    "MAX_COMMIT_BYTES",
    "MAX_ENTRY_BYTES",
    "MAX_NOTE_BYTES",
    "Commit",
    "FrameError",
    "check_entries",
    "encode_commit",
    "parse_commit",
]

HEADER: Final = struct.Struct(">BI")
HEADER_BYTES: Final = HEADER.size
ENTRY: Final = ord("E")
CHECKPOINT: Final = ord("C")
MAX_ENTRY_BYTES: Final = 2 << 20
MAX_NOTE_BYTES: Final = 1 << 10
MAX_COMMIT_BYTES: Final = 1 << 30


class FrameError(Exception):
    """Bytes that no writer leaves behind, not even a killed one.

    Args:
        offset: Of the frame that is none, in the parsed buffer.
        cause: What is wrong with it.
    """

    def __init__(self, offset: int, cause: str) -> None:
        super().__init__(cause)
        self.offset = offset
        self.cause = cause


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class Commit:
    """Where the parts of a commit stand in a buffer, in bytes.

    Attributes:
        start: Of its first frame.
        stop: After its last.
        offsets: Of the entries' frames.
        note: Of the checkpoint's frame.
    """

    start: int
    stop: int
    offsets: list[int]
    note: int

    def entries(self, buffer: bytes) -> list[bytes]:
        """The payloads of its entries."""
        stops = [*self.offsets[1:], self.note]
        return [buffer[start + HEADER_BYTES : stop] for start, stop in zip(self.offsets, stops, strict=True)]

    def note_bytes(self, buffer: bytes) -> bytes:
        """The signed note of its checkpoint."""
        return buffer[self.note + HEADER_BYTES : self.stop]


def check_entries(entries: Sequence[bytes]) -> None:
    """Refuses what cannot be committed together.

    Raises:
        InvalidValueError: there is no entry, one is longer than 2 MiB, or all of them than 1 GiB.
    """
    if not entries:
        raise InvalidValueError("a commit needs an entry")
    for entry in entries:
        if len(entry) > MAX_ENTRY_BYTES:
            raise InvalidValueError(f"an entry has {len(entry)} bytes", cause=f"at most {MAX_ENTRY_BYTES} are kept")
    size_bytes = sum(map(len, entries)) + HEADER_BYTES * len(entries)
    if size_bytes > MAX_COMMIT_BYTES:
        raise InvalidValueError(f"{len(entries)} entries have {size_bytes} bytes", cause="a commit takes up to 1 GiB")


def encode_commit(entries: Sequence[bytes], note: bytes) -> tuple[bytes, list[int]]:
    """The bytes of a commit, and the offset of each entry's frame in them."""
    parts: list[bytes] = []
    offsets: list[int] = []
    position = 0
    for entry in entries:
        offsets.append(position)
        parts += (HEADER.pack(ENTRY, len(entry)), entry)
        position += HEADER_BYTES + len(entry)
    parts += (HEADER.pack(CHECKPOINT, len(note)), note)
    return b"".join(parts), offsets


def parse_commit(buffer: bytes, start: int) -> Commit | None:
    """The commit that begins at `start`; None where the buffer ends before the commit does.

    Bytes that were never written (all zero to the end, as a power failure leaves them) end it too.

    Raises:
        FrameError: there is something else.
    """
    offsets: list[int] = []
    position, limit = start, len(buffer)
    unpack = HEADER.unpack_from
    while position + HEADER_BYTES <= limit:
        kind, length = unpack(buffer, position)
        if kind == ENTRY and length <= MAX_ENTRY_BYTES:
            offsets.append(position)
        elif kind == CHECKPOINT and offsets and length <= MAX_NOTE_BYTES:
            stop = position + HEADER_BYTES + length
            return Commit(start=start, stop=stop, offsets=offsets, note=position) if stop <= limit else None
        elif not buffer[position:].strip(b"\0"):
            return None
        else:
            raise FrameError(position, _explain(kind, length, bool(offsets)))
        position += HEADER_BYTES + length
    if position < limit and buffer[position] not in {0, ENTRY, CHECKPOINT}:
        raise FrameError(position, f"no frame begins with byte {buffer[position]:#04x}")
    return None


def _explain(kind: int, length: int, has_entries: bool) -> str:
    if kind not in {ENTRY, CHECKPOINT}:
        return f"no frame begins with byte {kind:#04x}"
    if kind == CHECKPOINT and not has_entries:
        return "a checkpoint stands where an entry must"
    return f"a frame of kind {chr(kind)!r} cannot have {length} bytes"
