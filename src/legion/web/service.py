"""What the routes ask of a registry, in resources."""

from __future__ import annotations

import itertools
from bisect import bisect_left, bisect_right
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Final, cast, final

from legion.foundation.errors import InvalidValueError, RefusedError, UnknownNameError
from legion.neuro_architecture.registry import ArchitectureRegistry
from legion.neuro_architecture.registry.listing import SnapshotList
from legion.neuro_architecture.registry.query import parse_query
from legion.neuro_architecture.registry.translog import TransparencyLog
from legion.neuro_architecture.spec.entries import SnapshotEntry
from legion.neuro_architecture.spec.snapshot import ArchitectureSnapshot
from legion.web.models import CheckpointResource, Inclusion, ProofResource, SnapshotPage, SnapshotResource
from legion.web.tiles import TileReader

__all__ = ["RegistryService"]

_CHUNK_BYTES: Final = 64 << 10
Numbered = tuple[int, ArchitectureSnapshot]


@final
class RegistryService:
    """One registry, asked by many threads.

    Args:
        registry: It.
        keys: Folder of the checkpoints that this machine has seen.
        takes_writes: Whether a token is configured.
    """

    def __init__(self, registry: ArchitectureRegistry, *, keys: Path, takes_writes: bool) -> None:
        self.registry = registry
        self.takes_writes = takes_writes
        self.log = TransparencyLog(registry.root, keys=keys)
        self.tiles = TileReader(self.log)

    # ---- snapshots

    def number_of(self, snapshot: ArchitectureSnapshot) -> int:
        """The entry that registered it."""
        return self.registry.prove(snapshot.digest).number

    def resource(self, snapshot: ArchitectureSnapshot) -> SnapshotResource:
        """The snapshot with what names it now."""
        return self.resources([(self.number_of(snapshot), snapshot)])[0]

    def resources(self, numbered: Iterable[Numbered]) -> tuple[SnapshotResource, ...]:
        """Snapshots by their entries, each with what names it now."""
        named: dict[str, list[str]] = {}
        for alias, digest in self.registry.aliases().items():
            named.setdefault(digest, []).append(alias)
        found = []
        for number, snapshot in numbered:
            digest = snapshot.digest
            found.append(
                SnapshotResource(
                    digest=digest,
                    entry=number,
                    tags_now=self.registry.tags(digest),
                    aliases=tuple(sorted(named.get(digest, []))),
                    snapshot=snapshot,
                )
            )
        return tuple(found)

    def history(self, semantic_hash: str) -> tuple[SnapshotResource, ...]:
        """All revisions of an architecture, oldest first."""
        return self.resources(_numbered(self.registry.history(semantic_hash)))

    def page(
        self,
        *,
        query: str | None,
        tags: Sequence[str],
        order: str | None,
        is_descending: bool,
        after: int | None,
        limit: int,
    ) -> SnapshotPage:
        """At most `limit` snapshots behind the one of entry `after`, in order.

        Raises:
            InvalidValueError: the query is no query.
            RefusedError: an order by a metric, and the snapshot of entry `after` no longer fits the query.
        """
        text = _text(query, tags)
        if text == "all" and order is None and not is_descending:
            found = list(itertools.islice(self._registered(after), limit + 1))
        else:
            found = self._selected(text, order, is_descending, after, limit + 1)
        shown = self.resources(found[:limit])
        return SnapshotPage(snapshots=shown, next=shown[-1].entry if len(found) > limit else None)

    def _registered(self, after: int | None) -> Iterator[Numbered]:
        start = 0 if after is None else after + 1
        size = self.log.refresh()
        for place, entry in enumerate(self.registry.entries(min(start, size), size)):
            if isinstance(entry, SnapshotEntry):
                yield start + place, entry.snapshot

    def _selected(
        self, text: str, order: str | None, is_descending: bool, after: int | None, limit: int
    ) -> list[Numbered]:
        is_newest_first = order is None and is_descending
        most = limit if after is None and not is_newest_first else None
        found = cast("SnapshotList", self.registry.query(text, order=order, is_descending=is_descending, limit=most))
        if order is None:
            start, stop = 0, len(found)
            if after is not None:
                start = 0 if is_newest_first else bisect_right(found.numbers, after)
                stop = bisect_left(found.numbers, after) if is_newest_first else stop
            shown = found[max(start, stop - limit) : stop][::-1] if is_newest_first else found[start : start + limit]
        else:
            start = 0 if after is None else _place(found.numbers, after) + 1
            shown = found[start : start + limit]
        return list(_numbered(shown))

    # ---- the log

    def checkpoint(self) -> CheckpointResource:
        """The latest.

        Raises:
            UnknownNameError: nothing was registered yet.
        """
        self.log.refresh()
        checkpoint = self.log.checkpoint(self.refuse_empty())
        return CheckpointResource.of(checkpoint, str(self.log.key))

    def refuse_empty(self) -> int:
        """The log's size.

        Raises:
            UnknownNameError: nothing was registered yet.
        """
        size = self.log.size
        if size == 0:
            raise UnknownNameError("the log has no entry yet", hint="register a snapshot first")
        return size

    def proof(self, key: str) -> ProofResource:
        """That a snapshot is in the log.

        Raises:
            UnknownNameError: no such snapshot.
        """
        snapshot = self.registry.resolve(key)
        number = self.number_of(snapshot)
        checkpoint = self.checkpoint()
        return ProofResource(
            digest=snapshot.digest,
            entry=self.log.read(number).decode(),
            inclusion=Inclusion.of(self.log.inclusion_proof(number, checkpoint.size)),
            checkpoint=checkpoint,
        )

    def entries(self, start: int, stop: int | None) -> Iterator[bytes]:
        """The very bytes of entries, a line each, some lines at a time.

        Raises:
            InvalidValueError: there are no such entries.
        """
        size = self.log.refresh()
        end = size if stop is None else stop
        if not 0 <= start <= end <= size:
            raise InvalidValueError(f"there are no entries {start} to {end}", cause=f"the log has {size}")
        return _in_chunks(self.log.read_range(start, end))


def _numbered(found: Sequence[ArchitectureSnapshot]) -> Iterator[Numbered]:
    return zip(cast("SnapshotList", found).numbers, found, strict=True)


def _text(query: str | None, tags: Sequence[str]) -> str:
    terms = []
    if query is not None and query.strip():
        parse_query(query)  # so that a mistake is shown in the caller's own text
        terms.append(f"({query})")
    for tag in tags:
        quoted = tag.replace("\\", "\\\\").replace('"', '\\"')
        terms.append(f'tag:"{quoted}"')
    return " and ".join(terms) or "all"


def _place(numbers: Sequence[int], after: int) -> int:
    try:
        return numbers.index(after)
    except ValueError:
        raise RefusedError(
            f"the snapshot of entry {after} is no longer among those asked for",
            cause="tags or aliases moved between two pages",
            hint="start again without after",
        ) from None


def _in_chunks(entries: Iterator[bytes]) -> Iterator[bytes]:
    chunk = bytearray()
    for entry in entries:
        chunk += entry + b"\n"
        if len(chunk) >= _CHUNK_BYTES:
            yield bytes(chunk)
            chunk.clear()
    if chunk:
        yield bytes(chunk)
