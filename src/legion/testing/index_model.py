"""A registry's index as plain lists and dictionaries: slow, obvious, and what every other one is compared with."""

from __future__ import annotations

import operator
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any, Final, final

from legion.foundation.errors import IntegrityError, InvalidValueError
from legion.neuro_architecture.registry.indexing import content_name
from legion.neuro_architecture.registry.query import (
    And,
    Everything,
    Field,
    FieldIs,
    Latest,
    MetricIs,
    Not,
    Operator,
    Or,
    Query,
    RevisionIs,
    Term,
)
from legion.neuro_architecture.spec.entries import (
    AliasEntry,
    AnyEntry,
    ApprovalEntry,
    DeletionEntry,
    SnapshotEntry,
    TagsEntry,
    VerdictEntry,
)
from legion.neuro_architecture.spec.snapshot import ArchitectureSnapshot

__all__ = ["ModelIndex"]

_COMPARE: Final[dict[Operator, Callable[[float, float], bool]]] = {
    Operator.LESS: operator.lt,
    Operator.AT_MOST: operator.le,
    Operator.EQUAL: operator.eq,
    Operator.UNEQUAL: operator.ne,
    Operator.AT_LEAST: operator.ge,
    Operator.GREATER: operator.gt,
}


@final
class ModelIndex:
    """`RegistryIndex` in memory, each answer found by reading every entry anew. For one thread."""

    def __init__(self) -> None:
        self._entries: list[tuple[AnyEntry, str]] = []

    def position(self) -> tuple[int, str]:
        return len(self._entries), self._entries[-1][1] if self._entries else ""

    def apply(self, start: int, entries: Sequence[tuple[AnyEntry, str]]) -> None:
        if start > len(self._entries):
            raise InvalidValueError(f"entries before {start} are missing")
        passed = len(self._entries) - start
        if 0 < passed <= len(entries) and entries[passed - 1][1] != self._entries[-1][1]:
            raise IntegrityError("of another log")
        self._entries += entries[passed:]

    def refill(self, batches: Callable[[], Iterable[Sequence[tuple[AnyEntry, str]]]]) -> None:
        self._entries = [row for entries in batches() for row in entries]

    def by_digest(self, digest: str) -> int | None:
        return _first(number for number, item in self._all() if item.digest == digest)

    def latest(self, semantic_hash: str) -> int | None:
        return _first(reversed(self.revisions(semantic_hash)))

    def revisions(self, semantic_hash: str) -> list[int]:
        return [number for number, item in self._all() if item.semantic_hash == semantic_hash]

    def by_content(self, name: str) -> int | None:
        return _first(number for number, item in self._all() if content_name(item) == name)

    def by_key(self, key: str) -> int | None:
        return _first(number for number, (entry, _) in enumerate(self._entries) if entry.key == key)

    def tagged(self, tags: Sequence[str]) -> Iterator[int]:
        return iter([number for number, item in self._all() if set(tags) <= set(self.tags(item.digest))])

    def tags(self, digest: str) -> tuple[str, ...]:
        standing: set[str] | None = None
        for entry, _ in self._entries:
            if isinstance(entry, SnapshotEntry) and entry.snapshot.digest == digest and standing is None:
                standing = set(entry.snapshot.tags)
            elif isinstance(entry, TagsEntry) and entry.snapshot == digest and standing is not None:
                standing = standing - set(entry.removed) | set(entry.added)
        return tuple(sorted(standing or ()))

    def aliases(self) -> dict[str, str]:
        standing: dict[str, str] = {}
        for entry, _ in self._entries:
            if isinstance(entry, AliasEntry):
                standing.pop(entry.alias, None)
                if entry.snapshot is not None:
                    standing[entry.alias] = entry.snapshot
        return dict(sorted(standing.items()))

    def alias(self, name: str) -> str | None:
        return self.aliases().get(name)

    def events(self, digest: str) -> list[int]:
        return [number for number, (entry, _) in enumerate(self._entries) if digest in _subjects(entry)]

    def snapshots(self, *, after: int = -1, limit: int | None = None) -> Iterator[int]:
        return iter([number for number, _ in self._all() if number > after][:limit])

    def children(self, digest: str) -> list[int]:
        return [number for number, item in self._all() if item.parent == digest]

    def select(
        self, query: Query, *, order: str | None = None, is_descending: bool = False, limit: int | None = None
    ) -> Iterator[int]:
        if limit is not None and limit < 0:
            raise InvalidValueError(f"limit is {limit}")
        found = [(number, item) for number, item in self._all() if self._fits(query.term, number, item)]
        if order is not None:
            with_it = [pair for pair in found if order in _flat(pair[1].metrics)]
            sign = -1 if is_descending else 1
            without = [pair for pair in found if order not in _flat(pair[1].metrics)]
            found = sorted(with_it, key=lambda pair: (sign * _flat(pair[1].metrics)[order], pair[0])) + without
        return iter([number for number, _ in found][:limit])

    def metric_names(self) -> tuple[str, ...]:
        return tuple(sorted({name for _, item in self._all() for name in _flat(item.metrics)}))

    def referenced_blobs(self) -> Iterator[str]:
        return iter(sorted({blob for _, item in self._all() for blob in item.blobs.values()}))

    def deleted_blobs(self) -> set[str]:
        deleted: set[str] = set()
        for entry, _ in self._entries:
            if isinstance(entry, DeletionEntry):
                deleted.add(entry.blob)
            elif isinstance(entry, SnapshotEntry):
                deleted -= set(entry.snapshot.blobs.values())
        return deleted

    def close(self) -> None:
        pass

    def _all(self) -> Iterator[tuple[int, ArchitectureSnapshot]]:
        for number, (entry, _) in enumerate(self._entries):
            if isinstance(entry, SnapshotEntry):
                yield number, entry.snapshot

    def _fits(self, term: Term, number: int, item: ArchitectureSnapshot) -> bool:
        match term:
            case MetricIs():
                found = _flat(item.metrics).get(term.name)
                fits = found is not None and _COMPARE[term.operator](found, term.value)
            case RevisionIs():
                fits = _COMPARE[term.operator](item.revision, term.value)
            case FieldIs():
                fits = self._has(term.field, term.value, item)
            case Latest():
                fits = self.latest(item.semantic_hash) == number
            case Everything():
                fits = True
            case Not():
                fits = not self._fits(term.term, number, item)
            case And():
                fits = all(self._fits(part, number, item) for part in term.terms)
            case Or():
                fits = any(self._fits(part, number, item) for part in term.terms)
        return fits

    def _has(self, field: Field, value: str, item: ArchitectureSnapshot) -> bool:
        told = item.provenance
        raw_base = told.get("base")
        base = raw_base if isinstance(raw_base, dict) else {"name": raw_base}
        prefixed = "sha256:" + value
        facts: dict[Field, Callable[[], bool]] = {
            Field.TAG: lambda: value in self.tags(item.digest),
            Field.ALIAS: lambda: self.alias(value) == item.digest,
            Field.TASK: lambda: value in {told.get("task"), told.get("task_kind")},
            Field.BASE: lambda: value == base.get("name") or base.get("digest") in {value, prefixed},
            Field.FAMILY: lambda: value == base.get("model_type"),
            Field.STRATEGY: lambda: value == item.config.get("strategy"),
            Field.HASH: lambda: item.semantic_hash.startswith(value[:16]),
            Field.DIGEST: lambda: item.digest.startswith(prefixed),
            Field.VERSION: lambda: value == item.version,
            Field.COMMIT: lambda: str(told.get("commit")).startswith(value),
            Field.BRANCH: lambda: value == told.get("branch"),
            Field.PROPOSAL: lambda: value == told.get("proposal"),
            Field.DATA: lambda: told.get("data_digest") in {value, prefixed},
            Field.SINCE: lambda: _moment(item.created_at) >= _moment(value),
            Field.BEFORE: lambda: _moment(item.created_at) < _moment(value),
            Field.PARENT: lambda: (item.parent or "").startswith(prefixed),
            Field.ANCESTOR: lambda: self._descends(item, prefixed),
            Field.APPROVED: lambda: self._approval(item.digest) == value,
            Field.VERDICT: lambda: self._verdict(item.digest) == value,
        }
        return facts[field]()

    def _descends(self, item: ArchitectureSnapshot, ancestor: str) -> bool:
        parent = item.parent
        while parent is not None:
            if parent.startswith(ancestor):
                return True
            parent = next((other.parent for _, other in self._all() if other.digest == parent), None)
        return False

    def _approval(self, digest: str) -> str | None:
        said = [entry for entry, _ in self._entries if isinstance(entry, ApprovalEntry) and entry.snapshot == digest]
        return ("yes" if said[-1].is_approved else "no") if said else None

    def _verdict(self, digest: str) -> str | None:
        said = {
            entry.gate: entry.verdict
            for entry, _ in self._entries
            if isinstance(entry, VerdictEntry) and entry.snapshot == digest
        }
        return next((verdict for verdict in ("fail", "insufficient", "pass") if verdict in said.values()), None)


def _first(numbers: Iterator[int]) -> int | None:
    return next(iter(numbers), None)


def _subjects(entry: AnyEntry) -> set[str | None]:
    match entry:
        case SnapshotEntry():
            return {entry.snapshot.digest}
        case AliasEntry():
            return {entry.snapshot, entry.previous}
        case DeletionEntry():
            return set()
        case _:
            return {entry.snapshot}


def _flat(metrics: Mapping[str, Any]) -> dict[str, float]:
    found: dict[str, float] = {}
    for name, value in metrics.items():
        if isinstance(value, (int, float)):
            found[name] = float(value)
        elif isinstance(value, dict):
            is_measurement = {"value", "unit"} <= set(value)
            inner = {key: value.get(key) for key in ("value", "error", "n")} if is_measurement else value
            for key, number in _flat(inner).items():
                found[name if is_measurement and key == "value" else f"{name}.{key}"] = number
    return found


def _moment(text: str) -> datetime:
    moment = datetime.fromisoformat(text)
    return moment if moment.tzinfo else moment.replace(tzinfo=UTC)
