"""`task.toml`, the page that says what a data set is for."""

from __future__ import annotations

import difflib
import json
import tomllib
from pathlib import Path
from typing import Any, Final

from legion.foundation.canonical import is_digest
from legion.foundation.errors import DataError, InvalidValueError
from legion.foundation.files import write_text
from legion.neuro_architecture.spec.task import Metric, TaskKind, TaskSpec

__all__ = ["METRICS", "TASK_FILE", "read_task", "write_task"]

TASK_FILE: Final = "task.toml"
METRICS: Final[dict[TaskKind, Metric]] = {"classification": "accuracy", "summarization": "rouge_l"}
_KEYS: Final = tuple(name for name in TaskSpec.model_fields if name != "is_conventional")


def read_task(path: Path) -> TaskSpec:
    """The task that a `task.toml` describes.

    `kind` must be there; `name` defaults to the folder's, `metric` to the kind's own, and the target column of a
    summarization to `summary`.

    Raises:
        DataError: lists every mistake in the file.
    """
    try:
        values = tomllib.loads(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise DataError(f"cannot read {path}", cause=str(error)) from error
    mistakes = [_unknown(key) for key in values if key not in _KEYS]
    known = _defaults(path, values) | {key: value for key, value in values.items() if key in _KEYS}
    try:
        spec = TaskSpec.parse(known, what=str(path))
    except InvalidValueError as error:
        mistakes += (error.cause or error.message).splitlines()
    else:
        mistakes += _contradictions(spec)
    if mistakes:
        raise DataError(f"{path} is not right", cause="\n".join(mistakes))
    return spec


def write_task(path: Path, spec: TaskSpec) -> None:
    """Writes the task as TOML; what is not stated is left out."""
    values = {key: value for key, value in spec.to_dict().items() if key in _KEYS and value not in (None, [])}
    write_text(path, "".join(f"{key} = {json.dumps(value, ensure_ascii=False)}\n" for key, value in values.items()))


def _defaults(path: Path, values: dict[str, Any]) -> dict[str, Any]:
    defaults: dict[str, Any] = {"name": path.resolve().parent.name}
    if values.get("kind") == "summarization":
        defaults |= {"metric": METRICS["summarization"], "target_column": "summary"}
    return defaults


def _unknown(key: str) -> str:
    near = difflib.get_close_matches(key, _KEYS, n=1)
    return f"{key}: unknown key" + (f"; did you mean {near[0]!r}?" if near else f"; known: {', '.join(_KEYS)}")


def _contradictions(spec: TaskSpec) -> list[str]:
    mistakes = []
    if spec.metric != METRICS[spec.kind]:
        mistakes.append(f"metric: {spec.kind} is measured by {METRICS[spec.kind]} (got {spec.metric!r})")
    if spec.kind == "summarization" and spec.labels:
        mistakes.append("labels: a summarization has none")
    if len(set(spec.labels)) != len(spec.labels) or len(spec.labels) == 1 or "" in spec.labels:
        mistakes.append(f"labels: two or more different names are needed (got {list(spec.labels)})")
    columns = [spec.text_column, spec.target_column, *filter(None, [spec.group_column])]
    if len(set(columns)) != len(columns):
        mistakes.append(f"columns: text, target and group must differ (got {', '.join(columns)})")
    if spec.digest is not None and not is_digest(spec.digest):
        mistakes.append(f"digest: must be sha256:<64 hex> (got {spec.digest!r})")
    return mistakes
