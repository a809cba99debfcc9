"""Entries of a registry's log, short to write, for whoever tests what reads them."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any, Final

from legion.foundation.canonical import digest_bytes
from legion.foundation.clock import rfc3339
from legion.neuro_architecture.spec.architecture import parse_architecture
from legion.neuro_architecture.spec.entries import AnyEntry, SnapshotEntry
from legion.neuro_architecture.spec.semantics import semantic_hash
from legion.neuro_architecture.spec.snapshot import ArchitectureSnapshot

__all__ = ["FIRST_MOMENT", "made_digest", "made_snapshot", "moment", "numbered", "registered"]

FIRST_MOMENT: Final = datetime(2026, 1, 1, tzinfo=UTC)


def moment(seconds: float) -> str:
    """So many seconds into 2026, as an entry says it."""
    return rfc3339(FIRST_MOMENT + timedelta(seconds=seconds))


def made_digest(name: str) -> str:
    """A digest that stands for whatever is called so."""
    return digest_bytes(name.encode())


def made_snapshot(
    number: int = 0,
    *,
    rank: int = 8,
    strategy: str = "LoRA",
    metrics: Mapping[str, Any] | None = None,
    provenance: Mapping[str, Any] | None = None,
    tags: Iterable[str] = (),
    blobs: Mapping[str, str] | None = None,
    parent: ArchitectureSnapshot | None = None,
    version: str = "1",
) -> ArchitectureSnapshot:
    """A snapshot that was registered `number` seconds into 2026; of the parent's architecture where one is given."""
    size = {"rank": rank} if strategy == "LoRA" else {}
    architecture = parse_architecture({"strategy": strategy} | size)
    return ArchitectureSnapshot(
        version=version,
        semantic_hash=parent.semantic_hash if parent else semantic_hash(architecture),
        revision=parent.revision + 1 if parent else 1,
        config=parent.config if parent else architecture.to_dict(),
        metrics=dict(metrics or {}),
        provenance=dict(provenance or {}),
        tags=tuple(sorted(tags)),
        blobs=dict(blobs or {}),
        parent=parent.digest if parent else None,
        created_at=moment(number),
    )


def registered(snapshot: ArchitectureSnapshot, *, key: str | None = None) -> SnapshotEntry:
    """Its registration."""
    return SnapshotEntry(at=snapshot.created_at, snapshot=snapshot, key=key)


def numbered(entries: Sequence[AnyEntry], start: int = 0, *, log: str = "") -> list[tuple[AnyEntry, str]]:
    """Each entry with the hex leaf hash that it has in the log called `log`, where it is number `start` and on."""
    leaves = (hashlib.sha256(f"{log}:{start + place}".encode()).hexdigest() for place in range(len(entries)))
    return list(zip(entries, leaves, strict=True))
