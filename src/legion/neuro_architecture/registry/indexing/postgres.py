"""The index in PostgreSQL, for teams: a schema of its own for each registry's log, writers on many machines.

Writers take turns by a lock on the row that holds the position, so two processes never apply the same entries. The
database may forget the last commits in a power cut (`synchronous_commit = off`), never their order: the index lags
behind the log then, and is brought forward from it. Connections are made with `search_path` set to the schema; a pooler
in between has to keep sessions.
"""

from __future__ import annotations

import contextlib
import functools
import hashlib
from collections.abc import Iterable, Iterator, Sequence
from typing import Any, Final, final

from legion.foundation.errors import LegionError, WorldError
from legion.neuro_architecture.registry.indexing.database import DamagedIndexError, Row
from legion.neuro_architecture.registry.indexing.per_thread import PerThread
from legion.neuro_architecture.registry.indexing.schema import NEWEST, VERSION_TABLE, Dialect, pending

try:
    import psycopg
    from psycopg import sql
except ImportError as error:
    raise WorldError(
        "an index in PostgreSQL needs psycopg", cause=str(error), hint="pip install 'legion-neuro-rewriter[teams]'"
    ) from error

__all__ = ["POSTGRES", "PostgresDatabase", "schema_name"]

POSTGRES: Final = Dialect(
    integer="BIGINT", real="DOUBLE PRECISION", text='TEXT COLLATE "C"', blob="BYTEA", table="", clustered=""
)
_VERSION: Final = "SELECT MAX(version) FROM schema_version"
_LOCK: Final = "SELECT entries FROM log_position WHERE only_row = 1 FOR UPDATE"
_CONNECT_TIMEOUT_S: Final = 20
_FEW: Final = 64
_Connection = psycopg.Connection[tuple[Any, ...]]


def schema_name(origin: str) -> str:
    """The schema of the log `origin`."""
    return "legion_" + hashlib.sha256(origin.encode()).hexdigest()[:16]


@final
class PostgresDatabase:
    """One schema of tables; see `Database`.

    Args:
        url: `postgresql://user@host/database`.
        origin: Name of the log.
        newest: The schema version to lead it to.
    """

    must_be_led = False

    def __init__(self, url: str, *, origin: str, newest: int = NEWEST) -> None:
        self.schema = schema_name(origin)
        self.where = f"schema {self.schema} of {_without_password(url)}"
        self._url = url
        self._newest = newest
        self._connections: PerThread[_Connection] = PerThread(self._connect)

    def read(self, statement: str, values: Sequence[Any] = ()) -> list[Row]:
        try:
            try:
                return self._connections.get().execute(_spelled(statement), values).fetchall()
            except psycopg.OperationalError:
                if not self._was_lost():
                    raise
                return self._connections.get().execute(_spelled(statement), values).fetchall()
        except psycopg.Error as error:
            raise self._translated(error) from error

    @contextlib.contextmanager
    def transaction(self) -> Iterator[_PostgresSession]:
        try:
            self._was_lost()
            connection = self._connections.get()
            with connection.transaction():
                connection.execute(_LOCK)
                yield _PostgresSession(connection)
        except psycopg.Error as error:
            raise self._translated(error) from error

    def close(self) -> None:
        self._connections.close()

    def recreate(self) -> None:
        drop = sql.SQL("DROP SCHEMA IF EXISTS {} CASCADE").format(sql.Identifier(self.schema))
        self.close()
        try:
            with psycopg.connect(self._url, autocommit=True, connect_timeout=_CONNECT_TIMEOUT_S) as connection:
                connection.execute(drop)
        except psycopg.Error as error:
            raise self._translated(error) from error

    def _was_lost(self) -> bool:
        """Whether this thread's connection is gone; then the next use makes another."""
        is_lost = self._connections.get().closed
        if is_lost:
            self._connections.drop()
        return is_lost

    def _connect(self) -> _Connection:
        connection = psycopg.connect(self._url, autocommit=True, connect_timeout=_CONNECT_TIMEOUT_S)
        try:
            connection.execute("SET client_min_messages TO warning")
            connection.execute("SET synchronous_commit TO off")
            connection.execute(sql.SQL("SET search_path TO {}").format(sql.Identifier(self.schema)))
            self._prepare(connection)
        except (psycopg.Error, LegionError):
            connection.close()
            raise
        return connection

    def _prepare(self, connection: _Connection) -> None:
        """Brings the schema forward, one process at a time."""
        if self._steps(connection) == []:
            return
        with connection.transaction():
            connection.execute("SELECT pg_advisory_xact_lock(hashtextextended(%s, 0))", (self.schema,))
            connection.execute(sql.SQL("CREATE SCHEMA IF NOT EXISTS {}").format(sql.Identifier(self.schema)))
            connection.execute(_spelled(POSTGRES.spell(VERSION_TABLE)))
            for version, statements in self._steps(connection):
                for statement in statements:
                    connection.execute(_spelled(statement))
                connection.execute("INSERT INTO schema_version (version) VALUES (%s)", (version,))

    def _steps(self, connection: _Connection) -> list[tuple[int, list[str]]]:
        found = connection.execute("SELECT to_regclass('schema_version')").fetchone()
        if found is None or found[0] is None:
            return pending(0, POSTGRES, self.where, newest=self._newest)
        row = connection.execute(_VERSION).fetchone()
        return pending((row and row[0]) or 0, POSTGRES, self.where, newest=self._newest)

    def _translated(self, error: psycopg.Error) -> LegionError:
        if isinstance(error, (psycopg.errors.UndefinedTable, psycopg.errors.UndefinedColumn)):
            return DamagedIndexError(
                f"the index in {self.where} has other tables", cause=str(error), hint="legion registry rebuild"
            )
        return WorldError(f"the index in {self.where} cannot be used", cause=str(error).strip())


