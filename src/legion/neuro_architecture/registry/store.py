"""The registry: append-only snapshots of architectures with their evidence and their files."""

from __future__ import annotations

import contextlib
import re
import threading
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, Final, Self, final

from legion.foundation.canonical import digest_file
from legion.foundation.clock import Clock, SystemClock, rfc3339
from legion.foundation.errors import InvalidValueError, WorldError
from legion.foundation.files import confine, exclusive_lock, fsync_folder, publish_folder
from legion.foundation.labels import plain_label
from legion.foundation.settings import Settings
from legion.neuro_architecture.registry.admission import admit_file_name, admit_json, admit_tags
from legion.neuro_architecture.registry.blobs import BlobStore
from legion.neuro_architecture.registry.index import SnapshotIndex, content_name
from legion.neuro_architecture.registry.log import RecordLog
from legion.neuro_architecture.registry.staging import StagingFolder
from legion.neuro_architecture.registry.verification import VerificationReport, verify_registry
from legion.neuro_architecture.spec.architecture import parse_architecture
from legion.neuro_architecture.spec.semantics import SEMANTIC_HASH_HEX_DIGITS, semantic_hash
from legion.neuro_architecture.spec.snapshot import ArchitectureSnapshot

__all__ = ["ArchitectureRegistry"]

FOLDER: Final = Path("artifacts") / "architecture_registry"
_HEX: Final = re.compile(r"[0-9a-f]+")


