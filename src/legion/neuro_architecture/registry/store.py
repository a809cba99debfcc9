"""The registry: append-only snapshots of architectures with their evidence, and all that was done with them."""

from __future__ import annotations

import contextlib
import functools
import itertools
import re
from array import array
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Final, Self, final

from legion.foundation.canonical import short
from legion.foundation.clock import Clock, SystemClock, rfc3339
from legion.foundation.errors import IntegrityError, InvalidValueError, UnknownNameError, WorldError
from legion.foundation.files import fsync_folder
from legion.foundation.labels import plain_label
from legion.foundation.progress import Progress, SilentProgress
from legion.foundation.settings import Settings
from legion.neuro_architecture.registry.admission import admit_alias, admit_json, admit_tags
from legion.neuro_architecture.registry.blobs import BlobStore
from legion.neuro_architecture.registry.commits import CommitQueue
from legion.neuro_architecture.registry.decisions import ANYTHING, move_alias, move_tags, place, place_again
from legion.neuro_architecture.registry.desk import Desk
from legion.neuro_architecture.registry.drafts import SnapshotDraft
from legion.neuro_architecture.registry.exchange import export_entry, materialise, unpacked, verify_continuation
from legion.neuro_architecture.registry.importing.draft import ImportReport
from legion.neuro_architecture.registry.indexing import RegistryIndex, open_index
from legion.neuro_architecture.registry.ledger import Ledger
from legion.neuro_architecture.registry.listing import Lineage, SnapshotList
from legion.neuro_architecture.registry.query import parse_query
from legion.neuro_architecture.registry.staging import StagingFolder
from legion.neuro_architecture.registry.translog import (
    Checkpoint,
    ConsistencyProof,
    InclusionProof,
    TransparencyLog,
    VerifierKey,
)
from legion.neuro_architecture.registry.verification import VerificationReport, verify_registry
from legion.neuro_architecture.spec.entries import (
    AnyEntry,
    ApprovalEntry,
    DeletionEntry,
    RolloutEntry,
    VerdictEntry,
)
from legion.neuro_architecture.spec.semantics import SEMANTIC_HASH_HEX_DIGITS
from legion.neuro_architecture.spec.snapshot import ArchitectureSnapshot

__all__ = ["ArchitectureRegistry"]

FOLDER: Final = Path("artifacts") / "architecture_registry"
_HEX: Final = re.compile(r"[0-9a-f]+")
_LEAST_PREFIX: Final = 4
_BATCH: Final = 5_000
_DIGEST_HEX_DIGITS: Final = 64
_SHOWN: Final = 5
_NEWEST: Final = 64  # entries that are looked through for names to suggest


