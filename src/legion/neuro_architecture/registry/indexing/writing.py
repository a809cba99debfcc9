"""A batch of rows into the tables, inside a transaction that somebody else begins and ends."""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from typing import Final

from legion.neuro_architecture.registry.failpoints import failpoint
from legion.neuro_architecture.registry.indexing.database import Session
from legion.neuro_architecture.registry.indexing.rows import Batch, Change, SnapshotRow, packed
from legion.neuro_architecture.registry.indexing.schema import TABLES
from legion.neuro_architecture.spec.entries import AliasEntry, ApprovalEntry, DeletionEntry, TagsEntry, VerdictEntry

__all__ = ["empty_all", "write_batch"]

_MOVE: Final = "UPDATE log_position SET entries = ?, leaf = ? WHERE only_row = 1"
_COUNT: Final = """
    INSERT INTO tag_counts (tag, snapshots) VALUES (?, ?)
    ON CONFLICT (tag) DO UPDATE SET snapshots = tag_counts.snapshots + excluded.snapshots"""
_KEY: Final = "INSERT INTO keys (key, number) VALUES (?, ?) ON CONFLICT (key) DO NOTHING"
_REFER: Final = """
    INSERT INTO blobs (digest, referenced) VALUES (?, ?)
    ON CONFLICT (digest) DO UPDATE SET referenced = excluded.referenced"""
_DELETE: Final = """
    INSERT INTO blobs (digest, deleted) VALUES (?, ?)
    ON CONFLICT (digest) DO UPDATE SET deleted = excluded.deleted"""
_STANDING_TAGS: Final = """
    SELECT number, tags FROM snapshots WHERE substr(digest, 1, 8) = ? AND digest = ? ORDER BY number"""
_ALIAS: Final = """
    INSERT INTO aliases (name, digest) VALUES (?, ?) ON CONFLICT (name) DO UPDATE SET digest = excluded.digest"""
_APPROVAL: Final = """
    INSERT INTO approvals (digest, is_approved) VALUES (?, ?)
    ON CONFLICT (digest) DO UPDATE SET is_approved = excluded.is_approved"""
_VERDICT: Final = """
    INSERT INTO verdicts (digest, gate, verdict) VALUES (?, ?, ?)
    ON CONFLICT (digest, gate) DO UPDATE SET verdict = excluded.verdict"""


def write_batch(session: Session, batch: Batch) -> None:
    """Writes the rows and moves the position.

    Snapshots go first, then what changes them, in order: an entry can speak of earlier snapshots only.
    """
    failpoint("index.before-rows")
    session.insert("snapshots", SnapshotRow._fields, batch.snapshots)
    session.insert("tags", ("tag", "number"), sorted(batch.tags))
    session.insert("metrics", ("name", "number", "value"), sorted(batch.metrics))
    session.insert("events", ("subject", "number"), batch.events)
    session.run_many(_COUNT, sorted(Counter(tag for tag, _ in batch.tags).items()))
    if batch.keys:
        session.run_many(_KEY, batch.keys)
    if batch.blobs:
        session.run_many(_REFER, sorted(batch.blobs.items()))
    for number, change in batch.changes:
        _change(session, number, change)
    failpoint("index.before-position")
    session.run(_MOVE, (batch.stop, batch.leaf))
    failpoint("index.after-position")


def empty_all(session: Session) -> None:
    """Takes everything out and sets the position back."""
    for table in TABLES:
        session.empty(table)
    session.run(_MOVE, (0, ""))


def _change(session: Session, number: int, change: Change) -> None:
    match change:
        case TagsEntry():
            _change_tags(session, change)
        case AliasEntry(snapshot=None):
            session.run("DELETE FROM aliases WHERE name = ?", (change.alias,))
        case AliasEntry(snapshot=str(digest)):
            session.run(_ALIAS, (change.alias, packed(digest)))
        case ApprovalEntry():
            session.run(_APPROVAL, (packed(change.snapshot), int(change.is_approved)))
        case VerdictEntry():
            gate = hashlib.sha256(change.gate.encode("utf-8", "surrogatepass")).digest()
            session.run(_VERDICT, (packed(change.snapshot), gate, change.verdict))
        case DeletionEntry():
            session.run(_DELETE, (packed(change.blob), number))


def _change_tags(session: Session, change: TagsEntry) -> None:
    digest = packed(change.snapshot)
    found = session.read(_STANDING_TAGS, (digest[:8], digest))
    if not found:
        return
    number, standing = found[0][0], set(json.loads(found[0][1]))
    after = standing - set(change.removed) | set(change.added)
    added, removed = sorted(after - standing), sorted(standing - after)
    session.run("UPDATE snapshots SET tags = ? WHERE number = ?", (json.dumps(sorted(after)), number))
    session.run_many("DELETE FROM tags WHERE tag = ? AND number = ?", [(tag, number) for tag in removed])
    session.insert("tags", ("tag", "number"), [(tag, number) for tag in added])
    session.run_many(_COUNT, [*((tag, 1) for tag in added), *((tag, -1) for tag in removed)])
