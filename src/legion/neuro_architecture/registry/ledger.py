"""Log and index as one: entries go into the log, and the index follows it wherever it is."""

from __future__ import annotations

import contextlib
import logging
import threading
from collections import OrderedDict
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Final, final

from legion.foundation.canonical import parse_canonical
from legion.foundation.errors import IntegrityError, InvalidValueError, UsageError, WorldError
from legion.foundation.files import exclusive_lock
from legion.neuro_architecture.registry.desk import Desk
from legion.neuro_architecture.registry.failpoints import failpoint
from legion.neuro_architecture.registry.indexing import RegistryIndex, open_sqlite_index
from legion.neuro_architecture.registry.translog import TransparencyLog
from legion.neuro_architecture.spec.entries import AnyEntry, parse_entry
from legion.neuro_architecture.spec.snapshot import ArchitectureSnapshot

__all__ = ["Ledger"]

log = logging.getLogger(__name__)

_CHUNK: Final = 5_000
_REMEMBERED: Final = 1 << 16  # digests, of 200 bytes each
_SNAPSHOT: Final = b'"kind":"snapshot","snapshot":'
_DIGITS: Final = bytes.maketrans(b"123456789", b"0" * 9)
_LONG: Final = b"0" * 16  # 2**53 has 16 digits
_LONG_FIELD, _LONG_ITEM, _LONG_FIRST, _LONG_NEGATIVE = (sign + _LONG for sign in (b":", b",", b"[", b"-"))


@final
class Ledger:
    """The registry's entries, written and read.

    The log is the truth. The index may lag it (a writer was killed in between) or belong to another log (somebody
    copied a folder); both are noticed by the number and the leaf hash of the last entry that it holds, and mended
    before anything is read from it.

    Args:
        log: The transparency log.
        open_index: Opens the index of a log by the log's origin; called once the log has an entry.
        lock: File that writers take turns by.
    """

    def __init__(self, log: TransparencyLog, open_index: Callable[[str], RegistryIndex], lock: Path) -> None:
        self.log = log
        self._open_index = open_index
        self._lock = lock
        self._index: RegistryIndex | None = None
        self._size_indexed = 0
        self._places: OrderedDict[str, int] = OrderedDict()
        self._opening = threading.Lock()

    @property
    def index(self) -> RegistryIndex:
        """What finds the entries; of an empty log an index of its own that nobody keeps."""
        with self._opening:
            if self._index is None:
                key = self.log.key
                if key is None or self.log.size == 0:
                    return open_sqlite_index(None)
                self._index = self._open_index(key.name)
            return self._index

    def catch_up(self, *, is_writing: bool = False) -> None:
        """Sees what others committed, and brings the index to it.

        A writer decides by what the index says, so it asks every time how far it is: somebody may have deleted it.

        Raises:
            IntegrityError: the log is damaged, was rolled back or forked.
        """
        size = self.log.refresh()
        if size == self._size_indexed and (size == 0 or not is_writing):
            if size == 0 and not is_writing:
                self._refuse_first_format()
            return
        position, leaf = self.index.position()
        if position != size or not self._is_ours(position, leaf):
            if is_writing:
                self._bring_up(size)
            else:
                with exclusive_lock(self._lock):  # a writer may be about to do it, or was killed before it did
                    size = self.log.refresh()
                    self._bring_up(size)
        self._size_indexed = size

    def _refuse_first_format(self) -> None:
        records = self.log.folder / "records"
        if records.is_dir():
            raise UsageError(
                f"{self.log.folder} holds a registry of the first format",
                cause=f"it keeps its snapshots in {records}",
                hint=f"legion registry import --kind records {self.log.folder}",
            )

    def _bring_up(self, size: int) -> None:
        with _disk("the index cannot be brought up to the log"):
            failpoint("index.before-catch-up")
            position, leaf = self.index.position()
            if not self._is_ours(position, leaf):
                log.warning("the index belongs to another log and is built anew from %d entries", size)
                self.index.refill(lambda: self._batches(0, size))
                return
            for rows in self._batches(position, size):
                self.index.apply(position, rows)
                position += len(rows)

    def _batches(self, position: int, size: int) -> Iterator[list[tuple[AnyEntry, str]]]:
        for start in range(position, size, _CHUNK):
            yield [
                (parse_bytes(content, number), self.log.leaf_hash(number).hex())
                for number, content in enumerate(self.log.read_range(start, min(start + _CHUNK, size)), start)
            ]

    def _is_ours(self, position: int, leaf: str) -> bool:
        if position == 0:
            return True
        return position <= self.log.size and self.log.leaf_hash(position - 1).hex() == leaf

    def rebuild(self) -> int:
        """Builds the index anew from the log; returns how many entries it holds."""
        with exclusive_lock(self._lock):
            size = self.log.refresh()
            self._size_indexed = 0  # should the tables be damaged and have to go, a failure leaves none
            with _disk("the index cannot be built anew"):
                self.index.refill(lambda: self._after_clear(size))
        self._size_indexed = size
        return size

    def _after_clear(self, size: int) -> Iterator[list[tuple[AnyEntry, str]]]:
        failpoint("index.after-clear")
        yield from self._batches(0, size)

    def commit(self, work: Callable[[Desk], None]) -> None:
        """Lets `work` write on a desk under the lock, and makes what it wrote durable.

        Raises:
            IntegrityError: what stands is damaged.
            WorldError: the disk refused.
        """
        with exclusive_lock(self._lock):
            self.catch_up(is_writing=True)
            desk = Desk(self.index, self.snapshot, self.log.size)
            work(desk)
            if not desk.entries:
                return
            contents = desk.contents()
            with _disk("cannot write the entries; nothing was committed"):
                failpoint("commit.before-append")
                written = self.log.append(contents)
            leaves = [self.log.leaf_hash(number).hex() for number in written]
            with _disk("the entries are written, and the index lags behind them"):
                failpoint("commit.after-append")
                self.index.apply(written.start, list(zip(desk.entries, leaves, strict=True)))
                self._size_indexed = written.stop
                failpoint("commit.after-apply")

    def by_digest(self, digest: str) -> int | None:
        """The entry of the snapshot with this digest; where it stands never changes, so the index is asked once."""
        number = self._places.get(digest)
        if number is None:
            number = self.index.by_digest(digest)
            if number is not None:
                self._places[digest] = number
                if len(self._places) > _REMEMBERED:
                    self._places.popitem(last=False)
        return number

    def remembered(self, digest: str) -> int | None:
        """The entry of a snapshot that was asked for before, as `by_digest` remembers it."""
        return self._places.get(digest)

    def entry(self, number: int) -> AnyEntry:
        """An entry by its number."""
        return parse_bytes(self.log.read(number), number)

    def snapshot(self, number: int) -> ArchitectureSnapshot:
        """The snapshot in an entry.

        Raises:
            IntegrityError: there is none.
        """
        return snapshot_in(self.log.read(number), number)

    def entries(self, start: int = 0, stop: int | None = None) -> Iterator[AnyEntry]:
        """Entries in order, read as they are asked for."""
        end = self.log.size if stop is None else stop
        for place, content in enumerate(self.log.read_range(start, end)):
            yield parse_bytes(content, start + place)


