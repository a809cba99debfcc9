"""What the records say, in memory: read once, then only what was appended."""

from __future__ import annotations

import itertools
from dataclasses import dataclass, field
from typing import final

from legion.foundation.canonical import digest_json
from legion.foundation.errors import IntegrityError
from legion.neuro_architecture.registry.log import Head, Record, RecordLog
from legion.neuro_architecture.spec.snapshot import ArchitectureSnapshot

__all__ = ["SnapshotIndex", "content_name"]


def content_name(snapshot: ArchitectureSnapshot) -> str:
    """Digest of what the caller gave: everything but revision, parent and time."""
    return digest_json(snapshot.model_dump(mode="json", exclude={"revision", "parent", "created_at"}))


@final
@dataclass(slots=True)
class SnapshotIndex:
    """Positions of the snapshots by digest, architecture, tag and content. Not thread-safe by itself.

    Attributes:
        log: Where the records are.
        snapshots: All snapshots, in the order of their registration.
        last_digest: Digest of the last record's file.
    """

    log: RecordLog
    snapshots: list[ArchitectureSnapshot] = field(default_factory=list)
    last_digest: str | None = None
    _names: list[str] = field(default_factory=list)
    _by_digest: dict[str, int] = field(default_factory=dict)
    _by_architecture: dict[str, list[int]] = field(default_factory=dict)
    _by_tag: dict[str, list[int]] = field(default_factory=dict)
    _by_content: dict[str, int] = field(default_factory=dict)

    def refresh(self) -> None:
        """Reads the records that were appended since the last call.

        Raises:
            IntegrityError: a record is missing, altered, renamed or out of its chain; says which file.
        """
        head = self.log.head()  # before the listing: a record may appear in between, never go
        names = self.log.names()
        if names[: len(self._names)] != self._names:
            pairs = itertools.zip_longest(self._names, names)
            gone = next(known for known, found in pairs if known != found)
            raise IntegrityError(
                f"record {self.log.folder / gone} is missing or out of its place", hint="legion registry verify"
            )
        for name in names[len(self._names) :]:
            self._add(name)
        self._check_head(head)

    def _add(self, name: str) -> None:
        record, digest = self.log.read(name)
        expected = len(self.snapshots) + 1
        if record.sequence != expected or record.previous != self.last_digest:
            raise IntegrityError(
                f"the chain breaks at record {self.log.folder / name}",
                cause=f"it is number {record.sequence} after {record.previous}; "
                f"expected is number {expected} after {self.last_digest}",
                hint="legion registry verify",
            )
        self._note(record, name, digest)

    def _check_head(self, head: Head | None) -> None:
        if head is not None and head.sequence > len(self.snapshots):
            raise IntegrityError(
                f"the last records in {self.log.folder} are missing",
                cause=f"{self.log.head_path} remembers {head.sequence} records, there are {len(self.snapshots)}",
                hint="legion registry verify",
            )

    def _note(self, record: Record, name: str, digest: str) -> None:
        position = len(self.snapshots)
        snapshot = record.snapshot
        self.snapshots.append(snapshot)
        self._names.append(name)
        self.last_digest = digest
        self._by_digest[record.digest] = position
        self._by_architecture.setdefault(snapshot.semantic_hash, []).append(position)
        self._by_content.setdefault(content_name(snapshot), position)
        for tag in snapshot.tags:
            self._by_tag.setdefault(tag, []).append(position)

    def by_digest(self, digest: str) -> ArchitectureSnapshot | None:
        """The snapshot with this digest."""
        position = self._by_digest.get(digest)
        return None if position is None else self.snapshots[position]

    def by_content(self, name: str) -> ArchitectureSnapshot | None:
        """The first snapshot of this content."""
        position = self._by_content.get(name)
        return None if position is None else self.snapshots[position]

    def by_architecture(self, semantic_hash: str) -> list[ArchitectureSnapshot]:
        """All revisions, oldest first."""
        return [self.snapshots[position] for position in self._by_architecture.get(semantic_hash, ())]

    def by_tag(self, tag: str) -> list[ArchitectureSnapshot]:
        """All snapshots with this tag, oldest first."""
        return [self.snapshots[position] for position in self._by_tag.get(tag, ())]

    def catch_up_head(self) -> None:
        """Moves the head to the last record, where a writer was killed in between. Call it under the file lock only."""
        head = self.log.head()
        is_behind = head is None or head.sequence < len(self.snapshots)
        if is_behind and self.last_digest is not None:
            self.log.move_head(Head(sequence=len(self.snapshots), digest=self.last_digest))
