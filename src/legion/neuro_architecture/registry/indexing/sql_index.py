"""The index over any database that speaks our SQL."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any, Final, final

from legion.foundation.errors import IntegrityError, InvalidValueError
from legion.neuro_architecture.registry.indexing.database import DamagedIndexError, Database
from legion.neuro_architecture.registry.indexing.rows import batch_of, word
from legion.neuro_architecture.registry.indexing.searching import search
from legion.neuro_architecture.registry.indexing.writing import empty_all, write_batch
from legion.neuro_architecture.registry.query.terms import And, Everything, Field, FieldIs, Query, Term
from legion.neuro_architecture.spec.entries import AnyEntry

__all__ = ["SqlIndex"]

_PAGE: Final = 4096
_POSITION: Final = "SELECT entries, leaf FROM log_position WHERE only_row = 1"
# Without ORDER BY, which costs SQLite as much as the search; the least number is taken of the one or two found.
_BY_DIGEST: Final = "SELECT number FROM snapshots WHERE substr(digest, 1, 8) = ? AND digest = ?"
_BY_BEGINNING: Final = "SELECT digest FROM snapshots WHERE substr(digest, 1, 8) BETWEEN ? AND ? ORDER BY number"
_FOUND_BY: Final = 16
_BY_CONTENT: Final = "SELECT number FROM snapshots WHERE substr(content, 1, 8) = ? AND content = ?"
_LATEST: Final = "SELECT MAX(number) FROM snapshots WHERE semantic_hash = ?"
_REVISIONS: Final = "SELECT number FROM snapshots WHERE semantic_hash = ? ORDER BY number"
_BY_KEY: Final = "SELECT number FROM keys WHERE key = ?"
_TAGS: Final = "SELECT tags FROM snapshots WHERE substr(digest, 1, 8) = ? AND digest = ? ORDER BY number"
_ALIASES: Final = "SELECT name, digest FROM aliases ORDER BY name"
_ALIAS: Final = "SELECT digest FROM aliases WHERE name = ?"
_EVENTS: Final = "SELECT number FROM events WHERE subject = ?"
_SNAPSHOTS: Final = "SELECT number FROM snapshots WHERE number > ? ORDER BY number LIMIT ?"
_CHILDREN: Final = "SELECT number FROM snapshots WHERE parent = ? ORDER BY number"
_METRIC_NAMES: Final = """
    WITH RECURSIVE named (name) AS (
        SELECT MIN(name) FROM metrics
        UNION ALL
        SELECT (SELECT MIN(m.name) FROM metrics m WHERE m.name > named.name) FROM named WHERE named.name IS NOT NULL)
    SELECT name FROM named WHERE name IS NOT NULL ORDER BY name"""
_REFERENCED: Final = "SELECT digest FROM blobs WHERE referenced IS NOT NULL ORDER BY digest"
_DELETED: Final = """
    SELECT digest FROM blobs WHERE deleted IS NOT NULL AND (referenced IS NULL OR referenced < deleted)"""


@final
class SqlIndex:
    """`RegistryIndex` in the tables of `schema.py`; as safe for threads and processes as its database.

    Args:
        database: Where the tables are.
    """

    def __init__(self, database: Database) -> None:
        self._database = database

    def position(self) -> tuple[int, str]:
        entries, leaf = self._database.read(_POSITION)[0]
        return entries, leaf

    def apply(self, start: int, entries: Sequence[tuple[AnyEntry, str]]) -> None:
        left = entries
        while left:
            batch = batch_of(start, left)
            with self._database.transaction() as session:
                applied, leaf = session.read(_POSITION)[0]
                if applied == start:
                    write_batch(session, batch)
                    return
            left = self._left(start, left, applied, leaf)
            start = applied

    def _left(
        self, start: int, entries: Sequence[tuple[AnyEntry, str]], applied: int, leaf: str
    ) -> Sequence[tuple[AnyEntry, str]]:
        """What of `entries` is not applied yet, where `applied` are."""
        if applied < start:
            raise InvalidValueError(
                f"entries {applied} to {start - 1} are missing before entry {start}",
                cause=f"the index at {self._database.where} has {applied} entries",
                hint="apply from position() on",
            )
        passed = applied - start
        if passed <= len(entries) and entries[passed - 1][1] != leaf:
            raise IntegrityError(
                f"the index at {self._database.where} is of another log",
                cause=f"its entry {applied - 1} has the leaf hash {leaf}, the log's has {entries[passed - 1][1]}",
                hint="legion registry rebuild",
            )
        return entries[passed:]

    def refill(self, batches: Callable[[], Iterable[Sequence[tuple[AnyEntry, str]]]]) -> None:
        try:
            self._refill(batches())
        except DamagedIndexError:
            self._database.recreate()
            self._refill(batches())

    def _refill(self, batches: Iterable[Sequence[tuple[AnyEntry, str]]]) -> None:
        start = 0
        with self._database.transaction() as session:
            empty_all(session)
            for entries in batches:
                write_batch(session, batch_of(start, entries))
                start += len(entries)

    def by_digest(self, digest: str) -> int | None:
        return self._first(_BY_DIGEST, digest)

    def by_beginning(self, digits: str, *, limit: int) -> list[str]:
        low, high = (digits[:_FOUND_BY].ljust(_FOUND_BY, digit) for digit in "0f")
        found = self._database.read(_BY_BEGINNING, (bytes.fromhex(low), bytes.fromhex(high)))
        return [digest for row in found if (digest := _digest(row[0]))[7:].startswith(digits)][:limit]

    def latest(self, semantic_hash: str) -> int | None:
        number: int | None = self._database.read(_LATEST, (_plain(semantic_hash),))[0][0]
        return number

    def revisions(self, semantic_hash: str) -> list[int]:
        return self._numbers(_REVISIONS, _plain(semantic_hash))

    def by_content(self, name: str) -> int | None:
        return self._first(_BY_CONTENT, name)

    def by_key(self, key: str) -> int | None:
        found = self._numbers(_BY_KEY, hashlib.sha256(key.encode("utf-8", "surrogatepass")).digest())
        return found[0] if found else None

    def tagged(self, tags: Sequence[str]) -> Iterator[int]:
        terms: list[Term] = [FieldIs(Field.TAG, tag) for tag in dict.fromkeys(tags)]
        return self.select(Query(And(tuple(terms)) if terms else Everything()))

    def tags(self, digest: str) -> tuple[str, ...]:
        raw = _raw(digest)
        found = self._database.read(_TAGS, (raw[:8], raw)) if raw else []
        return tuple(json.loads(found[0][0])) if found else ()

    def aliases(self) -> dict[str, str]:
        return {name: _digest(raw) for name, raw in self._database.read(_ALIASES)}

    def alias(self, name: str) -> str | None:
        found = self._database.read(_ALIAS, (_plain(name),))
        return _digest(found[0][0]) if found else None

    def events(self, digest: str) -> list[int]:
        raw = _raw(digest)
        if raw is None:
            return []
        return sorted(self._numbers(_BY_DIGEST, raw[:8], raw) + self._numbers(_EVENTS, raw))

    def snapshots(self, *, after: int = -1, limit: int | None = None) -> Iterator[int]:
        _refuse_negative(limit)
        return self._snapshots(after, limit)

    def _snapshots(self, after: int, limit: int | None) -> Iterator[int]:
        left = limit
        while left is None or left > 0:
            page = _PAGE if left is None else min(left, _PAGE)
            numbers = self._numbers(_SNAPSHOTS, after, page)
            yield from numbers
            if len(numbers) < page:
                return
            after = numbers[-1]
            left = None if left is None else left - page

    def children(self, digest: str) -> list[int]:
        raw = _raw(digest)
        return self._numbers(_CHILDREN, raw) if raw else []

    def select(
        self, query: Query, *, order: str | None = None, is_descending: bool = False, limit: int | None = None
    ) -> Iterator[int]:
        _refuse_negative(limit)
        metric = None if order is None else _plain(order)
        return search(self._database, query.term, order=metric, is_descending=is_descending, limit=limit)

    def metric_names(self) -> tuple[str, ...]:
        return tuple(row[0] for row in self._database.read(_METRIC_NAMES))

    def referenced_blobs(self) -> Iterator[str]:
        return (_digest(row[0]) for row in self._database.read(_REFERENCED))

    def deleted_blobs(self) -> set[str]:
        return {_digest(row[0]) for row in self._database.read(_DELETED)}

    def close(self) -> None:
        self._database.close()

    def _numbers(self, statement: str, *values: Any) -> list[int]:
        return [row[0] for row in self._database.read(statement, values)]

    def _first(self, statement: str, digest: str) -> int | None:
        raw = _raw(digest)
        found = self._database.read(statement, (raw[:8], raw)) if raw else None
        return min(found)[0] if found else None


def _raw(digest: str) -> bytes | None:
    """The 32 bytes of a digest, or None; `is_digest` in a tenth of its time, for every lookup begins here."""
    if len(digest) != 71 or not digest.startswith("sha256:") or not digest.islower():
        return None
    try:
        raw = bytes.fromhex(digest[7:])
    except ValueError:
        return None
    return raw if len(raw) == 32 else None


def _digest(raw: bytes) -> str:
    return "sha256:" + raw.hex()


def _plain(text: str) -> str:
    """`text`, or what nothing is called where no database could store it."""
    return "" if word(text) is None else text


def _refuse_negative(limit: int | None) -> None:
    if limit is not None and limit < 0:
        raise InvalidValueError(f"limit is {limit}; it is 0 or more, or left out for all")
