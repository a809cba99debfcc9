"""Which index a registry gets: a PostgreSQL schema where its settings name a database, else a file."""

from __future__ import annotations

from pathlib import Path

from legion.foundation.errors import InvalidValueError
from legion.neuro_architecture.registry.indexing.port import RegistryIndex
from legion.neuro_architecture.registry.indexing.sql_index import SqlIndex
from legion.neuro_architecture.registry.indexing.sqlite import SqliteDatabase

__all__ = ["open_index", "open_postgres_index", "open_sqlite_index"]


def open_index(url: str | None, *, path: Path, origin: str) -> RegistryIndex:
    """The index at a database URL, or in the file `path` where there is none; nothing is made before the first use.

    Args:
        url: `postgresql://...`, or None.
        path: The file of an embedded index.
        origin: The name of the registry's log: each has a schema of its own in a shared database.

    Raises:
        InvalidValueError: a URL of another kind.
        WorldError: a PostgreSQL URL, and psycopg is not installed.
    """
    if url is None:
        return open_sqlite_index(path)
    if not url.startswith(("postgresql://", "postgres://")):
        raise InvalidValueError(
            f"{url.partition(':')[0][:40]!r} is no kind of index",
            hint="registry_index = 'postgresql://...', or leave it out",
        )
    return open_postgres_index(url, origin=origin)


def open_sqlite_index(path: Path) -> RegistryIndex:
    """The index in the file `path`.

    Raises:
        WorldError: the SQLite library is one that corrupts files.
    """
    return SqlIndex(SqliteDatabase(path))


def open_postgres_index(url: str, *, origin: str) -> RegistryIndex:
    """The index of the log `origin` in a PostgreSQL database.

    Raises:
        WorldError: psycopg is not installed.
    """
    from legion.neuro_architecture.registry.indexing.postgres import PostgresDatabase

    return SqlIndex(PostgresDatabase(url, origin=origin))