@final
class ArchitectureRegistry:
    """Immutable records of architectures, safe for threads and processes.

    The contract:

    - What a method that writes returned is durable: it survives kill -9 and loss of power at any later instant.
    - What was written never changes and never goes. Tags and aliases move by new entries; the old ones stay in the log.
    - A reader sees a commit whole or not at all. Readers take no lock unless they find the index behind the log.
    - Writers take turns by an advisory lock on `lock`, over all threads and processes of one machine, so the folder
      must be on a local disk. Threads that write at once share one commit.
    - One object may be shared by threads. Values returned are the caller's own copies.
    - Each read of an entry is checked against its leaf of the Merkle tree. Rollback, forks and a strange key stop every
      read with IntegrityError; `verify` finds and locates all damage at once.

    ```
    <root>/segments/      the entries, append-only (see translog)
    <root>/tile/, checkpoint, origin, key.pub      the tree over them, and what it was signed as
    <root>/blobs/         files by digest, once each, unless another store is named
    <root>/index.sqlite   what finds entries; made anew from the log at any time
    <root>/tmp/, lock     scratch files of writers at work; nothing in them counts
    ```

    Args:
        root: The registry's folder, created by the first write; by default `artifacts/architecture_registry/` in the
            workspace.
        clock: Where times come from.
        keys: Folder of private keys and remembered checkpoints.
        index: Database URL of the index; None is SQLite in the folder.
        blobs: URL of the folder that keeps files; None is the registry's own.
        by: Who writes, as the log shall say.
    """

    def __init__(
        self,
        root: Path | str | None = None,
        *,
        clock: Clock | None = None,
        keys: Path | None = None,
        index: str | None = None,
        blobs: str | None = None,
        by: str | None = None,
    ) -> None:
        settings = Settings.load()
        self.root = Path(root) if root is not None else settings.workspace / FOLDER
        self._clock = clock or SystemClock()
        self._by = None if by is None else plain_label(by, "by")
        self._staging = StagingFolder(self.root)
        self._blobs = BlobStore(self.root, self._staging, url=blobs)
        log = TransparencyLog(self.root, keys=keys or settings.keys)
        self._ledger = Ledger(
            log, lambda origin: open_index(index, path=self.root / "index.sqlite", origin=origin), self.root / "lock"
        )
        self._queue: CommitQueue[Desk] = CommitQueue(
            self._ledger.commit, mark=lambda desk: len(desk.entries), undo=Desk.take_back
        )

    @classmethod
    def of(cls, settings: Settings, *, by: str | None = None) -> Self:
        """The registry of this workspace, with the index and the files where the settings say."""
        return cls(
            settings.workspace / FOLDER,
            keys=settings.keys,
            index=settings.registry_index,
            blobs=settings.registry_blobs,
            by=by,
        )

    # ---- writing

    def register(
        self,
        version: str,
        config: Mapping[str, Any],
        metrics: Mapping[str, Any],
        provenance: Mapping[str, Any] | None = None,
        tags: Iterable[str] = (),
        *,
        files: Mapping[str, Path] | None = None,
    ) -> ArchitectureSnapshot:
        """The snapshot of this architecture and evidence, durable.

        The very same content again gives the snapshot that stands and writes nothing; the same architecture with
        other evidence becomes the next revision, whose `parent` is the revision before.

        Args:
            version: The caller's own version.
            config: The architecture; defaults may be left out, key order does not matter.
            metrics: Evidence as JSON; NaN and infinity are refused.
            provenance: Where it comes from, as JSON.
            tags: Labels for `get_by_tag`.
            files: File name to path of what belongs to it: safetensors, JSON or text. Pickles and links are refused.

        Raises:
            UnknownNameError: no such strategy.
            InvalidValueError: a config, number, tag or file that the registry does not let in.
            IntegrityError: what stands is damaged.
            WorldError: the disk refused.
        """
        draft = SnapshotDraft(
            version=version,
            config=config,
            metrics=metrics,
            provenance=provenance or {},
            tags=tags,
            files=files or {},
        )
        return self.register_all([draft])[0]

    def register_all(self, drafts: Iterable[SnapshotDraft]) -> list[ArchitectureSnapshot]:
        """`register` for many, in commits of some thousands; after an error the commits before it stand.

        Raises:
            LegionError: as `register`.
        """
        registered: list[ArchitectureSnapshot] = []
        for batch in _batches(drafts):
            ready = [self._with_files(draft) for draft in batch]
            registered += self._queue.run(functools.partial(self._place_all, ready))
        return registered

    def _place_all(self, ready: Sequence[ArchitectureSnapshot], desk: Desk) -> list[ArchitectureSnapshot]:
        return [place(desk, each, at=each.created_at, by=self._by) for each in ready]

    def _with_files(self, draft: SnapshotDraft) -> ArchitectureSnapshot:
        snapshot = draft.admitted(self._now())
        sources = draft.sources()
        if not sources:
            return snapshot
        self._make_root()
        return snapshot.model_copy(
            update={"blobs": {name: self._blobs.put(name, path) for name, path in sources.items()}}
        )

    def tag(self, key: str, add: Iterable[str] = (), remove: Iterable[str] = ()) -> tuple[str, ...]:
        """Puts tags on a snapshot and takes others off; returns those it has then. What is so already writes nothing.

        Raises:
            UnknownNameError: no such snapshot.
            InvalidValueError: a tag that is no label, or one both put on and taken off.
        """
        digest = self.resolve(key).digest
        added, removed = set(admit_tags(add)), set(admit_tags(remove))
        if added & removed:
            raise InvalidValueError(f"tag {min(added & removed)!r} is both put on and taken off")

        return self._queue.run(lambda desk: move_tags(desk, digest, added, removed, at=self._now(), by=self._by))

    def set_alias(self, alias: str, key: str | None, *, expected: object = ANYTHING) -> str | None:
        """Lets an alias name a snapshot, or nothing where `key` is None; returns the digest it named before.

        Args:
            alias: `champion`, `candidate`, `baseline`, ...
            key: What `resolve` takes, or None.
            expected: What the alias must name now for the move to happen: a key, or None for nothing. Left out, any.

        Raises:
            UnknownNameError: no such snapshot.
            RefusedError: the alias names something else than expected.
        """
        name = admit_alias(alias)
        digest = None if key is None else self.resolve(key).digest
        wanted = expected if expected is ANYTHING or expected is None else self.resolve(str(expected)).digest

        return self._queue.run(
            lambda desk: move_alias(desk, name, digest, expected=wanted, at=self._now(), by=self._by)
        )

    def approve(
        self, key: str, *, is_approved: bool, by: str, reason: str = "", idempotency_key: str | None = None
    ) -> int:
        """Writes down who let a snapshot go on, or who did not; returns the entry's number, or that of its key's.

        Raises:
            UnknownNameError: no such snapshot.
        """
        digest = self.resolve(key).digest
        return self._note(
            ApprovalEntry(
                at=self._now(),
                by=plain_label(by, "by"),
                key=idempotency_key,
                snapshot=digest,
                is_approved=is_approved,
                reason=reason,
            )
        )

    def note_verdict(
        self,
        key: str,
        gate: str,
        verdict: str,
        evidence: Mapping[str, Any] | None = None,
        *,
        idempotency_key: str | None = None,
    ) -> int:
        """Writes down what a gate decided: `pass`, `fail` or `insufficient`; returns the entry's number.

        Raises:
            UnknownNameError: no such snapshot.
            InvalidValueError: another verdict, or evidence that is no JSON.
        """
        entry = {
            "at": self._now(),
            "by": self._by,
            "key": idempotency_key,
            "snapshot": self.resolve(key).digest,
            "gate": plain_label(gate, "gate"),
            "verdict": verdict,
            "evidence": admit_json(evidence or {}, "evidence"),
        }
        return self._note(VerdictEntry.parse(entry, what="verdict"))

    def note_rollout(
        self,
        key: str,
        slot: str,
        event: str,
        *,
        weight: float | None = None,
        evidence: Mapping[str, Any] | None = None,
        idempotency_key: str | None = None,
    ) -> int:
        """Writes down that a rollout moved; returns the entry's number.

        Raises:
            UnknownNameError: no such snapshot.
            InvalidValueError: an unknown event, a weight outside 0 to 1, or evidence that is no JSON.
        """
        entry = {
            "at": self._now(),
            "by": self._by,
            "key": idempotency_key,
            "snapshot": self.resolve(key).digest,
            "slot": plain_label(slot, "slot"),
            "event": event,
            "weight": weight,
            "evidence": admit_json(evidence or {}, "evidence"),
        }
        return self._note(RolloutEntry.parse(entry, what="rollout"))

    def _note(self, entry: AnyEntry) -> int:
        def write(desk: Desk) -> int:
            standing = desk.number_of(entry.key)
            if standing is not None:
                return standing
            number = desk.next_number
            desk.add(entry)
            return number

        return self._queue.run(write)

    def restore_snapshot(self, key: str) -> ArchitectureSnapshot:
        """Makes what an earlier snapshot says the newest revision of its architecture again; history stays as it is.

        The new revision has the content of the old one, and its provenance names it under `restored_from`. A snapshot
        that is the newest already is returned as it is.

        Raises:
            UnknownNameError: no such snapshot.
            IntegrityError: one of its files is missing or altered.
        """
        old = self.resolve(key)
        self.verify_files(old)
        update = {"provenance": old.provenance | {"restored_from": old.digest}, "created_at": self._now()}
        restored = old.model_copy(update=update)

        return self._queue.run(lambda desk: place_again(desk, old, restored, at=self._now(), by=self._by))

    def collect_garbage(self, *, is_dry_run: bool = True) -> list[tuple[str, int]]:
        """Digest and bytes of the blobs that no snapshot names; without `is_dry_run` they are deleted, and the log
        says so.

        Raises:
            WorldError: the store refused.
        """
        with self._reading() as index:
            unreferenced = self._blobs.sweep(set(index.referenced_blobs()), is_dry_run=True)
        if is_dry_run or not unreferenced:
            return unreferenced

        def write(desk: Desk) -> list[tuple[str, int]]:
            swept = self._blobs.sweep(set(self._ledger.index.referenced_blobs()), is_dry_run=False)
            for digest, size in swept:
                desk.add(
                    DeletionEntry(
                        at=self._now(), by=self._by, blob=digest, size_bytes=size, reason="no snapshot names it"
                    )
                )
            return swept

        return self._queue.run(write)

    # ---- reading

    def get(self, key: str) -> ArchitectureSnapshot | None:
        """What an alias or a digest names, or the latest revision of a 16-hex semantic hash; None where nothing is.

        Args:
            key: An alias, 16 hex digits, `sha256:<64 hex>` or 64 hex digits.
        """
        number = self._number(key)
        return None if number is None else self._ledger.snapshot(number)

    def _number(self, key: str) -> int | None:
        self._ledger.catch_up()
        number = self._ledger.remembered(key)
        if number is not None:
            return number
        index = self._ledger.index
        name = key.removeprefix("sha256:")
        if _HEX.fullmatch(name):
            if len(name) == SEMANTIC_HASH_HEX_DIGITS and name == key:
                return index.latest(name)
            if len(name) == _DIGEST_HEX_DIGITS:
                return self._ledger.by_digest("sha256:" + name)
        digest = index.alias(key)
        return None if digest is None else self._ledger.by_digest(digest)

    def resolve(self, key: str) -> ArchitectureSnapshot:
        """`get`, and also the one snapshot whose digest begins so.

        Raises:
            UnknownNameError: there is none, or there are several.
        """
        return self._ledger.snapshot(self._known(key))

    def _known(self, key: str) -> int:
        """The entry of what `resolve` gives."""
        number = self._number(key)
        if number is not None:
            return number
        name = key.removeprefix("sha256:")
        matches: list[str] = []
        if _HEX.fullmatch(name) and len(name) >= _LEAST_PREFIX:
            with self._reading() as index:
                matches = index.by_beginning(name, limit=_SHOWN)
        if len(matches) == 1:
            return self._known(matches[0])
        if matches:
            raise UnknownNameError(
                f"{key!r} is the beginning of several digests",
                cause=", ".join(map(short, matches)),
                hint="write more of it",
            )
        with self._reading() as index:
            newest = list(index.snapshots(after=self._ledger.log.size - _NEWEST))[-_SHOWN:]
            near = [*index.aliases(), *(short(self._ledger.snapshot(number).digest) for number in newest)]
        raise UnknownNameError.of("snapshot", key, near, hint="list them: legion registry ls")

    def history(self, semantic_hash: str) -> Sequence[ArchitectureSnapshot]:
        """All revisions of one architecture, oldest first."""
        with self._reading() as index:
            return self._list(index.revisions(semantic_hash))

    def get_by_tag(self, tag: str) -> Sequence[ArchitectureSnapshot]:
        """All snapshots that have this tag now, in the order of their registration."""
        return self.get_by_tags([tag])

    def get_by_tags(self, tags: Sequence[str]) -> Sequence[ArchitectureSnapshot]:
        """All snapshots that have all these tags now, in the order of their registration."""
        with self._reading() as index:
            return self._list(index.tagged(tags))

    def list_all(self) -> Sequence[ArchitectureSnapshot]:
        """All snapshots, in the order of their registration; each is read when it is asked for."""
        with self._reading() as index:
            return self._list(index.snapshots())

    def query(
        self, text: str, *, order: str | None = None, is_descending: bool = False, limit: int | None = None
    ) -> Sequence[ArchitectureSnapshot]:
        """Snapshots that a query describes: `accuracy > 0.82 and latency_ms < 12 and tag:production`.

        Args:
            text: The query.
            order: A metric to order by, ties by registration; None is the order of registration.
            is_descending: Largest first.
            limit: At most so many.

        Raises:
            InvalidValueError: the query is no query; shows where.
        """
        query = parse_query(text)
        with self._reading() as index:
            return self._list(index.select(query, order=order, is_descending=is_descending, limit=limit))

    def tags(self, key: str) -> tuple[str, ...]:
        """The tags that a snapshot has now.

        Raises:
            UnknownNameError: no such snapshot.
        """
        digest = self.resolve(key).digest
        with self._reading() as index:
            return index.tags(digest)

    def aliases(self) -> dict[str, str]:
        """What each alias names now, as a digest."""
        with self._reading() as index:
            return index.aliases()

    def lineage(self, key: str) -> Lineage:
        """The revisions before a snapshot, nearest first, and what names it as parent.

        Raises:
            UnknownNameError: no such snapshot.
        """
        snapshot = self.resolve(key)
        ancestors = []
        with self._reading() as index:
            parent = snapshot.parent
            while parent is not None:
                number = self._ledger.by_digest(parent)
                if number is None:
                    raise IntegrityError(f"parent {parent} of {snapshot.digest} is not registered")
                ancestors.append(self._ledger.snapshot(number))
                parent = ancestors[-1].parent
            children = tuple(map(self._ledger.snapshot, index.children(snapshot.digest)))
        return Lineage(ancestors=tuple(ancestors), children=children)

    def events(self, key: str) -> list[tuple[int, AnyEntry]]:
        """Number and content of every entry that speaks of a snapshot, oldest first.

        Raises:
            UnknownNameError: no such snapshot.
        """
        digest = self.resolve(key).digest
        with self._reading() as index:
            return [(number, self._ledger.entry(number)) for number in index.events(digest)]

    def entries(self, start: int = 0, stop: int | None = None) -> Iterator[AnyEntry]:
        """The log's entries in order, each read when it is asked for."""
        self._ledger.log.refresh()
        return self._ledger.entries(start, stop)

    # ---- evidence

    def verify(self, progress: Progress = SilentProgress()) -> VerificationReport:
        """Reads everything anew and reports each byte that is not what was written. Raises nothing for it."""
        return verify_registry(self.root, self._ledger, self._blobs, self._staging, progress)

    def checkpoint(self) -> Checkpoint:
        """The signed size and root of the log, as of now.

        Raises:
            UsageError: nothing was written yet.
        """
        self._ledger.log.refresh()
        return self._ledger.log.checkpoint()

    def prove(self, key: str) -> InclusionProof:
        """That a snapshot's entry is in the log.

        Raises:
            UnknownNameError: no such snapshot.
        """
        return self._ledger.log.inclusion_proof(self._known(key))

    def prove_consistency(self, old: int, new: int | None = None) -> ConsistencyProof:
        """That the log of `old` entries is a beginning of that of `new`.

        Raises:
            InvalidValueError: sizes that the log never had.
        """
        self._ledger.log.refresh()
        return self._ledger.log.consistency_proof(old, new)

    def verify_against(self, note: bytes) -> ConsistencyProof:
        """That the log is a continuation of a checkpoint that somebody kept.

        Args:
            note: The signed checkpoint, every byte of it.

        Raises:
            IntegrityError: it is not signed by the log's key, or the log rewrote or lost what it speaks of.
        """
        return verify_continuation(self._ledger.log, note)

    @property
    def key(self) -> VerifierKey | None:
        """The key that signs the log, or None before the first entry."""
        self._ledger.log.refresh()
        return self._ledger.log.key

    def export_snapshot(self, key: str, path: Path) -> Path:
        """Writes a snapshot with its files, its proof and its statement into one file; see `bundle`.

        Raises:
            UnknownNameError: no such snapshot.
            IntegrityError: one of its files is missing or altered; then there is no file.
            WorldError: the disk refused.
        """
        return export_entry(self._ledger.log, self._known(key), self._blobs, path)

    def import_snapshot(self, path: Path, *, trusted: Iterable[str] = ()) -> ArchitectureSnapshot:
        """Registers what a file of `export_snapshot` holds; its provenance says from which log it came.

        Args:
            path: The file.
            trusted: Verifier keys that are vouched for; without any the one in the file is believed, and the
                provenance says so.

        Raises:
            IntegrityError: anything in it is not as it was written.
            InvalidValueError: no such file, or it holds what this registry does not let in.
        """
        with unpacked(path, trusted) as draft:
            return self.register_all([draft])[0]

    def import_all(self, report: ImportReport) -> list[ArchitectureSnapshot]:
        """Registers what an importer read and moves the aliases that it names; the same again writes nothing.

        Raises:
            LegionError: as `register`; what was registered before the error stands.
        """
        registered = self.register_all(draft.to_snapshot_draft() for draft in report.drafts)
        for draft, snapshot in zip(report.drafts, registered, strict=True):
            for alias in draft.aliases:
                self.set_alias(alias, snapshot.digest)
        return registered

    def rebuild(self) -> int:
        """Builds the index anew from the log, which readers see at its end; returns how many entries it holds."""
        return self._ledger.rebuild()

    def verify_files(self, snapshot: ArchitectureSnapshot) -> None:
        """Reads the snapshot's files.

        Raises:
            IntegrityError: one is missing or altered; names it.
        """
        for name, digest in snapshot.blobs.items():
            self._blobs.verify(name, digest)

    def materialise(self, snapshot: ArchitectureSnapshot, folder: Path) -> Path:
        """Puts a verified copy of the snapshot's files into `folder` and returns it; a sound copy there is kept.

        Raises:
            IntegrityError: a blob is missing or altered; then `folder` is as it was.
            InvalidValueError: `folder` holds other files, which the copy would sweep away.
        """
        return materialise(self._blobs, snapshot.blobs, folder)

    # ---- inside

    def _list(self, numbers: Iterable[int]) -> SnapshotList:
        return SnapshotList(array("q", numbers), self._ledger.snapshot)

    @contextlib.contextmanager
    def _reading(self) -> Iterator[RegistryIndex]:
        self._ledger.catch_up()
        yield self._ledger.index

    def _now(self) -> str:
        return rfc3339(self._clock.now())

    def _make_root(self) -> None:
        try:
            if not self.root.is_dir():
                self.root.mkdir(parents=True, exist_ok=True)
                fsync_folder(self.root.parent)
        except OSError as error:
            raise WorldError(f"cannot make {self.root}", cause=str(error)) from error


def _batches(drafts: Iterable[SnapshotDraft]) -> Iterator[list[SnapshotDraft]]:
    rest = iter(drafts)
    while batch := list(itertools.islice(rest, _BATCH)):
        yield batch
