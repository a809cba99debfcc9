"""Rows of JSONL, CSV and Parquet files, each with the place that an error would name."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from legion.foundation.errors import DataError
from legion.neuro_architecture.data.mistakes import Mistakes
from legion.neuro_architecture.spec.task import Split

__all__ = ["FORMATS", "Row", "Table", "find_split", "read_table"]

_LONGEST_FIELD: Final = 1 << 24
_BOM: Final = b"\xef\xbb\xbf"


@dataclass(frozen=True, slots=True)
class Row:
    """One row: where it stands and what its columns hold."""

    place: str
    values: dict[str, Any]


@dataclass(frozen=True, slots=True)
class Table:
    """The rows of one split that could be read, and every column that one of them has."""

    name: str
    columns: tuple[str, ...]
    rows: tuple[Row, ...]


def find_split(folder: Path, split: Split, mistakes: Mistakes) -> Path | None:
    """The one file of a split; a mistake where there is none or several."""
    files = [path for suffix in FORMATS if (path := folder / f"{split}{suffix}").is_file()]
    if len(files) == 1:
        return files[0]
    if files:
        mistakes.add(split, "several files: " + ", ".join(path.name for path in files))
    else:
        mistakes.add(split, f"no file {split}{', '.join(FORMATS)}")
    return None


def read_table(path: Path, mistakes: Mistakes) -> Table:
    """Every row of a file; rows that cannot be read are added to `mistakes`.

    Raises:
        DataError: the disk refused.
    """
    try:
        columns, rows = FORMATS[path.suffix](path, mistakes)
    except OSError as error:
        raise DataError(f"cannot read {path}", cause=str(error)) from error
    return Table(path.name, columns, tuple(rows))


def _read_jsonl(path: Path, mistakes: Mistakes) -> tuple[tuple[str, ...], list[Row]]:
    rows = []
    columns: dict[str, None] = {}
    for number, line in enumerate(path.read_bytes().removeprefix(_BOM).split(b"\n"), 1):
        if not line.strip():
            continue
        place = f"{path.name}:{number}"
        try:
            values = json.loads(line.decode("utf-8"))
        except UnicodeDecodeError as error:
            mistakes.add(place, f"is not UTF-8 ({error.reason} at byte {error.start + 1})")
        except (ValueError, RecursionError) as error:
            mistakes.add(place, f"is not JSON ({error})")
        else:
            if isinstance(values, dict):
                columns |= dict.fromkeys(values)
                rows.append(Row(place, values))
            else:
                mistakes.add(place, f"is no JSON object but {type(values).__name__}")
    return tuple(columns), rows


def _read_csv(path: Path, mistakes: Mistakes) -> tuple[tuple[str, ...], list[Row]]:
    content = path.read_bytes().removeprefix(_BOM)
    try:
        text = content.decode("utf-8")
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        mistakes.add(f"{path.name}:{line}", f"is not UTF-8 ({error.reason})")
        return (), []
    with _long_fields():
        reader = csv.reader(io.StringIO(text, newline=""), strict=True)
        return _take_records(path.name, reader, mistakes)


def _take_records(name: str, reader: Any, mistakes: Mistakes) -> tuple[tuple[str, ...], list[Row]]:
    columns: tuple[str, ...] = ()
    rows: list[Row] = []
    first_line = 1
    try:
        for fields in reader:
            place, first_line = f"{name}:{first_line}", reader.line_num + 1
            if not fields:
                continue
            if not columns:
                columns = tuple(fields)
            elif len(fields) != len(columns):
                mistakes.add(place, f"has {len(fields)} fields, not {len(columns)}")
            else:
                rows.append(Row(place, dict(zip(columns, fields, strict=True))))
    except csv.Error as error:
        mistakes.add(f"{name}:{first_line}", f"is not CSV ({error}); rows after it were not read")
    if repeated := {column for column in columns if columns.count(column) > 1}:
        mistakes.add(f"{name}:1", f"repeats the column {', '.join(sorted(repeated))}")
    return columns, rows


@contextmanager
def _long_fields() -> Iterator[None]:
    """Lets fields be as long as an article; the csv module's own limit is 128 KiB, for the whole process."""
    before = csv.field_size_limit(_LONGEST_FIELD)
    try:
        yield
    finally:
        csv.field_size_limit(before)


def _read_parquet(path: Path, mistakes: Mistakes) -> tuple[tuple[str, ...], list[Row]]:
    import pyarrow as pa
    from pyarrow import parquet

    try:
        table = parquet.read_table(path, memory_map=True)
    except (pa.ArrowException, ValueError) as error:
        mistakes.add(path.name, f"is not Parquet ({str(error).splitlines()[0]})")
        return (), []
    rows = [Row(f"{path.name} row {number}", values) for number, values in enumerate(table.to_pylist(), 1)]
    return tuple(table.column_names), rows


FORMATS: Final[dict[str, Callable[[Path, Mistakes], tuple[tuple[str, ...], list[Row]]]]] = {
    ".jsonl": _read_jsonl,
    ".csv": _read_csv,
    ".parquet": _read_parquet,
}
