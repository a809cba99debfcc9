"""What a folder without `task.toml` most likely is, from the names of its columns."""

from __future__ import annotations

from pathlib import Path
from typing import Final

from legion.foundation.errors import DataError
from legion.neuro_architecture.data.rows import Table
from legion.neuro_architecture.data.task_files import METRICS, TASK_FILE
from legion.neuro_architecture.spec.task import TaskKind, TaskSpec

__all__ = ["guess_task"]

_TEXTS: Final = ("text", "sentence", "review", "article", "document", "content", "body", "input")
_TARGETS: Final[dict[TaskKind, tuple[str, ...]]] = {
    "classification": ("label", "class", "category", "sentiment", "target"),
    "summarization": ("summary", "headline", "highlights", "title", "target"),
}
_GROUPS: Final = ("group", "group_id")


def guess_task(folder: Path, train: Table, kind: TaskKind | None) -> tuple[TaskSpec, str]:
    """The task by convention, and the warning that says what was assumed.

    The first known column name wins, in the order of the lists above; a label column makes a classification unless
    `kind` says otherwise. A column called `target` alone decides nothing without `kind`.

    Raises:
        DataError: the columns do not tell; shows what to write.
    """
    text = _first(_TEXTS, train.columns)
    found = {each: _first(names, train.columns) for each, names in _TARGETS.items()}
    chosen = kind or _choose(found)
    target = found[chosen] if chosen else None
    if text is None or chosen is None or target is None:
        raise DataError(
            f"data set {folder} has no {TASK_FILE}, and its columns do not tell what it is for",
            cause="columns: " + (", ".join(train.columns) or "none"),
            hint=f'write {folder / TASK_FILE} with kind = "classification" (or "summarization"), '
            'text_column = "..." and target_column = "..."',
        )
    spec = TaskSpec(
        name=folder.name,
        kind=chosen,
        text_column=text,
        target_column=target,
        group_column=_first(_GROUPS, train.columns),
        metric=METRICS[chosen],
        is_conventional=True,
    )
    group = f", groups from column {spec.group_column!r}" if spec.group_column else ""
    return spec, (
        f"no {TASK_FILE} in {folder}: read by convention as {chosen}, text from column {text!r}, target from column "
        f"{target!r}{group}; licence and source unknown. Write {TASK_FILE} to state them"
    )


def _first(names: tuple[str, ...], columns: tuple[str, ...]) -> str | None:
    return next((name for name in names if name in columns), None)


def _choose(found: dict[TaskKind, str | None]) -> TaskKind | None:
    sure: list[TaskKind] = [kind for kind, column in found.items() if column not in (None, "target")]
    return sure[0] if sure else None
