"""Data sets: a folder with three splits and a `task.toml`, read whole and checked whole before use."""

from __future__ import annotations

import hashlib
import json
import logging
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Final, final

from legion.foundation.errors import DataError
from legion.neuro_architecture.data.convention import guess_task
from legion.neuro_architecture.data.examples import Example, Placed, to_examples
from legion.neuro_architecture.data.mistakes import Mistakes
from legion.neuro_architecture.data.overlap import find_overlaps
from legion.neuro_architecture.data.rows import find_split, read_table
from legion.neuro_architecture.data.task_files import TASK_FILE, read_task
from legion.neuro_architecture.spec.task import Split, TaskKind, TaskSpec

__all__ = ["SPLITS", "DataSet", "Example", "read_data", "rows_digest"]

SPLITS: Final[tuple[Split, ...]] = ("train", "validation", "test")
_LOG: Final = logging.getLogger(__name__)


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class DataSet:
    """A data set that passed every check.

    Attributes:
        folder: Where it was read from.
        spec: What it is for; `labels` are filled in for a classification.
        train: Rows to learn from.
        validation: Rows to choose by.
        test: Rows to measure on.
        digest: sha256 over the rows of all splits in order.
        warnings: What a reader of results should know; also logged.
    """

    folder: Path
    spec: TaskSpec
    train: tuple[Example, ...]
    validation: tuple[Example, ...]
    test: tuple[Example, ...]
    digest: str
    warnings: tuple[str, ...] = ()

    def split(self, name: Split) -> tuple[Example, ...]:
        """The rows of one split."""
        return {"train": self.train, "validation": self.validation, "test": self.test}[name]


def read_data(folder: Path | str, *, kind: TaskKind | None = None) -> DataSet:
    """The data set in a folder; `kind` is what the caller needs it for, or None for whatever it is.

    Errors: a row that cannot be read or lacks text or target, a missing column or split, an empty split, a label that
    `train` or `task.toml` does not know, a group in two splits, a stated digest that the rows do not have. Warnings:
    texts that stand in two splits (published data sets have such, and refusing them would leave their users with
    nothing; the score is not hidden but marked), repeated texts, a stated label without rows, a guessed task.

    Raises:
        DataError: lists every mistake at once, each with file and line (or row, for Parquet).
    """
    root = Path(folder)
    if not root.is_dir():
        raise DataError(f"no data folder {root}", hint="legion data prepare writes data/classification and two more")
    stated = read_task(root / TASK_FILE) if (root / TASK_FILE).is_file() else None
    if stated and kind and stated.kind != kind:
        raise DataError(
            f"data set {root} is for {stated.kind}, not {kind}",
            hint=f"name a data folder whose {TASK_FILE} says {kind}",
        )
    mistakes = Mistakes()
    paths = {split: find_split(root, split, mistakes) for split in SPLITS}
    mistakes.raise_any(root, hint="a data set needs train, validation and test")
    tables = {split: read_table(path, mistakes) for split, path in paths.items() if path is not None}
    notes: list[str] = []
    if stated is None:
        if not tables["train"].rows:
            mistakes.add(tables["train"].name, "the split is empty")
            mistakes.raise_any(root)
        stated, note = guess_task(root.resolve(), tables["train"], kind)
        notes.append(note)
    splits = {split: to_examples(split, table, stated, mistakes) for split, table in tables.items()}
    spec = _with_labels(stated, splits, mistakes, notes)
    _check_groups(splits, mistakes)
    mistakes.raise_any(root, hint="mend the rows, or take them out")
    return _finish(root, spec, {split: tuple(row for _, row in rows) for split, rows in splits.items()}, notes)


def _finish(root: Path, spec: TaskSpec, splits: dict[Split, tuple[Example, ...]], notes: list[str]) -> DataSet:
    digest = rows_digest(splits)
    if spec.digest is not None and spec.digest != digest:
        raise DataError(
            f"the rows of {root} are not those that its {TASK_FILE} states",
            cause=f"stated {spec.digest}, found {digest}",
            hint=f"if the change is meant, set digest in {root / TASK_FILE} to the found one",
        )
    warnings = (*notes, *find_overlaps(splits))
    for warning in warnings:
        _LOG.warning("data set %s: %s", root, warning)
    return DataSet(
        folder=root.resolve(),
        spec=spec,
        train=splits["train"],
        validation=splits["validation"],
        test=splits["test"],
        digest=digest,
        warnings=warnings,
    )


def rows_digest(splits: dict[Split, tuple[Example, ...]]) -> str:
    """`sha256:<64 hex>` over one line `[split, id, text, target, group]` of JSON a row, in order."""
    state = hashlib.sha256()
    for split in SPLITS:
        for row in splits[split]:
            line = json.dumps([split, row.id, row.text, row.target, row.group], ensure_ascii=False)
            state.update(line.encode() + b"\n")
    return "sha256:" + state.hexdigest()


def _with_labels(spec: TaskSpec, splits: dict[Split, Placed], mistakes: Mistakes, notes: list[str]) -> TaskSpec:
    """The task with its labels; names rows whose label `task.toml` or `train` does not have."""
    if spec.kind != "classification" or not splits["train"]:
        return spec
    counts = Counter(example.target for _, example in splits["train"])
    labels = spec.labels or tuple(sorted(counts))
    for placed in splits.values():
        for place, example in placed:
            if example.target not in labels:
                known = TASK_FILE if spec.labels else "train"
                mistakes.add(
                    place, f"label {example.target!r} is not among those of {known} ({', '.join(labels[:12])})"
                )
            elif example.target not in counts:
                mistakes.add(place, f"label {example.target!r} has no row in train")
    if len(counts) < 2:
        mistakes.add("train", f"one label only ({next(iter(counts))!r}): nothing can be learned")
    notes += [f"label {label!r} has no row in train" for label in labels if label not in counts]
    return spec.model_copy(update={"labels": labels})


def _check_groups(splits: dict[Split, Placed], mistakes: Mistakes) -> None:
    homes: dict[str, Split] = {}
    for split, placed in splits.items():
        for place, example in placed:
            if example.group is not None and homes.setdefault(example.group, split) != split:
                mistakes.add(place, f"group {example.group!r} is also in {homes[example.group]}")
