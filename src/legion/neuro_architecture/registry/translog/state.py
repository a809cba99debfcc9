"""What a process knows of a log: opened from its end, then followed as others append to it."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Final, final

from legion.foundation.errors import IntegrityError, InvalidValueError, WorldError
from legion.neuro_architecture.registry.translog.frames import CHECKPOINT, HEADER, MAX_NOTE_BYTES, FrameError
from legion.neuro_architecture.registry.translog.identity import Identity, read_identity
from legion.neuro_architecture.registry.translog.memory import PlaceMemory
from legion.neuro_architecture.registry.translog.merkle import CompactRange, hash_leaf, verify_consistency
from legion.neuro_architecture.registry.translog.notes import Checkpoint
from legion.neuro_architecture.registry.translog.offsets import RECORD, encode_records
from legion.neuro_architecture.registry.translog.segments import Segment, Segments
from legion.neuro_architecture.registry.translog.tiles import TileStore
from legion.neuro_architecture.registry.translog.tree import TileTree

__all__ = ["LogState", "read_published"]

_ATTEMPTS: Final = 3  # a reader may meet a writer who cuts off a torn tail


def read_published(folder: Path) -> Checkpoint | None:
    """The checkpoint in the file `checkpoint`, not verified; None where it is missing or is none.

    Raises:
        WorldError: it cannot be read.
    """
    try:
        return Checkpoint.parse((folder / "checkpoint").read_bytes())
    except (FileNotFoundError, IntegrityError):
        return None
    except OSError as error:
        raise WorldError(f"cannot read {folder / 'checkpoint'}", cause=str(error)) from error


@final
class LogState:
    """Size, checkpoint, tree and segments of a log as of the last refresh. The owner keeps threads apart.

    Args:
        folder: The registry's.
        keys: This machine's folder of keys.
        segment_bytes: Where segments roll.
    """

    def __init__(self, folder: Path, keys: Path, segment_bytes: int) -> None:
        self._folder = folder
        self._keys = keys
        self.segments = Segments(folder, segment_bytes)
        self.tree = TileTree(TileStore(folder), self.segments.leaves)
        self.identity: Identity | None = None
        self.checkpoint: Checkpoint | None = None
        self._witness: Checkpoint | None = None  # the largest that this object has seen, across a reset
        self._is_placed = False
        self._tail_bytes = 0

    @property
    def size(self) -> int:
        """Entries committed."""
        return self.checkpoint.size if self.checkpoint else 0

    @property
    def is_open(self) -> bool:
        """Whether the log was found."""
        return self.identity is not None

    def reset(self) -> None:
        """Forgets everything but the largest checkpoint seen."""
        self.segments.close()
        self.tree = TileTree(TileStore(self._folder), self.segments.leaves)
        self.identity = None
        self.checkpoint = None

    def establish(self, identity: Identity) -> None:
        """Takes up a log that has no entry yet."""
        self.identity = identity

    def refresh(self) -> None:
        """Opens the log, or follows it.

        Raises:
            IntegrityError: damage, rollback, fork, or another key; the next call opens it anew.
            WorldError: the disk refused.
        """
        try:
            if self.identity is None or self._is_replaced():
                self.reset()
                self._open()
            elif not self._is_quiet():
                self._follow(self.identity)
        except IntegrityError:
            self.reset()
            raise

    def _is_replaced(self) -> bool:
        """Whether the last segment is not the file that was opened; a replaced folder is opened anew."""
        tail = self.segments.tail
        if tail is None:
            return False
        try:
            status = os.lstat(tail.name)
        except OSError:
            return True
        self._tail_bytes = status.st_size
        return status.st_ino != tail.inode or status.st_size < tail.stop_bytes

    def _is_quiet(self) -> bool:
        """Whether nobody wrote anything since: asked at every read, hence by what `_is_replaced` saw."""
        tail = self.segments.tail
        if tail is None or self._tail_bytes != tail.stop_bytes or tail.first == self.size:
            return False
        return not self.segments.has(self.size)

    def _open(self) -> None:
        identity = read_identity(self._folder, self._keys, has_segments=bool(self.segments.firsts_on_disk()))
        if identity is None:
            if self._witness is not None:
                raise _rollback(self._folder, self._witness, 0)
            return
        known = [identity.memory.seen(), read_published(self._folder), self._witness]  # before the segments are read
        for first in self.segments.firsts_on_disk():
            self.segments.add(first)
        self.checkpoint = self._find_end()
        if self.checkpoint is not None:
            self.checkpoint.verify(identity.key)
            self._load_tree(self.checkpoint)
        self._compare(known, identity)
        self.identity = identity
        if self.checkpoint is not None:
            self.segments.sync_tail()
            self.remember()

    def _find_end(self) -> Checkpoint | None:
        """The last checkpoint; a segment after it that holds no commit is left to the next writer."""
        while (tail := self.segments.tail) is not None:
            checkpoint = self._read_end(tail)
            if checkpoint is not None:
                return checkpoint
            self.segments.drop_tail()
        return None

    def _read_end(self, segment: Segment) -> Checkpoint | None:
        """The last checkpoint of a segment, from the last entry that has a record on; from the start if that lies."""
        num = segment.offsets.num
        start = segment.offsets.offset(num - 1) if num else None
        if start is not None:
            try:
                checkpoint = _parse_from(segment, start, segment.first + num - 1, is_known=True)
            except IntegrityError:
                checkpoint = None
            if checkpoint is not None:
                return checkpoint
        for attempt in range(_ATTEMPTS):
            segment.offsets.replace(b"")
            try:
                return _parse_from(segment, 0, segment.first, is_known=False)
            except IntegrityError:
                if attempt == _ATTEMPTS - 1:
                    raise
        return None

    def _load_tree(self, checkpoint: Checkpoint) -> None:
        try:
            self.tree.load(checkpoint.size)
            is_sound = self.tree.root() == checkpoint.root
        except IntegrityError:
            is_sound = False
        if not is_sound:
            for segment in self.segments:
                segment.rebuild_offsets()
            self.tree.rebuild(checkpoint.size)
        if self.tree.root() != checkpoint.root:
            raise IntegrityError(
                f"the entries in {self._folder} are not those that were signed",
                cause=f"the checkpoint says {checkpoint}, the entries make root {self.tree.root().hex()[:12]}",
                hint="legion registry verify",
            )

    def _compare(self, known: Sequence[Checkpoint | None], identity: Identity) -> None:
        """Refuses a log that does not continue every checkpoint that is known of it."""
        for checkpoint in known:
            if checkpoint is None or checkpoint == self.checkpoint:
                continue
            try:
                checkpoint.verify(identity.key)
            except IntegrityError:
                if checkpoint is known[1]:  # a published one that is damaged is found by `check`
                    continue
                raise
            if checkpoint.size > self.size:
                raise _rollback(self._folder, checkpoint, self.size)
            self._prove(checkpoint)

    def _prove(self, older: Checkpoint) -> None:
        path = self.tree.consistency_path(older.size, self.size)
        root = self.tree.root()
        if not verify_consistency(older.size, self.size, path, older.root, root):
            raise IntegrityError(
                f"the log in {self._folder} is a fork of the one that was seen",
                cause=f"remembered are {older}; there stand {self.size} entries, root {root.hex()[:12]}, "
                f"whose first {older.size} have root {self.tree.root(older.size).hex()[:12]}",
                hint="legion registry verify",
            )

    def _follow(self, identity: Identity) -> None:
        tail = self._next_segment()
        if tail is None:
            return
        known = [identity.memory.seen(), None]  # before the segments are read
        before = self.checkpoint
        while tail is not None:
            self._read_on(tail)
            if tail.stop_bytes == 0:
                self.segments.drop_tail()
                break
            tail = self._next_segment() if tail.size_bytes() == tail.stop_bytes else None
        is_grown = self.checkpoint is not None and self.checkpoint != before
        if self.checkpoint is not None and is_grown:
            self.checkpoint.verify(identity.key)
        self._compare(known, identity)
        if is_grown:
            self.segments.sync_tail()
            self.tree.prune()
            self.remember()

    def _next_segment(self) -> Segment | None:
        """The segment in which something new stands, or None."""
        tail = self.segments.tail
        if tail is None or (tail.size_bytes() == tail.stop_bytes and tail.first != self.size):
            tail = self.segments.add(self.size) if self.segments.has(self.size) else None
            if tail is not None:
                tail.offsets.replace(b"")  # its records are made as its commits are read
        return tail

    def _read_on(self, segment: Segment) -> None:
        for attempt in range(_ATTEMPTS):
            try:
                self._take_commits(segment)
            except FrameError as error:
                if attempt == _ATTEMPTS - 1:
                    raise _garbage(segment, error) from error
            else:
                return

    def _take_commits(self, segment: Segment) -> None:
        for commit, buffer in segment.scan(segment.stop_bytes):
            base = segment.stop_bytes - commit.start
            leaves = [hash_leaf(entry) for entry in commit.entries(buffer)]
            compact = self.tree.compact.copy()
            completed = compact.extend(leaves)
            checkpoint = Checkpoint.parse(commit.note_bytes(buffer))
            link = self.checkpoint.digest if self.checkpoint else None
            expected = (compact.size, compact.root(), link)
            if (checkpoint.size, checkpoint.root, checkpoint.previous) != expected:
                raise IntegrityError(
                    f"the commit at byte {segment.stop_bytes} of {segment.path} does not continue the log",
                    cause=f"it says {checkpoint}; its entries make {compact.size}, root {compact.root().hex()[:12]}",
                    hint="legion registry verify",
                )
            records = encode_records([base + offset for offset in commit.offsets], leaves)
            self.apply(records, leaves, compact, completed, checkpoint, base + commit.stop)

    def apply(
        self,
        records: bytes,
        leaves: Sequence[bytes],
        compact: CompactRange,
        completed: Sequence[tuple[int, bytes]],
        checkpoint: Checkpoint,
        stop_bytes: int,
    ) -> None:
        """Takes up a commit that stands in the last segment up to `stop_bytes`."""
        tail = self.segments.tail
        if tail is None:
            raise InvalidValueError("a commit stands in a segment")
        tail.offsets.append(records)
        tail.stop_bytes = stop_bytes
        self.tree.adopt(leaves, compact, completed)
        self.checkpoint = checkpoint

    def remember(self) -> None:
        """Remembers the checkpoint, which is durable, and which log stands here and who signs it."""
        if self.identity is None or self.checkpoint is None:
            return
        self._witness = self.checkpoint
        memory = self.identity.memory
        if not self._is_placed:
            if memory.pinned() is None:
                memory.pin(self.identity.key)
            place = PlaceMemory(self._keys, self._folder)
            if place.origin() != self.identity.origin:
                place.remember(self.identity.origin)
            self._is_placed = True
        memory.remember(self.checkpoint)

    def search(self, number: int, leaf: bytes) -> bytes:
        """An entry that does not stand where its record says: the segment is read through.

        Raises:
            IntegrityError: it stands nowhere in the segment.
        """
        segment = self.segments.find(number)
        offset = segment.offsets.offset(number - segment.first)
        segment.rebuild_offsets()
        entry = segment.payload(number)
        if entry is None or hash_leaf(entry) != leaf:
            raise IntegrityError(
                f"entry {number} is altered",
                cause=f"at byte {offset} of {segment.path} stands no entry with the leaf hash {leaf.hex()}",
                hint="legion registry verify",
            )
        return entry

    def checkpoint_at(self, size: int) -> Checkpoint:
        """The checkpoint of the commit that ended at `size`, from 1 to the log's.

        Raises:
            InvalidValueError: no commit ended there.
            IntegrityError: it is altered.
        """
        if self.identity is None or self.checkpoint is None or size == self.size:
            if self.checkpoint is None:
                raise InvalidValueError(f"there is no checkpoint at {size} entries", cause="the log is empty")
            return self.checkpoint
        segment = self.segments.find(size - 1)
        entry = self.segments.payload(size - 1)
        if entry is None or hash_leaf(entry) != self.tree.leaf(size - 1):
            entry = self.search(size - 1, self.tree.leaf(size - 1))
        start = (segment.offsets.offset(size - 1 - segment.first) or 0) + HEADER.size + len(entry)
        content = segment.read(start, start + HEADER.size + MAX_NOTE_BYTES)
        kind, length = HEADER.unpack_from(content)
        if kind != CHECKPOINT:
            raise InvalidValueError(f"no commit ended at {size} entries")
        checkpoint = Checkpoint.open(content[HEADER.size : HEADER.size + length], self.identity.key)
        if (checkpoint.size, checkpoint.root) != (size, self.tree.root(size)):
            raise IntegrityError(f"the checkpoint at {size} entries is altered", hint="legion registry verify")
        return checkpoint


def _parse_from(segment: Segment, start: int, number: int, *, is_known: bool) -> Checkpoint | None:
    """Reads commits from the frame of entry `number` on and gives the last checkpoint.

    Entries without a record get one; the first has one where it `is_known`.

    Raises:
        IntegrityError: something else stands there.
    """
    checkpoint, stop_bytes, fresh = None, 0, bytearray()
    try:
        for commit, buffer in segment.scan(start):
            checkpoint = Checkpoint.parse(commit.note_bytes(buffer))
            number += len(commit.offsets)
            if checkpoint.size != number:
                raise IntegrityError(
                    f"the commit at byte {start + commit.start} of {segment.path} has lost or gained entries",
                    cause=f"its checkpoint says {checkpoint.size} entries, there are {number}",
                    hint="legion registry verify",
                )
            leaves = map(hash_leaf, commit.entries(buffer))
            fresh += encode_records([start + offset for offset in commit.offsets], leaves)
            stop_bytes = start + commit.stop
    except FrameError as error:
        raise _garbage(segment, error) from error
    if checkpoint is not None:
        segment.offsets.append(bytes(fresh[RECORD.size if is_known else 0 :]))
        segment.stop_bytes = stop_bytes
    return checkpoint


def _garbage(segment: Segment, error: FrameError) -> IntegrityError:
    return IntegrityError(
        f"{segment.path} is damaged at byte {error.offset}",
        cause=f"{error.cause}; no killed writer leaves such bytes",
        hint="legion registry verify",
    )


def _rollback(folder: Path, known: Checkpoint, size: int) -> IntegrityError:
    return IntegrityError(
        f"the log in {folder} was rolled back",
        cause=f"remembered are {known}; there stand {size}",
        hint="legion registry verify",
    )
