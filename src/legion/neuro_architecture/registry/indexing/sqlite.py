"""The index in one SQLite file: write-ahead log, a connection for each thread, readers that never wait.

SQLite 3.7.0 to 3.51.2 can corrupt a file when a write-ahead log is reset while another connection commits; the apsw
package bundles a later one, and older libraries are refused. A power cut may take the last commits (`synchronous =
NORMAL`), never their order: the index lags behind the log then, and is brought forward from it.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, Final, final

import apsw

from legion.foundation.errors import LegionError, WorldError
from legion.foundation.files import exclusive_lock
from legion.neuro_architecture.registry.indexing.database import DamagedIndexError, Row
from legion.neuro_architecture.registry.indexing.per_thread import PerThread
from legion.neuro_architecture.registry.indexing.schema import NEWEST, TABLES, VERSION_TABLE, Dialect, pending

__all__ = ["SQLITE", "SqliteDatabase", "refuse_library"]

SQLITE: Final = Dialect(
    integer="INTEGER", real="REAL", text="TEXT", blob="BLOB", table=" STRICT", clustered=" STRICT, WITHOUT ROWID"
)
_FAULTY: Final = ((3, 7, 0), (3, 51, 2))
_BUSY_MS: Final = 60_000
_STATEMENTS: Final = 256
_VERSION: Final = "SELECT MAX(version) FROM schema_version"
_EMPTY: Final = {table: f"DELETE FROM {table}" for table in TABLES}  # noqa: S608
_SETTINGS: Final = (
    "PRAGMA synchronous = NORMAL",
    "PRAGMA cache_size = -65536",
    "PRAGMA temp_store = MEMORY",
    "PRAGMA trusted_schema = OFF",
    "PRAGMA wal_autocheckpoint = 8192",
    "PRAGMA journal_size_limit = 67108864",  # a whole index is one transaction when it is built anew
)


def refuse_library(version: str) -> None:
    """Raises WorldError where the SQLite library of this version may corrupt a write-ahead log."""
    numbers = tuple(int(part) for part in version.split(".")[:3])
    if _FAULTY[0] <= numbers <= _FAULTY[1]:
        raise WorldError(
            f"SQLite {version} may corrupt the registry's index",
            cause="versions 3.7.0 to 3.51.2 can lose pages when a write-ahead log is reset",
            hint="pip install --upgrade apsw",
        )


@final
class SqliteDatabase:
    """One file of tables; see `Database`.

    Args:
        path: The file; it and its folder are made at the first use. It must be on a local disk. None is an index that
            nobody keeps, one for each thread.
        newest: The schema version to lead it to.
    """

    must_be_led = True

    def __init__(self, path: Path | None, *, newest: int = NEWEST) -> None:
        refuse_library(apsw.sqlite_lib_version())
        self.where = ":memory:" if path is None else str(path)
        self._path = path
        self._newest = newest
        self._connections = PerThread(self._connect)

    def read(self, statement: str, values: Sequence[Any] = ()) -> list[Row]:
        try:
            return self._connections.get().execute(statement, values).fetchall()
        except apsw.Error as error:
            raise self._translated(error) from error

    @contextlib.contextmanager
    def transaction(self) -> Iterator[_SqliteSession]:
        try:
            connection = self._connections.get()
            connection.execute("BEGIN IMMEDIATE")
            try:
                yield _SqliteSession(connection)
                connection.execute("COMMIT")
            except BaseException:
                if connection.in_transaction:
                    connection.execute("ROLLBACK")
                raise
        except apsw.Error as error:
            raise self._translated(error) from error

    def close(self) -> None:
        self._connections.close()

    def recreate(self) -> None:
        if self._path is None:
            return
        self.close()
        with exclusive_lock(_lock_of(self._path)):
            for suffix in ("", "-wal", "-shm"):
                self._path.with_name(self._path.name + suffix).unlink(missing_ok=True)

    def _connect(self) -> apsw.Connection:
        if self._path is not None:
            try:
                self._path.parent.mkdir(parents=True, exist_ok=True)
            except OSError as error:
                raise WorldError(f"cannot make {self._path.parent}", cause=str(error)) from error
        connection = apsw.Connection(self.where, statementcachesize=_STATEMENTS)
        try:
            connection.set_busy_timeout(_BUSY_MS)
            for setting in _SETTINGS:
                connection.execute(setting)
            self._prepare(connection)
        except (apsw.Error, LegionError):
            connection.close()
            raise
        return connection

    def _prepare(self, connection: apsw.Connection) -> None:
        """Turns the write-ahead log on and brings the schema forward, one process at a time."""
        if _journal(connection) == "wal" and self._steps(connection) == []:
            return
        with contextlib.nullcontext() if self._path is None else exclusive_lock(_lock_of(self._path)):
            connection.execute("PRAGMA journal_mode = WAL")
            with connection:
                connection.execute(SQLITE.spell(VERSION_TABLE))
                for version, statements in self._steps(connection):
                    for statement in statements:
                        connection.execute(statement)
                    connection.execute("INSERT INTO schema_version (version) VALUES (?)", (version,))

    def _steps(self, connection: apsw.Connection) -> list[tuple[int, list[str]]]:
        has_version = connection.table_exists(None, "schema_version")
        version = connection.execute(_VERSION).get if has_version else 0
        return pending(version or 0, SQLITE, self.where, newest=self._newest)

    def _translated(self, error: apsw.Error) -> LegionError:
        if isinstance(error, (apsw.NotADBError, apsw.CorruptError)):
            return DamagedIndexError(
                f"the index {self.where} is damaged", cause=str(error), hint="legion registry rebuild"
            )
        if isinstance(error, apsw.BusyError):
            return WorldError(
                f"the index {self.where} stayed locked for {_BUSY_MS // 1000} s", cause=str(error), hint="try again"
            )
        if isinstance(error, apsw.SQLError):
            return DamagedIndexError(
                f"the index {self.where} has other tables", cause=str(error), hint="legion registry rebuild"
            )
        return WorldError(f"the index {self.where} cannot be used", cause=f"{type(error).__name__}: {error}")


def _lock_of(path: Path) -> Path:
    return path.with_name(path.name + ".lock")


def _journal(connection: apsw.Connection) -> str:
    mode: str = connection.execute("PRAGMA journal_mode").get
    return mode


@final
class _SqliteSession:
    def __init__(self, connection: apsw.Connection) -> None:
        self._connection = connection

    def read(self, statement: str, values: Sequence[Any] = ()) -> list[Row]:
        return self._connection.execute(statement, values).fetchall()

    def run(self, statement: str, values: Sequence[Any] = ()) -> None:
        self._connection.execute(statement, values)

    def run_many(self, statement: str, rows: Iterable[Sequence[Any]]) -> None:
        self._connection.executemany(statement, rows)

    def insert(self, table: str, columns: Sequence[str], rows: Sequence[Sequence[Any]]) -> None:
        if not rows:
            return
        places = ", ".join("?" * len(columns))
        self._connection.executemany(
            f"INSERT INTO {table} ({', '.join(columns)}) VALUES ({places})",  # noqa: S608
            rows,
        )

    def empty(self, table: str) -> None:
        self._connection.execute(_EMPTY[table])
