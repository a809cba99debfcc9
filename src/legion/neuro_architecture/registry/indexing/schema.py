"""The tables of an index, as numbered steps that are applied in order and never change once released.

An index is derived, so a step may throw away what it cannot carry over and set the position back to 0: then the log
fills it again. None did so yet.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, final

from legion.foundation.errors import RefusedError

__all__ = ["MIGRATIONS", "NEWEST", "TABLES", "VERSION_TABLE", "Dialect", "pending"]

VERSION_TABLE: Final = "CREATE TABLE IF NOT EXISTS schema_version (version {integer} PRIMARY KEY){table}"

TABLES: Final = (
    "snapshots",
    "tags",
    "tag_counts",
    "metrics",
    "keys",
    "aliases",
    "events",
    "blobs",
    "approvals",
    "verdicts",
)

_LOOKUPS: Final = (
    """CREATE TABLE log_position (
        only_row {integer} PRIMARY KEY CHECK (only_row = 1),
        entries {integer} NOT NULL,
        leaf {text} NOT NULL){table}""",
    "INSERT INTO log_position (only_row, entries, leaf) VALUES (1, 0, '')",
    """CREATE TABLE snapshots (
        number {integer} PRIMARY KEY,
        digest {bytes} NOT NULL,
        content {bytes} NOT NULL,
        semantic_hash {text} NOT NULL,
        revision {integer} NOT NULL,
        parent {bytes},
        created_us {integer},
        tags {text} NOT NULL,
        version {text},
        strategy {text},
        task {text},
        task_kind {text},
        base {text},
        base_digest {text},
        family {text},
        commit_name {text},
        branch {text},
        proposal {text},
        data {text}){table}""",
    # eight bytes find a digest among billions; the row has the other 24
    "CREATE INDEX snapshots_by_digest ON snapshots (substr(digest, 1, 8))",
    "CREATE INDEX snapshots_by_content ON snapshots (substr(content, 1, 8))",
    "CREATE INDEX snapshots_by_hash ON snapshots (semantic_hash, number)",
    "CREATE INDEX snapshots_by_parent ON snapshots (parent) WHERE parent IS NOT NULL",
    "CREATE TABLE tags (tag {text} NOT NULL, number {integer} NOT NULL, PRIMARY KEY (tag, number)){clustered}",
    "CREATE TABLE tag_counts (tag {text} PRIMARY KEY, snapshots {integer} NOT NULL){clustered}",
    """CREATE TABLE metrics (
        name {text} NOT NULL, number {integer} NOT NULL, value {real} NOT NULL,
        PRIMARY KEY (name, number)){clustered}""",
    "CREATE TABLE keys (key {bytes} PRIMARY KEY, number {integer} NOT NULL){clustered}",
    "CREATE TABLE aliases (name {text} PRIMARY KEY, digest {bytes} NOT NULL){clustered}",
    """CREATE TABLE events (
        subject {bytes} NOT NULL, number {integer} NOT NULL, PRIMARY KEY (subject, number)){clustered}""",
    "CREATE TABLE blobs (digest {bytes} PRIMARY KEY, referenced {integer}, deleted {integer}){clustered}",
    "CREATE TABLE approvals (digest {bytes} PRIMARY KEY, is_approved {integer} NOT NULL){clustered}",
    """CREATE TABLE verdicts (
        digest {bytes} NOT NULL, gate {bytes} NOT NULL, verdict {text} NOT NULL,
        PRIMARY KEY (digest, gate)){clustered}""",
)

_QUERIES: Final = (
    "CREATE INDEX metrics_by_value ON metrics (name, value, number)",
    "CREATE INDEX snapshots_by_task ON snapshots (task) WHERE task IS NOT NULL",
    "CREATE INDEX snapshots_by_kind ON snapshots (task_kind) WHERE task_kind IS NOT NULL",
    "CREATE INDEX snapshots_by_base ON snapshots (base) WHERE base IS NOT NULL",
    "CREATE INDEX snapshots_by_base_digest ON snapshots (base_digest) WHERE base_digest IS NOT NULL",
    "CREATE INDEX snapshots_by_commit ON snapshots (commit_name) WHERE commit_name IS NOT NULL",
    "CREATE INDEX snapshots_by_time ON snapshots (created_us) WHERE created_us IS NOT NULL",
)

# Step i leads to version i + 1.
MIGRATIONS: Final[tuple[tuple[str, ...], ...]] = (_LOOKUPS, _QUERIES)
NEWEST: Final = len(MIGRATIONS)


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class Dialect:
    """How a database spells the types of the tables.

    Attributes:
        integer: A whole number of 64 bits.
        real: A double.
        text: Text, ordered by its bytes.
        blob: Bytes.
        table: What closes a table.
        clustered: What closes a table that lies in the order of its key.
    """

    integer: str
    real: str
    text: str
    blob: str
    table: str
    clustered: str

    def spell(self, statement: str) -> str:
        """The statement in this dialect."""
        return statement.format(
            integer=self.integer,
            real=self.real,
            text=self.text,
            bytes=self.blob,
            table=self.table,
            clustered=self.clustered,
        )


def pending(version: int, dialect: Dialect, where: str, *, newest: int = NEWEST) -> list[tuple[int, list[str]]]:
    """The steps that lead from `version` to `newest`, each with the version it leads to.

    Raises:
        RefusedError: `version` is of a newer Legion.
    """
    if version > NEWEST:
        raise RefusedError(
            f"the index at {where} has schema version {version}; this Legion knows versions up to {NEWEST}",
            cause="a newer Legion made it",
            hint="update Legion, or have the index made anew: legion registry rebuild",
        )
    steps = enumerate(MIGRATIONS[version:newest], version + 1)
    return [(target, [dialect.spell(statement) for statement in statements]) for target, statements in steps]
