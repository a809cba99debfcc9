"""The segments of a log: the truth, in append-only files of about 64 MiB.

A segment's name is the number of its first entry, in at least 8 digits. A commit never spans two segments.
"""

from __future__ import annotations

import contextlib
import errno
import os
import re
from bisect import bisect_right
from collections.abc import Iterator
from pathlib import Path
from typing import Final, final

from legion.foundation.errors import IntegrityError, WorldError
from legion.foundation.files import fsync_folder
from legion.neuro_architecture.registry.failpoints import failpoint, first_part
from legion.neuro_architecture.registry.translog.frames import (
    ENTRY,
    HEADER,
    MAX_ENTRY_BYTES,
    Commit,
    FrameError,
    parse_commit,
)
from legion.neuro_architecture.registry.translog.merkle import hash_leaf
from legion.neuro_architecture.registry.translog.offsets import Offsets, encode_records

__all__ = ["SEGMENT_BYTES", "Segment", "Segments", "parse_segment_name", "segment_name"]

SEGMENT_BYTES: Final = 64 << 20
_NAME: Final = re.compile(r"\d{8,}\.seg", re.ASCII)
_BLOCK_BYTES: Final = 8 << 20  # most that is read for entries side by side
_GUESS_BYTES: Final = 2 << 10  # read with an entry's header, so that a short entry takes one read


def segment_name(first: int) -> str:
    """The file name of the segment whose first entry has this number."""
    return f"{first:08d}.seg"


def parse_segment_name(name: str) -> int | None:
    """The number of the first entry in a segment's file name, or None where it is no such name."""
    first = int(name.removesuffix(".seg")) if _NAME.fullmatch(name) else -1
    return first if first >= 0 and segment_name(first) == name else None


@final
class Segment:
    """One segment, open for reading.

    Args:
        path: Of the file.
        first: Number of its first entry.

    Raises:
        OSError: it cannot be opened.
    """

    def __init__(self, path: Path, first: int) -> None:
        self.path = path
        self.name = str(path)
        self.first = first
        self.descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW)
        self.inode = os.fstat(self.descriptor).st_ino
        self.stop_bytes = 0  # where its last known commit ends
        self.offsets = Offsets(path.with_suffix(".idx"))

    def read(self, start: int, stop: int) -> bytes:
        """Its bytes from `start` to `stop`, or to its end.

        Raises:
            WorldError: the disk refused.
        """
        parts = []
        try:
            while start < stop and (part := os.pread(self.descriptor, min(stop - start, 1 << 28), start)):
                parts.append(part)
                start += len(part)
        except OSError as error:
            raise WorldError(f"cannot read {self.path}", cause=str(error)) from error
        return b"".join(parts)

    def size_bytes(self) -> int:
        """Its size on disk."""
        return os.fstat(self.descriptor).st_size

    def payload(self, number: int) -> bytes | None:
        """The payload of the entry that its record points to, not verified; None where there is none."""
        offset = self.offsets.offset(number - self.first)
        if offset is None:
            return None
        content = self.read(offset, offset + _GUESS_BYTES)
        if len(content) < HEADER.size:
            return None
        kind, length = HEADER.unpack_from(content)
        if kind != ENTRY or length > MAX_ENTRY_BYTES:
            return None
        start, stop = HEADER.size, HEADER.size + length
        if stop > len(content):
            content += self.read(offset + len(content), offset + stop)
        return content[start:stop] if len(content) >= stop else None

    def payloads(self, start: int, stop: int) -> list[bytes] | None:
        """The payloads that the records of these entries point to, by one read; None where that is not possible."""
        places = self.offsets.slice(start - self.first, stop - self.first)
        last = self.payload(stop - 1)
        if places is None or last is None or not 0 <= places[-1] - places[0] <= _BLOCK_BYTES:
            return None
        buffer = self.read(places[0], places[-1])
        entries = []
        for place in places[:-1]:
            at = place - places[0]
            if not 0 <= at <= len(buffer) - HEADER.size:
                return None
            kind, length = HEADER.unpack_from(buffer, at)
            if kind != ENTRY or at + HEADER.size + length > len(buffer):
                return None
            entries.append(buffer[at + HEADER.size : at + HEADER.size + length])
        return [*entries, last]

    def scan(self, start: int) -> Iterator[tuple[Commit, bytes]]:
        """The complete commits from `start` to its end, and the buffer that their places count in.

        Raises:
            FrameError: there is something else; its offset is one in the file.
        """
        buffer = self.read(start, self.size_bytes())
        position = 0
        while True:
            try:
                commit = parse_commit(buffer, position)
            except FrameError as error:
                raise FrameError(start + error.offset, error.cause) from error
            if commit is None:
                return
            yield commit, buffer
            position = commit.stop

    def rebuild_offsets(self) -> None:
        """Makes its records anew from its frames, as far as they can be parsed."""
        records = bytearray()
        with contextlib.suppress(FrameError):
            for commit, buffer in self.scan(0):
                records += encode_records(commit.offsets, map(hash_leaf, commit.entries(buffer)))
        self.offsets.replace(bytes(records))

    def close(self) -> None:
        """Frees its files."""
        os.close(self.descriptor)
        self.offsets.close()


