"""From entries to rows, purely: what is searched for is taken out of each entry before any transaction begins."""

from __future__ import annotations

import functools
import hashlib
import json
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final, NamedTuple, final

from legion.foundation.canonical import is_digest
from legion.foundation.errors import InvalidValueError
from legion.neuro_architecture.registry.indexing.naming import snapshot_names
from legion.neuro_architecture.registry.query.words import microseconds
from legion.neuro_architecture.spec.entries import (
    AliasEntry,
    AnyEntry,
    ApprovalEntry,
    DeletionEntry,
    RolloutEntry,
    SnapshotEntry,
    TagsEntry,
    VerdictEntry,
)
from legion.neuro_architecture.spec.snapshot import ArchitectureSnapshot

__all__ = ["MAX_WORD_CHARACTERS", "Batch", "Change", "SnapshotRow", "batch_of", "flat_metrics", "packed", "word"]

MAX_WORD_CHARACTERS: Final = 256
_LARGEST: Final = 2**63 - 1

Change = TagsEntry | AliasEntry | ApprovalEntry | VerdictEntry | DeletionEntry


class SnapshotRow(NamedTuple):
    """A snapshot as the table `snapshots` has it, column by column."""

    number: int
    digest: bytes
    content: bytes
    semantic_hash: str
    revision: int
    parent: bytes | None
    created_us: int | None
    tags: str
    version: str | None
    strategy: str | None
    task: str | None
    task_kind: str | None
    base: str | None
    base_digest: str | None
    family: str | None
    commit_name: str | None
    branch: str | None
    proposal: str | None
    data: str | None


@final
@dataclass(slots=True)
class Batch:
    """The rows of entries that are applied together.

    Attributes:
        stop: One above the number of the last entry.
        leaf: Hex leaf hash of the last entry.
        snapshots: A row each.
        tags: (tag, number) at registration.
        metrics: (name, number, value).
        keys: (digest of the idempotency key, number).
        events: (raw digest of a snapshot, number of an entry that speaks of it later).
        blobs: Raw digest to the number of the last snapshot here that names it.
        changes: What changes what stands, with its number, in order.
    """

    stop: int
    leaf: str
    snapshots: list[SnapshotRow] = field(default_factory=list)
    tags: list[tuple[str, int]] = field(default_factory=list)
    metrics: list[tuple[str, int, float]] = field(default_factory=list)
    keys: list[tuple[bytes, int]] = field(default_factory=list)
    events: list[tuple[bytes, int]] = field(default_factory=list)
    blobs: dict[bytes, int] = field(default_factory=dict)
    changes: list[tuple[int, Change]] = field(default_factory=list)


def batch_of(start: int, entries: Sequence[tuple[AnyEntry, str]]) -> Batch:
    """The rows of `entries`, numbered from `start`; there is at least one.

    Raises:
        InvalidValueError: an entry names something that is no digest, or a tag or alias that nothing can store.
    """
    batch = Batch(stop=start + len(entries), leaf=entries[-1][1])
    for number, (entry, _) in enumerate(entries, start):
        if entry.key is not None:
            batch.keys.append((hashlib.sha256(entry.key.encode("utf-8", "surrogatepass")).digest(), number))
        if isinstance(entry, SnapshotEntry):
            _add_snapshot(batch, number, entry.snapshot)
        else:
            batch.events.extend((subject, number) for subject in sorted(_subjects(entry)))
            if not isinstance(entry, RolloutEntry):
                batch.changes.append((number, entry))
    return batch


def _subjects(entry: AnyEntry) -> set[bytes]:
    match entry:
        case AliasEntry():
            _label(entry.alias, "alias")
            return {packed(digest) for digest in (entry.snapshot, entry.previous) if digest is not None}
        case TagsEntry():
            for tag in entry.added:
                _label(tag, "tag")
            return {packed(entry.snapshot)}
        case ApprovalEntry() | VerdictEntry() | RolloutEntry():
            return {packed(entry.snapshot)}
        case _:
            return set()


