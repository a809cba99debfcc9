"""MLflow's database store, as one SQLite file; opened so that nothing can be written."""

from __future__ import annotations

import math
import sqlite3
from pathlib import Path
from typing import Any, Final, final

from legion.foundation.errors import InvalidValueError
from legion.neuro_architecture.registry.importing.mlflow_values import (
    MlflowMetric,
    MlflowModel,
    MlflowRun,
    MlflowVersion,
    Skip,
)
from legion.neuro_architecture.registry.regular import open_regular

__all__ = ["SqliteStore"]

_LARGEST: Final = 1.7976931348623157e308  # what MLflow stores for infinity
_NEEDED: Final = {
    "registered_models": {"name"},
    "model_versions": {"name", "version"},
    "runs": {"run_uuid"},
    "params": {"key", "value", "run_uuid"},
    "metrics": {"key", "value", "timestamp", "step", "is_nan", "run_uuid"},
}
_RUN_FACTS: Final = ("name", "status", "lifecycle_stage", "user_id", "source_version", "start_time", "end_time")


@final
class SqliteStore:
    """The tables of MLflow's model registry and tracking store.

    Args:
        path: The database file.

    Raises:
        InvalidValueError: it is no regular file, no SQLite database, or without MLflow's tables.
    """

    def __init__(self, path: Path) -> None:
        with open_regular(path):
            pass
        self._path = path
        self._connection = sqlite3.connect(f"{path.absolute().as_uri()}?mode=ro", uri=True)
        self._connection.row_factory = sqlite3.Row
        try:
            self._connection.execute("PRAGMA trusted_schema = OFF")
            self._columns = self._tables()
        except sqlite3.DatabaseError as error:
            self.close()
            raise InvalidValueError(f"{path} is no SQLite database", cause=str(error)) from error
        for table, needed in _NEEDED.items():
            missing = needed - self._columns.get(table, set())
            if missing:
                self.close()
                raise InvalidValueError(
                    f"{path} is no store of MLflow", cause=f"no {', '.join(sorted(missing))} in {table}"
                )

    def close(self) -> None:
        self._connection.close()

    def _tables(self) -> dict[str, set[str]]:
        """Real tables only: a view would run somebody's query."""
        names = self._connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'").fetchall()
        return {
            str(row["name"]): {
                str(column["name"])
                for column in self._connection.execute("SELECT name FROM pragma_table_info(?)", (row["name"],))
            }
            for row in names
        }

    def _rows(self, table: str, where: dict[str, Any], order: str = "") -> list[sqlite3.Row]:
        """Rows of one of MLflow's tables; a column that this version of it lacks does not narrow them."""
        columns = self._columns.get(table)
        if columns is None:
            return []
        used = {name: value for name, value in where.items() if name in columns}
        condition = " AND ".join(f"{name} IS ?" for name in used) or "1"
        query = f"SELECT * FROM {table} WHERE {condition}"  # noqa: S608 - names are ours
        if order:
            query += f" ORDER BY {order}"
        try:
            return self._connection.execute(query, tuple(used.values())).fetchall()
        except sqlite3.DatabaseError as error:
            raise InvalidValueError(f"cannot read {table} of {self._path}", cause=str(error)) from error

    def models(self, skip: Skip) -> list[MlflowModel]:
        found = []
        for row in self._rows("registered_models", {}, "name"):
            name, workspace = str(row["name"]), _text(row, "workspace")
            own = {"name": name, "workspace": workspace}
            versions = []
            for version in self._rows("model_versions", own, "version"):
                if isinstance(version["version"], int):
                    versions.append(self._version(version, own))
                else:
                    skip(f"model {name!r}", f"version {str(version['version'])[:40]!r} is no number")
            found.append(
                MlflowModel(
                    name=name,
                    workspace=workspace,
                    tags=self._pairs("registered_model_tags", own),
                    description=_text(row, "description"),
                    versions=tuple(versions),
                )
            )
        return found

    def _version(self, row: sqlite3.Row, own: dict[str, str | None]) -> MlflowVersion:
        number = int(row["version"])
        aliases = self._rows("registered_model_aliases", {**own, "version": number}, "alias")
        return MlflowVersion(
            model=str(own["name"]),
            version=number,
            workspace=own["workspace"],
            source=_text(row, "source"),
            storage_location=_text(row, "storage_location"),
            run_id=_text(row, "run_id"),
            stage=_text(row, "current_stage"),
            status=_text(row, "status"),
            description=_text(row, "description"),
            created_ms=_whole(row, "creation_time"),
            tags=self._pairs("model_version_tags", {**own, "version": number}),
            aliases=tuple(str(alias["alias"]) for alias in aliases),
        )

    def _pairs(self, table: str, where: dict[str, Any]) -> dict[str, str]:
        return {str(row["key"]): str(row["value"] or "") for row in self._rows(table, where, "key")}

    def run(self, run_id: str, skip: Skip) -> MlflowRun | None:  # noqa: ARG002 - rows are whole or not there
        rows = self._rows("runs", {"run_uuid": run_id})
        if not rows:
            return None
        facts = {word: value for word in _RUN_FACTS if (value := _fact(rows[0], word))}
        return MlflowRun(
            run_id=run_id,
            artifact_uri=_text(rows[0], "artifact_uri"),
            facts=facts,
            params=self._pairs("params", {"run_uuid": run_id}),
            metrics=self._metrics(run_id),
            tags=self._pairs("tags", {"run_uuid": run_id}),
        )

    def _metrics(self, run_id: str) -> dict[str, MlflowMetric]:
        metrics: dict[str, MlflowMetric] = {}
        for row in self._rows("metrics", {"run_uuid": run_id}, "key, step, timestamp, value"):
            value = row["value"]
            is_number = isinstance(value, (int, float)) and not row["is_nan"]
            number = float(value) if is_number else math.nan
            if abs(number) >= _LARGEST:
                number = math.copysign(math.inf, number)
            before = metrics.get(str(row["key"]))
            metrics[str(row["key"])] = MlflowMetric(
                value=number,
                step=_whole(row, "step") or 0,
                timestamp_ms=_whole(row, "timestamp") or 0,
                num_points=1 + (before.num_points if before else 0),
            )
        return metrics

    def logged_model_location(self, model_id: str) -> str | None:
        rows = self._rows("logged_models", {"model_id": model_id})
        return _text(rows[0], "artifact_location") if rows else None


def _text(row: sqlite3.Row, column: str) -> str | None:
    value = row[column] if column in row.keys() else None  # noqa: SIM118 - a Row iterates its values
    return value if isinstance(value, str) and value else None


def _whole(row: sqlite3.Row, column: str) -> int | None:
    value = row[column] if column in row.keys() else None  # noqa: SIM118
    return value if isinstance(value, int) else None


def _fact(row: sqlite3.Row, column: str) -> str | int | None:
    return _text(row, column) or _whole(row, column)
