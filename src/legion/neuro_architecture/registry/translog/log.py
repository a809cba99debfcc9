"""The transparency log: bytes in, bytes out, and nobody rewrites it unseen.

What holds:

- `append` returns when the entries are durable: one write and one fdatasync a commit. A kill at any instant leaves a
  prefix of the commits; the torn tail of the last is ignored by readers and cut off by the next writer.
- Every byte of the segments is under a hash: entries are leaves of a Merkle tree whose root is signed, checkpoints
  are chained (`notes`), headers have one form. Tiles and offsets are derived and verified where they are used.
- A smaller log than the remembered one, an older copy, a fork, and another key raise IntegrityError at `refresh`.
- One object may be shared by threads. Writers of several processes take turns by the registry's lock, which the
  caller of `append` holds; readers need no lock. Where the private key is absent everything but `append` works.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Final, final

from legion.foundation.errors import IntegrityError, InvalidValueError, WorldError
from legion.foundation.progress import Progress, SilentProgress
from legion.neuro_architecture.registry.failpoints import failpoint
from legion.neuro_architecture.registry.translog.checking import check_log
from legion.neuro_architecture.registry.translog.damage import Damage
from legion.neuro_architecture.registry.translog.frames import check_entries, encode_commit
from legion.neuro_architecture.registry.translog.identity import create_identity
from legion.neuro_architecture.registry.translog.merkle import ConsistencyProof, InclusionProof, hash_leaf
from legion.neuro_architecture.registry.translog.notes import Checkpoint, Signer, VerifierKey
from legion.neuro_architecture.registry.translog.offsets import encode_records
from legion.neuro_architecture.registry.translog.segments import SEGMENT_BYTES
from legion.neuro_architecture.registry.translog.state import LogState

__all__ = ["TransparencyLog"]

log = logging.getLogger(__name__)

_PUBLISH_EVERY: Final = 64  # commits; a rename costs as much as four commits
_BLOCK: Final = 256  # entries that `read_range` reads at once


@final
class TransparencyLog:
    """A log in one folder; cheap to make, and nothing is written before the first `append`.

    Args:
        folder: The registry's.
        keys: This machine's folder of private keys and remembered checkpoints.
        segment_bytes: A commit goes to a fresh segment where the last has this many bytes.
    """

    def __init__(self, folder: Path, *, keys: Path, segment_bytes: int = SEGMENT_BYTES) -> None:
        self.folder = folder
        self.keys = keys
        self._state = LogState(folder, keys, segment_bytes)
        self._signer: Signer | None = None
        self._poison: str | None = None
        self._is_writing = False
        self._num_unpublished = _PUBLISH_EVERY
        self._lock = threading.RLock()  # of the state, held for microseconds
        self._turn = threading.Lock()  # of writers of this process, held while the disk syncs

    @property
    def size(self) -> int:
        """Entries committed, as of the last refresh."""
        return self._state.size

    @property
    def key(self) -> VerifierKey | None:
        """The key that signs the log, or None before the first entry."""
        identity = self._state.identity
        return identity.key if identity else None

    def signer(self) -> Signer | None:
        """The log's private key, where this machine has it and the log has an entry.

        Raises:
            IntegrityError: the key's file is damaged or of another log.
            WorldError: others may read the file, or nobody can.
        """
        with self._lock:
            identity = self._state.identity
            return identity.memory.signer() if identity else None

    def refresh(self) -> int:
        """Sees what others committed, from the new tail only; gives the number of entries.

        Raises:
            IntegrityError: damage, rollback, fork, or another key than the pinned one.
            WorldError: the disk refused.
        """
        with self._lock:
            if not self._is_writing:  # else this object holds the registry's lock, and there is nothing to see
                self._state.refresh()
            return self._state.size

    def append(self, entries: Sequence[bytes]) -> range:
        """Commits entries together, durable at return; gives their numbers. The caller holds the registry's lock.

        Raises:
            InvalidValueError: no entry, one longer than 2 MiB, or more than 1 GiB of them.
            IntegrityError: as of `refresh`.
            WorldError: this machine has not the log's private key, or the disk refused; then nothing was committed.
        """
        check_entries(entries)
        with self._turn:
            with self._lock:
                self._refuse_poisoned()
                self.refresh()
                signer = self._writer()
                state = self._state
                start = state.size
                leaves = [hash_leaf(entry) for entry in entries]
                compact = state.tree.compact.copy()
                completed = compact.extend(leaves)
                checkpoint = signer.checkpoint(size=compact.size, root=compact.root(), previous=state.checkpoint)
                content, offsets = encode_commit(entries, checkpoint.note)
                self._is_writing = True
            try:
                at = self._write(content, start)
                with self._lock:
                    records = encode_records([at + offset for offset in offsets], leaves)
                    state.apply(records, leaves, compact, completed, checkpoint, at + len(content))
                    self._follow_up(checkpoint)
            finally:
                self._is_writing = False
        return range(start, start + len(entries))

    def _refuse_poisoned(self) -> None:
        if self._poison is not None:
            raise WorldError(
                "the log takes no more entries until it is opened again", cause=self._poison, hint="check the disk"
            )

    def _writer(self) -> Signer:
        """The log's private key, made where there is no log yet."""
        identity = self._state.identity
        if identity is None:
            identity, self._signer = create_identity(self.folder, self.keys)
            self._state.establish(identity)
        if self._signer is None:
            self._signer = identity.memory.signer()
        if self._signer is None:
            raise WorldError(
                f"this machine has not the private key of {identity.origin}; the log can be read and verified",
                cause=f"no file {identity.memory.key_path}",
                hint=f"copy {identity.memory.key_path.name} from the keys folder of the machine that made the log",
            )
        if self._signer.verifier != identity.key:
            raise IntegrityError(
                f"the private key {identity.memory.key_path} is not the one that signed the log",
                cause=f"the log's is {identity.key}, this is {self._signer.verifier}",
            )
        return self._signer

    def _write(self, content: bytes, start: int) -> int:
        try:
            return self._state.segments.append(content, start)
        except WorldError as error:
            self._poison = error.message
            raise
        except OSError as error:
            raise WorldError(
                f"cannot write to the log in {self.folder}; nothing was committed",
                cause=str(error),
                hint="check the disk's free space and rights",
            ) from error

    def _follow_up(self, checkpoint: Checkpoint) -> None:
        """What is derived from the commit; it is acknowledged whether or not this succeeds."""
        state = self._state
        try:
            state.segments.write_offsets()
            state.tree.write()
            self._num_unpublished += 1
            if self._num_unpublished >= _PUBLISH_EVERY:
                self._publish(checkpoint)
            failpoint("log.before-acknowledge")
        except OSError as error:
            log.warning("derived files of the log lag behind: %s", error)
        state.remember()

    def _publish(self, checkpoint: Checkpoint) -> None:
        failpoint("log.before-publish")
        scratch = self.folder / ".checkpoint.tmp"
        scratch.write_bytes(checkpoint.note)
        failpoint("log.during-publish")
        scratch.replace(self.folder / "checkpoint")
        self._num_unpublished = 0
        failpoint("log.after-publish")

    def read(self, number: int) -> bytes:
        """The entry with this number, verified against its leaf hash.

        Raises:
            InvalidValueError: there is no such entry.
            IntegrityError: it is altered or missing.
        """
        with self._lock:
            self._refuse_unknown(number)
            state = self._state
            leaf = state.tree.leaf(number)
            entry = state.segments.payload(number)
            if entry is None or hash_leaf(entry) != leaf:
                entry = state.search(number, leaf)
            return entry

    def read_range(self, start: int, stop: int) -> Iterator[bytes]:
        """The entries from `start` to `stop`, each verified; faster than one by one.

        Raises:
            InvalidValueError: `stop` is beyond the last entry, or `start` beyond `stop`.
            IntegrityError: an entry is altered or missing.
        """
        if not 0 <= start <= stop <= self._opened_size():
            raise InvalidValueError(f"there are no entries {start} to {stop}", cause=f"the log has {self.size}")
        for first in range(start, stop, _BLOCK):
            last = min(first + _BLOCK, stop)
            with self._lock:
                entries = self._state.segments.payloads(first, last)
                leaves = self._state.tree.leaves(first, last)
            if entries is None or any(hash_leaf(entry) != leaf for entry, leaf in zip(entries, leaves, strict=True)):
                yield from (self.read(number) for number in range(first, last))
            else:
                yield from entries

    def leaf_hash(self, number: int) -> bytes:
        """The leaf hash of an entry, 32 bytes: SHA-256(0x00 || entry).

        Raises:
            InvalidValueError: there is no such entry.
            IntegrityError: it is not under the checkpoint's root.
        """
        with self._lock:
            self._refuse_unknown(number)
            return self._state.tree.leaf(number)

    def checkpoint(self, size: int | None = None) -> Checkpoint:
        """The signed checkpoint of the latest commit, or of the one that ended at `size`.

        Raises:
            InvalidValueError: no commit ended there.
            IntegrityError: it is altered.
        """
        with self._lock:
            latest = self._opened_size()
            size = latest if size is None else size
            if not 1 <= size <= latest:
                raise InvalidValueError(f"there is no checkpoint at {size} entries", cause=f"the log has {self.size}")
            return self._state.checkpoint_at(size)

    def inclusion_proof(self, number: int, size: int | None = None) -> InclusionProof:
        """That an entry stands in the tree of `size` leaves, by default in the latest.

        Raises:
            InvalidValueError: there is no such entry or no such tree.
            IntegrityError: a part of the tree is altered.
        """
        with self._lock:
            self._refuse_unknown(number)
            size = self.size if size is None else size
            if not number < size <= self.size:
                raise InvalidValueError(f"entry {number} is in no tree of {size}", cause=f"the log has {self.size}")
            tree = self._state.tree
            path = tree.inclusion_path(number, size)
            return InclusionProof(
                number=number, size=size, leaf_hash=tree.leaf(number), root=tree.root(size), path=path
            )

    def consistency_proof(self, old: int, new: int | None = None) -> ConsistencyProof:
        """That the tree of `new` leaves, by default the latest, begins with the tree of `old` leaves.

        Raises:
            InvalidValueError: there is no such tree.
            IntegrityError: a part of the tree is altered.
        """
        with self._lock:
            size = self._opened_size()
            new = size if new is None else new
            if not 0 <= old <= new <= size:
                raise InvalidValueError(f"there are no trees of {old} and {new} entries", cause=f"the log has {size}")
            tree = self._state.tree
            path = tree.consistency_path(old, new)
            return ConsistencyProof(old=old, new=new, old_root=tree.root(old), new_root=tree.root(new), path=path)

    def check(
        self, progress: Progress = SilentProgress(), hear: Callable[[Sequence[bytes]], None] | None = None
    ) -> Iterator[Damage]:
        """Reads everything anew and gives each damage, located; see `checking`."""
        return check_log(self.folder, self.keys, progress, hear)

    def publish(self) -> None:
        """Puts the latest checkpoint in the file `checkpoint`, which lags by 64 commits at most.

        The caller holds the registry's lock.

        Raises:
            IntegrityError: as of `refresh`.
            WorldError: the disk refused.
        """
        with self._turn, self._lock:
            self.refresh()
            checkpoint = self._state.checkpoint
            try:
                if checkpoint is not None:
                    self._publish(checkpoint)
            except OSError as error:
                raise WorldError(f"cannot write to {self.folder}", cause=str(error)) from error

    def repair(self) -> None:
        """Makes tiles, offsets and `checkpoint` anew from the segments. The caller holds the registry's lock.

        Raises:
            IntegrityError: the segments themselves are damaged.
            WorldError: the disk refused.
        """
        with self._turn, self._lock:
            self.refresh()
            state = self._state
            if state.checkpoint is None:
                return
            for segment in state.segments:
                segment.rebuild_offsets()
            state.tree.rebuild(state.size)
            if state.tree.root() != state.checkpoint.root:
                state.reset()
                raise IntegrityError(f"the entries in {self.folder} are damaged", hint="legion registry verify")
            try:
                state.segments.write_offsets()
                state.tree.write()
                self._publish(state.checkpoint)
            except OSError as error:
                raise WorldError(f"cannot write to {self.folder}", cause=str(error)) from error

    def close(self) -> None:
        """Frees the files; the next call opens the log again."""
        with self._turn, self._lock:
            self._state.reset()
            self._signer = None
            self._poison = None

    def _opened_size(self) -> int:
        if not self._state.is_open:
            self.refresh()
        return self._state.size

    def _refuse_unknown(self, number: int) -> None:
        if not 0 <= number < self._opened_size():
            raise InvalidValueError(f"there is no entry {number}", cause=f"the log has {self.size}")
