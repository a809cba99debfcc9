"""Reads segments from the first byte to the last, verifies every commit, and locates what is not as it was signed.

A commit is as it was signed when its frames have the one form, its entries make the root in its note, and its note
continues the one before. Notes are chained, so the signature under the last one vouches for the bytes of all; where
the chain breaks, signatures say which note is damaged. Inside a damaged commit the derived files tell the entry.
"""

from __future__ import annotations

import re
from array import array
from collections.abc import Callable, Generator, Iterator, Sequence
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import Final, final

from legion.foundation.errors import IntegrityError
from legion.neuro_architecture.registry.translog.damage import Damage
from legion.neuro_architecture.registry.translog.difference import Stretch, compare_frames, compare_places
from legion.neuro_architecture.registry.translog.frames import (
    HEADER,
    HEADER_BYTES,
    Commit,
    FrameError,
    parse_commit,
    walk_frames,
)
from legion.neuro_architecture.registry.translog.hints import Hints
from legion.neuro_architecture.registry.translog.merkle import HASH_BYTES, CompactRange, range_hash
from legion.neuro_architecture.registry.translog.notes import Checkpoint, VerifierKey, checkpoint_head
from legion.neuro_architecture.registry.translog.offsets import encode_records
from legion.neuro_architecture.registry.translog.tiles import TileStore, pyramid

__all__ = ["Scanner"]

_SIGNATURE_TAIL: Final = 93  # characters of 68 bytes in base64, and the newline


@final
@dataclass(slots=True, kw_only=True)
class _Segment:
    """The segment that is being read."""

    name: str
    first: int
    buffer: bytes
    hints: Hints
    is_last: bool
    is_damaged: bool = False


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class _Signed:
    """A note under which the key's signature holds, and where its frame stands."""

    start: int
    stop: int
    checkpoint: Checkpoint


