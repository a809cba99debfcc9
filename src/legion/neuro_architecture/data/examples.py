"""From a row of a file to an example, or to a mistake with its place."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any, final

from legion.neuro_architecture.data.mistakes import Mistakes
from legion.neuro_architecture.data.rows import Row, Table
from legion.neuro_architecture.spec.task import Split, TaskSpec

__all__ = ["Example", "Placed", "to_examples"]


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class Example:
    """One row.

    Attributes:
        id: The row's `id` column, or `<split>-<number from 1>`.
        text: The input.
        target: The label's name, or the text to write.
        group: What may not be split apart, or None.
    """

    id: str
    text: str
    target: str
    group: str | None = None


Placed = list[tuple[str, Example]]


def to_examples(split: Split, table: Table, spec: TaskSpec, mistakes: Mistakes) -> Placed:
    """The readable rows of a split with their places."""
    columns = [spec.text_column, spec.target_column, *filter(None, [spec.group_column])]
    lost = [column for column in columns if column not in table.columns]
    if not table.rows:
        mistakes.add(table.name, "the split is empty")
    elif lost:
        known = ", ".join(table.columns)
        mistakes.add(table.name, f"no column {', '.join(map(repr, lost))} (columns: {known})")
    if not table.rows or lost:
        return []
    has_ids = "id" in table.columns and "id" not in columns
    placed: Placed = []
    seen: dict[str, str] = {}
    for number, row in enumerate(table.rows, 1):
        identity = _name(row, "id", mistakes) if has_ids else f"{split}-{number}"
        text = _text(row, spec.text_column, mistakes)
        target = (_name if spec.kind == "classification" else _text)(row, spec.target_column, mistakes)
        group = _name(row, spec.group_column, mistakes) if spec.group_column else None
        if identity in seen:
            mistakes.add(row.place, f"repeats the id {identity!r} of {seen[identity]}")
        elif identity and text and target and (group or not spec.group_column):
            seen[identity] = row.place
            placed.append((row.place, Example(id=identity, text=text, target=target, group=group)))
    return placed


def _text(row: Row, column: str, mistakes: Mistakes) -> str | None:
    """The text in a column, or None after naming what is wrong with it."""
    value: Any = row.values.get(column)
    if value is None:
        mistakes.add(row.place, f"no {column!r}")
    elif not isinstance(value, str):
        mistakes.add(row.place, f"{column!r} is {type(value).__name__}, not text")
    elif not value.strip():
        mistakes.add(row.place, f"{column!r} is blank")
    elif not _is_unicode(value):
        mistakes.add(row.place, f"{column!r} holds half of a surrogate pair")
    else:
        return value
    return None


def _name(row: Row, column: str, mistakes: Mistakes) -> str | None:
    """The label, id or group in a column; whole numbers and booleans are spelled as JSON spells them."""
    value: Any = row.values.get(column)
    if isinstance(value, bool | int):
        return json.dumps(value)
    if isinstance(value, float):
        mistakes.add(row.place, f"{column!r} is {value}: a name or a whole number is needed")
        return None
    return _text(row, column, mistakes)


def _is_unicode(text: str) -> bool:
    try:
        text.encode("utf-8")
    except UnicodeEncodeError:
        return False
    return True