@final
class Segments:
    """All segments of one log. Writers hold the registry's lock; readers need none.

    Args:
        folder: The registry's; the segments are in its `segments/`.
        roll_bytes: A commit goes to a fresh segment where the last has this many bytes.
    """

    def __init__(self, folder: Path, roll_bytes: int = SEGMENT_BYTES) -> None:
        self.folder = folder / "segments"
        self._prefix = str(self.folder) + os.sep
        self._roll_bytes = roll_bytes
        self._segments: list[Segment] = []
        self._firsts: list[int] = []

    def __iter__(self) -> Iterator[Segment]:
        return iter(self._segments)

    @property
    def tail(self) -> Segment | None:
        """The last segment that is known."""
        return self._segments[-1] if self._segments else None

    def firsts_on_disk(self) -> list[int]:
        """The first entries' numbers of all segments in the folder, in order."""
        try:
            names = os.listdir(self.folder)  # noqa: PTH208 - a third of the time
        except FileNotFoundError:
            return []
        return sorted(first for name in names if (first := parse_segment_name(name)) is not None)

    def add(self, first: int) -> Segment | None:
        """Opens the segment that begins with this entry, where there is one.

        Raises:
            WorldError: it cannot be opened.
        """
        path = self.folder / segment_name(first)
        try:
            segment = Segment(path, first)
        except FileNotFoundError:
            return None
        except OSError as error:
            raise WorldError(f"cannot open {path}", cause=str(error)) from error
        self._segments.append(segment)
        self._firsts.append(first)
        return segment

    def has(self, first: int) -> bool:
        """Whether a segment that begins with this entry is there; asked at every refresh, hence by plain text."""
        try:
            os.lstat(f"{self._prefix}{first:08d}.seg")
        except OSError as error:
            return error.errno != errno.ENOENT
        return True

    def drop_tail(self) -> None:
        """Forgets the last segment, which holds no commit."""
        self._segments.pop().close()
        self._firsts.pop()

    def find(self, number: int) -> Segment:
        """The segment that holds the entry with this number.

        Raises:
            IntegrityError: there is none.
        """
        if not self._firsts or number < self._firsts[0]:
            raise IntegrityError(
                f"entry {number} is in no segment of {self.folder}",
                cause=f"{segment_name(0)} is missing",
                hint="legion registry verify",
            )
        return self._segments[bisect_right(self._firsts, number) - 1]

    def payload(self, number: int) -> bytes | None:
        """The payload of an entry, not verified; None where its record points to none."""
        return self.find(number).payload(number)

    def payloads(self, start: int, stop: int) -> list[bytes] | None:
        """The payloads of some hundred entries, not verified, by few reads; None where it must be one by one."""
        entries: list[bytes] = []
        while start < stop:
            segment = self.find(start)
            last = min(stop, self._after(segment)) if segment is not self.tail else stop
            part = segment.payloads(start, last)
            if part is None:
                return None
            entries += part
            start = last
        return entries

    def _after(self, segment: Segment) -> int:
        """The first entry of the segment that follows."""
        return self._firsts[bisect_right(self._firsts, segment.first)]

    def leaves(self, start: int, stop: int) -> list[bytes]:
        """The leaf hashes of entries, made from the entries.

        Raises:
            IntegrityError: one of them cannot be found.
        """
        entries = self.payloads(start, stop)
        if entries is not None:
            return [hash_leaf(entry) for entry in entries]
        hashes = []
        for number in range(start, stop):
            payload = self.payload(number)
            if payload is None:
                segment = self.find(number)
                segment.rebuild_offsets()
                payload = segment.payload(number)
                if payload is None:
                    raise IntegrityError(
                        f"entry {number} cannot be read from {segment.path}",
                        cause="no frame of an entry stands where it must",
                        hint="legion registry verify",
                    )
            hashes.append(hash_leaf(payload))
        return hashes

    def append(self, content: bytes, number: int) -> int:
        """Writes a commit whose first entry has this number, durable at return; gives its offset in the last segment.

        A torn tail is cut off first.

        Raises:
            OSError: the disk refused, and the segment is as it was.
            WorldError: the disk refused, and whether the segment is as it was is unknown.
        """
        segment = self.tail
        if segment is None or (segment.first != number and self._is_roll_due(segment, number)):
            segment = self._roll(segment, number)
        start = segment.stop_bytes
        descriptor = os.open(segment.path, os.O_WRONLY | os.O_CLOEXEC | os.O_NOFOLLOW)
        try:
            if os.fstat(descriptor).st_size > start:
                failpoint("log.before-cut")
                os.ftruncate(descriptor, start)
                failpoint("log.after-cut")
            self._write(descriptor, content, start, segment.path)
        finally:
            os.close(descriptor)
        return start

    def _write(self, descriptor: int, content: bytes, start: int, path: Path) -> None:
        try:
            failpoint("log.before-write")
            _write_all(descriptor, content, start)
            failpoint("log.after-write")
        except OSError:
            _cut(descriptor, start, path)
            raise
        try:
            failpoint("log.before-sync")
            os.fdatasync(descriptor)
            failpoint("log.after-sync")
        except OSError as error:
            _cut(descriptor, start, path)
            raise WorldError(
                f"{path} could not be synced; nothing was acknowledged",
                cause=f"{error}; what the disk holds is unknown",
                hint="check the disk, then open the log again",
            ) from error

    def _is_roll_due(self, segment: Segment, number: int) -> bool:
        """Whether the segment is full, or a killed writer found it so."""
        return segment.stop_bytes >= self._roll_bytes or self.has(number)

    def _roll(self, last: Segment | None, number: int) -> Segment:
        failpoint("log.before-roll")
        if last is not None:
            if last.size_bytes() > last.stop_bytes:
                os.truncate(last.path, last.stop_bytes)
            self.sync_tail()
        self.folder.mkdir(parents=True, exist_ok=True)
        path = self.folder / segment_name(number)
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o644)
        os.close(descriptor)
        failpoint("log.during-roll")
        fsync_folder(self.folder)
        fsync_folder(self.folder.parent)
        failpoint("log.after-roll")
        segment = self.add(number)
        if segment is None:
            raise FileNotFoundError(errno.ENOENT, "it was there a moment ago", str(path))
        segment.offsets.replace(b"")
        return segment

    def sync_tail(self) -> None:
        """Waits until what stands in the last segment is durable; whoever wrote it may have been killed before.

        Raises:
            WorldError: the disk refused.
        """
        if self.tail is not None:
            try:
                os.fdatasync(self.tail.descriptor)
            except OSError as error:
                if error.errno not in {errno.EINVAL, errno.EROFS}:  # nothing can be unwritten there
                    raise WorldError(f"{self.tail.path} could not be synced", cause=str(error)) from error

    def write_offsets(self) -> None:
        """Writes the records that are not on disk yet.

        Raises:
            OSError: the disk refused.
        """
        for segment in self._segments:
            segment.offsets.write()

    def close(self) -> None:
        """Frees all files and forgets what is known."""
        while self._segments:
            self.drop_tail()


def _write_all(descriptor: int, content: bytes, start: int) -> None:
    view = memoryview(content)
    done = os.pwrite(descriptor, view[: first_part("log.during-write", len(view))], start)
    failpoint("log.during-write")
    while done < len(view):
        done += os.pwrite(descriptor, view[done:], start + done)


def _cut(descriptor: int, start: int, path: Path) -> None:
    """Takes back an unacknowledged write.

    Raises:
        WorldError: the disk refused that too.
    """
    try:
        failpoint("log.before-undo")
        os.ftruncate(descriptor, start)
    except OSError as error:
        raise WorldError(
            f"{path} could not be cut back after a failed write; nothing was acknowledged",
            cause=str(error),
            hint="check the disk, then open the log again",
        ) from error