def _without_password(url: str) -> str:
    try:
        told = psycopg.conninfo.conninfo_to_dict(url)
    except psycopg.ProgrammingError:
        return "a database"
    return f"database {told.get('dbname') or 'postgres'} at {told.get('host') or 'localhost'}"


@functools.lru_cache(maxsize=1024)
def _spelled(statement: str) -> str:
    """The statement with psycopg's placeholders; our statements are constant and hold neither `?` nor `%` otherwise."""
    return statement.replace("?", "%s")


@final
class _PostgresSession:
    def __init__(self, connection: _Connection) -> None:
        self._connection = connection

    def read(self, statement: str, values: Sequence[Any] = ()) -> list[Row]:
        return self._connection.execute(_spelled(statement), values).fetchall()

    def run(self, statement: str, values: Sequence[Any] = ()) -> None:
        self._connection.execute(_spelled(statement), values)

    def run_many(self, statement: str, rows: Iterable[Sequence[Any]]) -> None:
        with self._connection.cursor() as cursor:
            cursor.executemany(_spelled(statement), rows)

    def insert(self, table: str, columns: Sequence[str], rows: Sequence[Sequence[Any]]) -> None:
        if not rows:
            return
        names = sql.SQL(", ").join(sql.Identifier(column) for column in columns)
        if len(rows) < _FEW:
            places = sql.SQL(", ").join([sql.Placeholder()] * len(columns))
            insertion = sql.SQL("INSERT INTO {} ({}) VALUES ({})").format(sql.Identifier(table), names, places)
            with self._connection.cursor() as cursor:
                cursor.executemany(insertion, rows)
            return
        copying = sql.SQL("COPY {} ({}) FROM STDIN").format(sql.Identifier(table), names)
        with self._connection.cursor() as cursor, cursor.copy(copying) as copy:
            for row in rows:
                copy.write_row(row)

    def empty(self, table: str) -> None:
        self._connection.execute(sql.SQL("DELETE FROM {}").format(sql.Identifier(table)))  # TRUNCATE is seen at once