@contextlib.contextmanager
def _disk(failure: str) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise WorldError(failure, cause=str(error), hint="check the disk's free space and rights") from error


def parse_bytes(content: bytes, number: int) -> AnyEntry:
    """The entry in a leaf.

    Raises:
        IntegrityError: it is none; the log holds what no registry of this version wrote.
    """
    try:
        return parse_entry(parse_canonical(content))
    except (InvalidValueError, ValueError, RecursionError) as error:
        cause = error.cause if isinstance(error, InvalidValueError) else str(error)
        raise IntegrityError(
            f"entry {number} of the log is not one that this version writes", cause=cause, hint="legion registry verify"
        ) from error


def snapshot_in(content: bytes, number: int) -> ArchitectureSnapshot:
    """The snapshot in a leaf, without looking at the rest of it.

    It stands last in its entry, so most are read where they stand, in half of the time; whole numbers of canonical JSON
    beyond 2**53 are floats, which only `parse_canonical` knows.

    Raises:
        IntegrityError: it holds none.
    """
    start = content.find(_SNAPSHOT)
    digits = content.translate(_DIGITS)
    is_plain = _LONG not in digits or not (
        _LONG_FIELD in digits or _LONG_ITEM in digits or _LONG_FIRST in digits or _LONG_NEGATIVE in digits
    )
    try:
        if start >= 0 and is_plain:
            return ArchitectureSnapshot.model_validate_json(content[start + len(_SNAPSHOT) : -1])
    except ValueError:
        pass  # told below
    try:
        return ArchitectureSnapshot.model_validate(parse_canonical(content)["snapshot"])
    except (KeyError, TypeError, ValueError, RecursionError) as error:
        raise IntegrityError(
            f"entry {number} of the log holds no snapshot", cause=str(error), hint="legion registry verify"
        ) from error