@final
class ArchitectureRegistry:
    """Immutable records of architectures, safe for threads and processes.

    The contract:

    - What `register` returned is durable: it survives kill -9 at any later instant.
    - What was registered never changes and never goes; there is no method that would.
    - A reader sees a record whole or not at all. Readers take no file lock.
    - Writers take turns by an advisory lock on `lock`, over all threads and processes of one machine. The folder must
      be on a local disk with hard links.
    - One object may be shared by threads. Values returned are the caller's own copies.
    - A damaged record stops every read with IntegrityError, naming the file; `verify` finds all damage at once.

    ```
    <root>/records/<sequence>-<12 hex>.json   one file a snapshot, chained by digest (see log.py)
    <root>/blobs/sha256/<2 hex>/<64 hex>      files by digest, once each
    <root>/head.json                          the last acknowledged record
    <root>/tmp/, <root>/lock                  scratch files of the writer at work; nothing in them counts
    ```

    Args:
        root: The registry's folder, created by the first `register`; by default `artifacts/architecture_registry/`
            in the workspace.
        clock: Where `created_at` comes from.
    """

    def __init__(self, root: Path | str | None = None, *, clock: Clock | None = None) -> None:
        self.root = Path(root) if root is not None else Settings.load().workspace / FOLDER
        self._clock = clock or SystemClock()
        self._staging = StagingFolder(self.root)
        self._blobs = BlobStore(self.root, self._staging)
        self._log = RecordLog(self.root, self._staging)
        self._index = SnapshotIndex(self._log)
        self._thread_lock = threading.Lock()

    @classmethod
    def of(cls, settings: Settings) -> Self:
        """The registry of this workspace."""
        return cls(settings.workspace / FOLDER)

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
        if not isinstance(config, Mapping):
            raise InvalidValueError(f"config is no mapping but {type(config).__name__}")
        architecture = parse_architecture(dict(config))
        draft = ArchitectureSnapshot(
            version=plain_label(version, "version"),
            semantic_hash=semantic_hash(architecture),
            revision=1,
            config=admit_json(architecture.to_dict(), "config"),
            metrics=admit_json(metrics, "metrics"),
            provenance=admit_json(provenance or {}, "provenance"),
            tags=admit_tags(tags),
            blobs={},
            parent=None,
            created_at=rfc3339(self._clock.now()),
        )
        sources = {admit_file_name(name): Path(path) for name, path in sorted((files or {}).items())}
        with self._writing():
            blobs = {name: self._blobs.put(name, path) for name, path in sources.items()}
            return self._append(draft.model_copy(update={"blobs": blobs}))

    def _append(self, draft: ArchitectureSnapshot) -> ArchitectureSnapshot:
        with self._reading() as index:
            standing = index.by_content(content_name(draft))
            if standing is None:
                revisions = index.by_architecture(draft.semantic_hash)
                parent = revisions[-1].digest if revisions else None
                snapshot = draft.model_copy(update={"revision": len(revisions) + 1, "parent": parent})
                self._log.append(snapshot, sequence=len(index.snapshots) + 1, previous=index.last_digest)
                index.refresh()
                standing = index.snapshots[-1]
            return standing.model_copy(deep=True)

    def get(self, key: str) -> ArchitectureSnapshot | None:
        """The latest revision of a 16-hex semantic hash, or the snapshot with a digest; None where there is none.

        Args:
            key: 16 hex digits, `sha256:<64 hex>` or 64 hex digits.
        """
        name = key.removeprefix("sha256:")
        if not _HEX.fullmatch(name):
            return None
        with self._reading() as index:
            if len(name) == SEMANTIC_HASH_HEX_DIGITS and name == key:
                found = index.by_architecture(name)[-1:]
            else:
                snapshot = index.by_digest("sha256:" + name)
                found = [] if snapshot is None else [snapshot]
        return found[0].model_copy(deep=True) if found else None

    def history(self, semantic_hash: str) -> list[ArchitectureSnapshot]:
        """All revisions of one architecture, oldest first."""
        with self._reading() as index:
            return _own(index.by_architecture(semantic_hash))

    def get_by_tag(self, tag: str) -> list[ArchitectureSnapshot]:
        """All snapshots with this tag, in the order of their registration."""
        with self._reading() as index:
            return _own(index.by_tag(tag))

    def list_all(self) -> list[ArchitectureSnapshot]:
        """All snapshots, in the order of their registration."""
        with self._reading() as index:
            return _own(index.snapshots)

    def verify(self) -> VerificationReport:
        """Reads every record and blob anew and reports each that is not what was written. Raises nothing for it."""
        return verify_registry(self._log, self._blobs, self._staging)

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
        if _holds(folder, snapshot.blobs):
            return folder
        others = {path.name for path in folder.iterdir()} - set(snapshot.blobs) if folder.is_dir() else set()
        if others:
            raise InvalidValueError(f"{folder} holds other files: {', '.join(sorted(others)[:5])}")

        def fill(fresh: Path) -> None:
            for name, digest in snapshot.blobs.items():
                self._blobs.copy(name, digest, confine(fresh, name))

        publish_folder(folder, fill)
        return folder

    @contextlib.contextmanager
    def _reading(self) -> Iterator[SnapshotIndex]:
        with self._thread_lock:
            self._index.refresh()
            yield self._index

    @contextlib.contextmanager
    def _writing(self) -> Iterator[None]:
        with self._locked():
            with self._reading() as index:
                index.catch_up_head()
            self._staging.sweep()
            yield

    @contextlib.contextmanager
    def _locked(self) -> Iterator[None]:
        try:
            if not self.root.is_dir():
                self.root.mkdir(parents=True, exist_ok=True)
                fsync_folder(self.root.parent)
        except OSError as error:
            raise WorldError(f"cannot make {self.root}", cause=str(error)) from error
        with exclusive_lock(self.root / "lock"):
            yield


def _own(snapshots: list[ArchitectureSnapshot]) -> list[ArchitectureSnapshot]:
    return [snapshot.model_copy(deep=True) for snapshot in snapshots]


def _holds(folder: Path, blobs: Mapping[str, str]) -> bool:
    if not folder.is_dir() or {path.name for path in folder.iterdir()} != set(blobs):
        return False
    return all((folder / name).is_file() and digest_file(folder / name) == digest for name, digest in blobs.items())