def _add_snapshot(batch: Batch, number: int, snapshot: ArchitectureSnapshot) -> None:
    digest, content = snapshot_names(snapshot)
    told = snapshot.provenance
    base = told.get("base")
    named = base if isinstance(base, Mapping) else {"name": base}
    code = told.get("code")
    source = code if isinstance(code, Mapping) else told
    tags = sorted({_label(tag, "tag") for tag in snapshot.tags})
    batch.snapshots.append(
        SnapshotRow(
            number,
            digest,
            content,
            _label(snapshot.semantic_hash, "semantic hash"),
            min(snapshot.revision, _LARGEST),
            None if snapshot.parent is None else packed(snapshot.parent),
            microseconds(snapshot.created_at),
            json.dumps(tags),
            word(snapshot.version),
            word(snapshot.config.get("strategy")),
            word(told.get("task")),
            word(told.get("task_kind")),
            word(named.get("name")),
            word(named.get("digest") or told.get("base_digest")),
            word(named.get("model_type")),
            word(told.get("commit") or source.get("commit")),
            word(told.get("branch") or source.get("branch")),
            word(told.get("proposal")),
            word(told.get("data_digest")),
        )
    )
    batch.tags.extend([(tag, number) for tag in tags])
    batch.metrics.extend([(name, number, value) for name, value in flat_metrics(snapshot.metrics).items()])
    for blob in snapshot.blobs.values():
        batch.blobs[packed(blob)] = number


def word(value: object) -> str | None:
    """`value`, where it is a text that can be searched for: at most 256 characters that every database can store."""
    if not isinstance(value, str) or len(value) > MAX_WORD_CHARACTERS or "\0" in value:
        return None
    if not value.isascii():
        try:
            value.encode()
        except UnicodeEncodeError:  # half of a surrogate pair
            return None
    return value


def _label(text: str, what: str) -> str:
    if word(text) is None:
        raise InvalidValueError(f"{what} {text[:40]!r} cannot be searched for", hint="at most 256 printable characters")
    return text


def packed(digest: str) -> bytes:
    """The 32 bytes of `sha256:<64 hex>`.

    Raises:
        InvalidValueError: it has another form.
    """
    if not is_digest(digest):
        raise InvalidValueError(f"{digest[:80]!r} is no digest", cause="expected sha256: and 64 hex digits")
    return bytes.fromhex(digest[7:])


def flat_metrics(metrics: Mapping[str, Any]) -> dict[str, float]:
    """Every number by its dotted name; true and false are 1 and 0, lists and texts are no metrics.

    A stored measurement (`{"value": 0.9, "unit": "share", "n": 500, "error": 0.01}`) gives its value under its own name
    and `<name>.error` and `<name>.n` beside. Where two numbers have one name, the one less deep stands.
    """
    if all(type(value) is float for value in metrics.values()):
        names = {name: value + 0.0 for name, value in metrics.items() if math.isfinite(value)}
    else:
        leaves = list(_leaves(metrics, ()))
        names = {".".join(path): value for path, value in leaves}
        if len(names) < len(leaves):
            names = {".".join(path): value for path, value in sorted(leaves, key=_place, reverse=True)}
    return {name: value for name, value in names.items() if _is_name(name)}


@functools.lru_cache(maxsize=4096)
def _is_name(name: str) -> bool:
    return word(name) is not None


def _place(leaf: tuple[tuple[str, ...], float]) -> tuple[int, tuple[str, ...]]:
    return len(leaf[0]), leaf[0]


def _leaves(node: Mapping[str, Any], path: tuple[str, ...]) -> Iterator[tuple[tuple[str, ...], float]]:
    for name, value in node.items():
        if isinstance(value, (int, float)):
            number = _finite(value)
            if number is not None:
                yield (*path, name), number
        elif isinstance(value, Mapping):
            if "value" in value and "unit" in value:
                yield from _measurement(value, (*path, name))
            else:
                yield from _leaves(value, (*path, name))


def _measurement(stored: Mapping[str, Any], path: tuple[str, ...]) -> Iterator[tuple[tuple[str, ...], float]]:
    for name, place in (("value", path), ("error", (*path, "error")), ("n", (*path, "n"))):
        value = stored.get(name)
        number = _finite(value) if isinstance(value, (int, float)) else None
        if number is not None:
            yield place, number


def _finite(value: float) -> float | None:
    try:
        number = float(value)
    except OverflowError:  # an integer beyond every float
        return None
    return number + 0.0 if math.isfinite(number) else None
