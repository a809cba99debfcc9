"""What the index asks of a database; both of ours speak the same SQL with `?` for each value."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from contextlib import AbstractContextManager
from typing import Any, Protocol

from legion.foundation.errors import IntegrityError

__all__ = ["DamagedIndexError", "Database", "Row", "Session"]

Row = tuple[Any, ...]


class DamagedIndexError(IntegrityError):
    """What a database holds cannot be read, or is not our tables."""


class Session(Protocol):
    """The inside of a transaction."""

    def read(self, statement: str, values: Sequence[Any] = ()) -> list[Row]:
        """All rows of the answer."""
        ...

    def run(self, statement: str, values: Sequence[Any] = ()) -> None:
        """Runs a statement that answers nothing."""
        ...

    def run_many(self, statement: str, rows: Iterable[Sequence[Any]]) -> None:
        """Runs it once for each row of values."""
        ...

    def insert(self, table: str, columns: Sequence[str], rows: Sequence[Sequence[Any]]) -> None:
        """Adds rows that cannot meet any that stands, the fastest way there is."""
        ...

    def empty(self, table: str) -> None:
        """Takes every row out of a table."""
        ...


class Database(Protocol):
    """Rows in one place, safe for threads and processes.

    Attributes:
        where: Its place, as an error names it, without passwords.
        must_be_led: Whether a query has to say where to begin; otherwise the database's own statistics say it.
    """

    where: str
    must_be_led: bool

    def read(self, statement: str, values: Sequence[Any] = ()) -> list[Row]:
        """All rows of the answer, as of the last commit."""
        ...

    def transaction(self) -> AbstractContextManager[Session]:
        """A turn at writing, against all threads and processes: committed at the end, undone by an error."""
        ...

    def recreate(self) -> None:
        """Throws everything away, damaged or not; the next use makes empty tables."""
        ...

    def close(self) -> None:
        """Lets go of all connections."""
        ...
