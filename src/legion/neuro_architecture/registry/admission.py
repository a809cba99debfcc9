"""What the registry lets in: bounded plain JSON, plain tags, and files that run no code when loaded."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, Final

from safetensors import SafetensorError, safe_open

from legion.foundation.canonical import canonical_json, parse_canonical
from legion.foundation.errors import InvalidValueError
from legion.foundation.labels import plain_label

__all__ = ["admit_file", "admit_file_name", "admit_json", "admit_tags"]

MAX_RECORD_BYTES: Final = 1 << 20
MAX_DEPTH: Final = 32
_FILE_NAME: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}")
_TEXT_SUFFIXES: Final = (".txt", ".md", ".toml", ".jsonl", ".csv")
_JSON_SUFFIX: Final = ".json"
_TENSOR_SUFFIX: Final = ".safetensors"


def admit_json(value: Mapping[str, Any], what: str) -> dict[str, Any]:
    """A detached plain copy of `value`, as RFC 8785 writes it.

    Raises:
        InvalidValueError: no object, NaN or infinity, not JSON, deeper than 32 levels or larger than 1 MiB.
    """
    if not isinstance(value, Mapping):
        raise InvalidValueError(f"{what} is no mapping but {type(value).__name__}")
    _refuse_deep(value, what)
    try:
        content = canonical_json(dict(value))
    except InvalidValueError as error:
        raise InvalidValueError(f"{what}: {error.message}", cause=error.cause, hint=error.hint) from error
    if len(content) > MAX_RECORD_BYTES:
        raise InvalidValueError(
            f"{what} has {len(content)} bytes; a record holds at most {MAX_RECORD_BYTES}",
            hint="keep long evidence in a file and register it under files=",
        )
    plain: dict[str, Any] = parse_canonical(content)
    return plain


def _refuse_deep(value: Any, what: str) -> None:
    level: list[Any] = [value]
    for _ in range(MAX_DEPTH):
        level = [child for item in level for child in _children(item)]
        if not level:
            return
    raise InvalidValueError(f"{what} is nested deeper than {MAX_DEPTH} levels")


def _children(item: Any) -> Iterable[Any]:
    if isinstance(item, Mapping):
        return item.values()
    return item if isinstance(item, (list, tuple)) else ()


def admit_tags(tags: Iterable[str]) -> tuple[str, ...]:
    """Sorted unique tags.

    Raises:
        InvalidValueError: a bare string, or a tag that is no plain label.
    """
    if isinstance(tags, str):
        raise InvalidValueError(f"tags is the one string {tags!r}", hint=f"write tags=[{tags!r}]")
    return tuple(sorted({plain_label(tag, "tag") for tag in tags}))


def admit_file_name(name: str) -> str:
    """`name`, when it is a plain file name of a kind that the registry keeps.

    Raises:
        InvalidValueError: a path, an odd character, or a kind that may run code when loaded (pickle).
    """
    if not isinstance(name, str) or not _FILE_NAME.fullmatch(name):
        raise InvalidValueError(f"{str(name)[:60]!r} is no plain file name")
    kinds = (_TENSOR_SUFFIX, _JSON_SUFFIX, *_TEXT_SUFFIXES)
    if not name.endswith(kinds):
        raise InvalidValueError(
            f"file {name!r} is of no kind that the registry keeps",
            cause=f"it keeps {', '.join(kinds)}; pickles (.bin, .pt, .pkl) run code when loaded",
            hint="save weights as safetensors",
        )
    return name


def admit_file(name: str, path: Path) -> None:
    """Reads the file at `path` as the kind that `name` says.

    Raises:
        InvalidValueError: the content is of another kind (a pickle under a safe name, broken JSON, a torn tensor file).
    """
    try:
        if name.endswith(_TENSOR_SUFFIX):
            with safe_open(path, framework="numpy") as tensors:
                tensors.keys()
        elif name.endswith(_JSON_SUFFIX):
            json.loads(path.read_text(encoding="utf-8"))
        elif "\0" in path.read_text(encoding="utf-8"):
            raise ValueError("it holds a zero byte")
    except (SafetensorError, ValueError, RecursionError) as error:
        raise InvalidValueError(
            f"file {name!r} does not hold what its name says", cause=str(error), hint="pickles are refused"
        ) from error


def admit_alias(alias: str) -> str:
    """TEMP"""
    return plain_label(alias, "alias")
