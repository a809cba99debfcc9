"""JSON that says one thing: no key twice, no number that is none, no nesting without end."""

from __future__ import annotations

import json
import math
from collections.abc import Collection, Mapping
from typing import Any, Final

__all__ = ["MAX_DEPTH", "check_extent", "parse_plain_json"]

MAX_DEPTH: Final = 32


def parse_plain_json(content: bytes | str, what: str, *, max_depth: int = MAX_DEPTH) -> Any:
    """The value in UTF-8 `content`.

    Raises:
        ValueError: it is no JSON, has a key twice, NaN, infinity or a number that overflows, or is nested too deep;
            begins with `what`.
    """
    try:
        text = content if isinstance(content, str) else content.decode("utf-8")
        value = json.loads(text, object_pairs_hook=_once, parse_constant=_refuse, parse_float=_finite)
    except RecursionError as error:
        raise ValueError(f"{what} is nested deeper than {max_depth} levels") from error
    except ValueError as error:
        raise ValueError(f"{what}: {error}") from error
    check_extent(value, what, max_depth=max_depth, max_bytes=len(content))
    return value


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    value = dict(pairs)
    if len(value) != len(pairs):
        names = [name for name, _ in pairs]
        twice = next(name for name in names if names.count(name) > 1)
        raise ValueError(f"key {twice[:60]!r} is there twice")
    return value


def _refuse(name: str) -> float:
    raise ValueError(f"{name} is no JSON number")


def _finite(text: str) -> float:
    number = float(text)
    if not math.isfinite(number):
        raise ValueError(f"{text[:40]} is beyond every number")
    return number


def check_extent(value: Any, what: str, *, max_depth: int, max_bytes: int) -> None:
    """Refuses what is nested too deep, contains itself, or would be too long as JSON, before anything is written.

    Counts at least a byte a value and a character: never more than there will be.

    Raises:
        ValueError: it is too deep or too long.
    """
    _extent(value, 0, 1, what, max_depth, max_bytes)


def _extent(value: Any, num_bytes: int, depth: int, what: str, max_depth: int, max_bytes: int) -> int:
    """The bytes counted once `value`, which stands at this depth, is; recursion ends at the depth allowed."""
    if isinstance(value, Mapping):
        num_bytes += 1 + sum([len(key) for key in value if isinstance(key, str)])
        items: Collection[Any] = value.values()
    elif isinstance(value, (list, tuple)):
        num_bytes += 1
        items = value
    else:
        num_bytes += len(value) if isinstance(value, str) else 1
        items = ()
        depth = 0
    if depth > max_depth:
        raise ValueError(f"{what} is nested deeper than {max_depth} levels")
    for item in items:
        if num_bytes > max_bytes:
            break
        kind = type(item)
        if kind is int or kind is float or kind is bool or item is None:
            num_bytes += 1
        else:
            num_bytes = _extent(item, num_bytes, depth + 1, what, max_depth, max_bytes)
    if num_bytes > max_bytes:
        raise ValueError(f"{what} has more than {max_bytes} bytes; it may have at most that many")
    return num_bytes
