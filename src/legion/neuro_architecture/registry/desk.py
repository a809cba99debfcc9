"""Where a commit is prepared: what stands, and on top of it what this commit adds."""

from __future__ import annotations

from collections.abc import Callable
from typing import final

from legion.foundation.canonical import canonical_json, digest_bytes
from legion.foundation.errors import UnknownNameError
from legion.neuro_architecture.registry.indexing import RegistryIndex, content_name, snapshot_json
from legion.neuro_architecture.spec.entries import AliasEntry, AnyEntry, SnapshotEntry, TagsEntry
from legion.neuro_architecture.spec.snapshot import ArchitectureSnapshot

__all__ = ["Desk"]


@final
class Desk:
    """What an operation decides on. It lives under the registry's lock, so nothing else changes meanwhile.

    Args:
        index: What stands.
        read: The snapshot of an entry, by its number.
        first: Number of the first entry of this commit.
    """

    def __init__(self, index: RegistryIndex, read: Callable[[int], ArchitectureSnapshot], first: int) -> None:
        self._first = first
        self._index = index
        self._read = read
        self.entries: list[AnyEntry] = []
        self._clear()

    def _clear(self) -> None:
        self._by_content: dict[str, ArchitectureSnapshot] = {}
        self._by_digest: dict[str, ArchitectureSnapshot] = {}
        self._latest: dict[str, tuple[ArchitectureSnapshot, str]] = {}
        self._aliases: dict[str, str | None] = {}
        self._tags: dict[str, tuple[str, ...]] = {}
        self._keys: dict[str, int] = {}
        self._written: dict[int, bytes] = {}

    def add(self, entry: AnyEntry) -> None:
        """Writes the entry; what is asked from now on knows of it."""
        self.entries.append(entry)
        self._note(entry)

    def add_snapshot(self, entry: SnapshotEntry, content: str) -> None:
        """Writes the entry of a snapshot whose content has this name, which is not made again."""
        raw = snapshot_json(entry.snapshot)
        self._written[len(self.entries)] = raw
        self.entries.append(entry)
        self._note_snapshot(entry.snapshot, content, digest_bytes(raw))
        if entry.key is not None:
            self._keys.setdefault(entry.key, self._first + len(self.entries) - 1)

    def contents(self) -> list[bytes]:
        """Canonical JSON of each entry; a snapshot, which is written already, stands last in its entry."""
        return [self._content(place, entry) for place, entry in enumerate(self.entries)]

    def _content(self, place: int, entry: AnyEntry) -> bytes:
        raw = self._written.get(place)
        if raw is None:
            return canonical_json(entry.to_dict())
        head = canonical_json({"at": entry.at, "by": entry.by, "key": entry.key, "kind": entry.kind})
        return head[:-1] + b',"snapshot":' + raw + b"}"

    def take_back(self, mark: int) -> None:
        """Forgets all entries from the `mark`-th on."""
        if mark == len(self.entries):
            return
        kept = self.entries[:mark]
        self.entries = []
        self._clear()
        for entry in kept:
            self.add(entry)

    def _note(self, entry: AnyEntry) -> None:
        if entry.key is not None:
            self._keys.setdefault(entry.key, self._first + len(self.entries) - 1)
        match entry:
            case SnapshotEntry(snapshot=snapshot):
                self._note_snapshot(snapshot, content_name(snapshot), snapshot.digest)
            case TagsEntry(snapshot=digest, added=added, removed=removed):
                self._tags[digest] = tuple(sorted((set(self.tags(digest)) - set(removed)) | set(added)))
            case AliasEntry(alias=alias, snapshot=digest):
                self._aliases[alias] = digest
            case _:
                pass  # approvals, verdicts, rollouts and deletions decide nothing here

    def _note_snapshot(self, snapshot: ArchitectureSnapshot, content: str, digest: str) -> None:
        self._by_content.setdefault(content, snapshot)
        self._by_digest[digest] = snapshot
        self._latest[snapshot.semantic_hash] = (snapshot, digest)

    def by_content(self, name: str) -> ArchitectureSnapshot | None:
        """The first snapshot of this content, a copy."""
        fresh = self._by_content.get(name)
        return self._at(self._index.by_content(name)) if fresh is None else fresh.model_copy(deep=True)

    def latest(self, semantic_hash: str) -> ArchitectureSnapshot | None:
        """The newest revision of an architecture."""
        fresh = self._latest.get(semantic_hash)
        return self._at(self._index.latest(semantic_hash)) if fresh is None else fresh[0]

    def next_revision(self, semantic_hash: str) -> tuple[int, str | None]:
        """Number and parent of the revision that would follow."""
        fresh = self._latest.get(semantic_hash)
        if fresh is not None:
            return fresh[0].revision + 1, fresh[1]
        standing = self._at(self._index.latest(semantic_hash))
        return (1, None) if standing is None else (standing.revision + 1, standing.digest)

    def snapshot(self, digest: str) -> ArchitectureSnapshot:
        """The snapshot with this digest.

        Raises:
            UnknownNameError: there is none.
        """
        found = self._by_digest.get(digest) or self._at(self._index.by_digest(digest))
        if found is None:
            raise UnknownNameError.of("snapshot", digest, [], hint="list them: legion registry ls")
        return found

    def tags(self, digest: str) -> tuple[str, ...]:
        """The snapshot's tags, as they stand."""
        if digest in self._tags:
            return self._tags[digest]
        fresh = self._by_digest.get(digest)
        return self._index.tags(digest) if fresh is None else fresh.tags

    def alias(self, name: str) -> str | None:
        """Digest of what an alias names."""
        return self._aliases[name] if name in self._aliases else self._index.alias(name)

    def number_of(self, key: str | None) -> int | None:
        """Number of the entry with this idempotency key, in the log or in this commit."""
        if key is None:
            return None
        return self._keys[key] if key in self._keys else self._index.by_key(key)

    @property
    def next_number(self) -> int:
        """Number of the entry that is written next."""
        return self._first + len(self.entries)

    def _at(self, number: int | None) -> ArchitectureSnapshot | None:
        return None if number is None else self._read(number)