@final
class Scanner:
    """Reads one log once.

    Args:
        origin: The log's name.
        key: That must have signed it; None where it is unknown, and then signatures are not verified.
        tiles: Of the log.
        sizes: Sizes of checkpoints that are known from elsewhere, whose notes are kept.
        hear: Given the entries of each commit until the first damage.
    """

    def __init__(
        self,
        origin: str,
        key: VerifierKey | None,
        tiles: TileStore,
        sizes: set[int],
        hear: Callable[[Sequence[bytes]], None] | None = None,
    ) -> None:
        self._hear = hear
        self._origin = origin
        self._key = key
        self._tiles = tiles
        self._sizes = sizes
        self._marker = re.compile(b"C...." + re.escape(f"{origin}\n".encode()), re.DOTALL)
        self._compact: CompactRange | None = CompactRange()
        self._last: bytes | None = None
        self._missing: list[range] = []
        self._places = array("Q")  # of each commit's note: segment, start, stop, entries before, entries after
        self._names: list[str] = []
        self.number = 0
        self.rows: list[bytearray] = [bytearray()]  # hashes at levels 0, 1, ... of what is verified
        self.notes: dict[int, bytes] = {}
        self.end = ("segments", 0, 0)  # the last segment, where its commits end, where it ends
        self.is_end_altered = False

    def scan(self, path: Path, name: str, first: int, buffer: bytes, *, is_last: bool) -> Iterator[Damage]:
        """Reads the next segment.

        Args:
            path: Of the segment.
            name: Its path relative to the registry's folder.
            first: The number in its name.
            buffer: Its bytes.
            is_last: Whether no segment follows, so that it may have a torn tail.
        """
        if first < self.number:
            detail = f"its name says that it begins with entry {first}, which stands before it"
            yield Damage(path=name, problem="duplicate", detail=detail, entry=first)
            return
        hints = Hints(self._tiles, path.with_suffix(".idx"), first)
        segment = _Segment(name=name, first=first, buffer=buffer, hints=hints, is_last=is_last)
        self._names.append(name)
        if first > self.number:
            yield self._skip(segment, first, 0)
        position, records = 0, bytearray()
        while position < len(buffer):
            commit = _parse(buffer, position)
            taken = self._take(segment, commit) if commit else None
            if commit is not None and taken is not None:
                records += taken
                position = commit.stop
                continue
            self._hear = None
            stop = yield from self._examine(segment, position, is_torn=commit is None)
            if stop is None:
                break
            position = stop
        self.end = (name, position, len(buffer))
        if not segment.is_damaged:
            yield from hints.compare(bytes(records))

    def _take(self, segment: _Segment, commit: Commit) -> bytes | None:
        """The records of a commit that is as it was signed; None where it is not."""
        note = commit.note_bytes(segment.buffer)
        entries = commit.entries(segment.buffer)
        leaves = [sha256(b"\0" + entry).digest() for entry in entries]
        if self._compact is None or (self._last is None and self.number):
            return self._take_signed(segment, commit, note, leaves)
        compact = self._compact.copy()
        completed = compact.extend(leaves)
        previous = sha256(self._last).digest() if self._last is not None else None
        head = checkpoint_head(self._origin, compact.size, compact.root(), previous)
        if not note.startswith(head) or len(note) != len(head) + _SIGNATURE_TAIL:
            return None
        self._compact = compact
        self._grow(leaves, completed)
        self._accept(segment, commit, note, len(leaves))
        if self._hear is not None:
            self._hear(entries)
        return encode_records(commit.offsets, leaves)

    def _take_signed(self, segment: _Segment, commit: Commit, note: bytes, leaves: list[bytes]) -> bytes | None:
        """As `_take`, after a damage that hides the tree or the note before: the note's own signature must hold."""
        try:
            checkpoint = self._open(note)
        except IntegrityError:
            return None
        if checkpoint.size != self.number + len(leaves):
            return None
        if self._last is not None and checkpoint.previous != sha256(self._last).digest():
            return None
        if self._compact is not None:
            compact = self._compact.copy()
            completed = compact.extend(leaves)
            if compact.root() != checkpoint.root:
                return None
            self._compact = compact
            self._grow(leaves, completed)
        else:
            hints = [segment.hints.leaf(self.number + place) for place in range(len(leaves))]
            if any(hint and not leaf.startswith(hint) for leaf, hint in zip(leaves, hints, strict=True)):
                return None
        self._accept(segment, commit, note, len(leaves))
        return encode_records(commit.offsets, leaves)

    def _open(self, note: bytes) -> Checkpoint:
        checkpoint = Checkpoint.parse(note)
        if self._key is not None:
            checkpoint.verify(self._key)
        elif checkpoint.origin != self._origin:
            raise IntegrityError(f"the checkpoint is of log {checkpoint.origin!r}")
        return checkpoint

    def is_signed(self, note: bytes) -> bool:
        """Whether the signature under a note holds."""
        try:
            self._open(note)
        except IntegrityError:
            return False
        return True

    def _grow(self, leaves: Sequence[bytes], completed: Sequence[tuple[int, bytes]]) -> None:
        self.rows[0] += b"".join(leaves)
        for level, node in completed:
            if level == len(self.rows):
                self.rows.append(bytearray())
            self.rows[level] += node

    def _accept(self, segment: _Segment, commit: Commit, note: bytes, num_entries: int) -> None:
        self._note(segment, commit.note, commit.stop, note, self.number, self.number + num_entries)
        self.number += num_entries

    def _note(self, segment: _Segment, start: int, stop: int, note: bytes, before: int, after: int) -> None:
        self._places.extend((len(self._names) - 1, start, stop, before, after))
        self._last = note
        if after in self._sizes:
            self.notes[after] = note
        self.end = (segment.name, stop, len(segment.buffer))

    def _skip(self, segment: _Segment, number: int, position: int) -> Damage:
        """Goes on at entry `number`: those before are not there."""
        first = self.number
        segment.is_damaged = segment.is_damaged or position > 0 or segment.first < first
        self._missing.append(range(first, number))
        self._resume(segment, number, {}, None)
        self._last = None
        return Damage(
            path=segment.name,
            problem="missing",
            detail=f"entries {first} to {number - 1} are not there",
            start=position,
            stop=position,
            entry=first,
            stop_entry=number,
        )

    def _resume(self, segment: _Segment, size: int, good: dict[int, bytes], root: bytes | None) -> None:
        """Goes on at `size` entries, with the tree where all leaf hashes up to there are known and make the root."""
        leaves = [good.get(number) or segment.hints.whole(number) for number in range(self.number, size)]
        known = [leaf for leaf in leaves if leaf is not None]
        compact = self._compact.copy() if self._compact and len(known) == len(leaves) else None
        completed = compact.extend(known) if compact else []
        if compact is not None and (root is None or compact.root() == root):
            self._grow(known, completed)
            self._compact = compact
        else:
            self._compact = None
        self.number = size

    def _examine(self, segment: _Segment, position: int, *, is_torn: bool) -> Generator[Damage, None, int | None]:
        """Locates the damage from `position` on; gives where to go on, or None at the end."""
        before = self._suspect_last()
        if before is not None:
            yield before
            return position
        signed = self._find_signed(segment.buffer, position)
        if signed is None and is_torn and segment.is_last and segment.first + segment.hints.num <= self.number:
            return None  # a killed writer's
        stop = signed.stop if signed else len(segment.buffer)
        frames = walk_frames(segment.buffer, position, stop)
        num_entries = sum(frame.is_entry for frame in frames) if frames else 0
        segment.is_damaged = True
        if signed is not None and frames is not None:
            misplaced = self._find_misplaced(segment, position, signed, num_entries)
            if misplaced is not None:
                yield misplaced
                return signed.stop if misplaced.problem != "missing" else position
        if signed is not None:
            size = max(signed.checkpoint.size, self.number)
        else:
            size = self.number + num_entries if frames else max(self.number, segment.first + segment.hints.num)
        stretch = Stretch(
            name=segment.name,
            buffer=segment.buffer,
            start=position,
            stop=stop,
            signed=signed.start if signed else None,
            number=self.number,
            size=size,
            hints=segment.hints,
        )
        if frames is not None:
            compare_frames(stretch, frames)
        else:
            compare_places(stretch)
        if not stretch.damages:
            detail = "it does not continue the commits before it"
            stretch.report("altered", detail, position, stop, self.number, size)
        yield from stretch.damages
        self._leave(segment, stretch, signed)
        return stop

    def _leave(self, segment: _Segment, stretch: Stretch, signed: _Signed | None) -> None:
        first = self.number
        self._resume(segment, stretch.size, stretch.good, signed.checkpoint.root if signed else None)
        if signed is not None:
            self._note(segment, signed.start, signed.stop, signed.checkpoint.note, first, stretch.size)
        else:
            self._last = None
            self.is_end_altered = any(damage.problem != "missing" for damage in stretch.damages)

    def _suspect_last(self) -> Damage | None:
        """The damage of the note before, whose signature nobody verified, where the chain breaks after it."""
        if self._last is None:
            return None
        try:
            self._open(self._last)
        except IntegrityError as error:
            self._last = None
            return self._note_damage(len(self._places) // 5 - 1, error)
        return None

    def _note_damage(self, index: int, error: IntegrityError) -> Damage:
        segment, start, stop, before, after = self._places[5 * index : 5 * index + 5]
        problem = "wrong key" if "another key" in error.message else "altered"
        return Damage(
            path=self._names[segment],
            problem="wrong key" if problem == "wrong key" else "altered",
            detail=f"{error.message}{': ' + error.cause if error.cause else ''}",
            start=start,
            stop=stop,
            entry=before,
            stop_entry=after,
        )

    def _find_signed(self, buffer: bytes, position: int) -> _Signed | None:
        """The next note under which the signature holds."""
        for match in self._marker.finditer(buffer, position):
            start = match.start()
            stop = start + HEADER_BYTES + HEADER.unpack_from(buffer, start)[1]
            if stop > len(buffer):
                continue
            try:
                checkpoint = self._open(buffer[start + HEADER_BYTES : stop])
            except IntegrityError:
                continue
            return _Signed(start=start, stop=stop, checkpoint=checkpoint)
        return None

    def _find_misplaced(self, segment: _Segment, start: int, signed: _Signed, num_entries: int) -> Damage | None:
        """A whole commit that belongs elsewhere, or that commits before it are missing."""
        size = signed.checkpoint.size
        first = size - num_entries
        if size <= self.number:
            is_late = any(gap.start <= first and size <= gap.stop for gap in self._missing)
            return Damage(
                path=segment.name,
                problem="reordered" if is_late else "duplicate",
                detail=f"the commit of entries {first} to {size - 1} stands after entry {self.number - 1}",
                start=start,
                stop=signed.stop,
                entry=first,
                stop_entry=size,
            )
        link = sha256(self._last).digest() if self._last is not None else None
        is_chained = signed.checkpoint.previous == link if self._last is not None or not self.number else False
        if first > self.number and not is_chained:
            return self._skip(segment, first, start)
        return None

    @property
    def is_tree_known(self) -> bool:
        """Whether all that was read was verified, or made good from the tiles."""
        return self._compact is not None

    def root_at(self, size: int) -> bytes | None:
        """The root of the first `size` entries, 32 bytes; None where not all of them are verified."""
        if size * HASH_BYTES > len(self.rows[0]) or not size:
            return None
        return range_hash(0, size, self._node)

    def _node(self, height: int, index: int) -> bytes:
        level, bits = divmod(height, 8)
        start = (index << bits) * HASH_BYTES
        return pyramid(bytes(self.rows[level][start : start + (HASH_BYTES << bits)]))[-1]

    def finish(self, read: Callable[[str, int, int], bytes]) -> Iterator[Damage]:
        """Verifies the last note; where its signature does not hold, finds the first such note.

        Args:
            read: Gives bytes of a segment, by its name and offsets.
        """
        if self._last is not None and not self.is_signed(self._last):
            low, high = 0, len(self._places) // 5 - 1  # high is not signed
            while low < high:
                middle = (low + high) // 2
                segment, start, stop, *_ = self._places[5 * middle : 5 * middle + 5]
                if self.is_signed(read(self._names[segment], start + HEADER_BYTES, stop)):
                    low = middle + 1
                else:
                    high = middle
            segment, start, stop, *_ = self._places[5 * high : 5 * high + 5]
            try:
                self._open(read(self._names[segment], start + HEADER_BYTES, stop))
            except IntegrityError as error:
                yield self._note_damage(high, error)


def _parse(buffer: bytes, position: int) -> Commit | None:
    try:
        return parse_commit(buffer, position)
    except FrameError:
        return None
