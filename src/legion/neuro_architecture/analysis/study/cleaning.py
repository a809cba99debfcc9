"""Values out of a record that may lack any of them: what is not there, or is no finite number, is absent."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any, Final

__all__ = ["mappings", "number", "number_or", "numbers", "shorten", "text", "whole_numbers"]

_UNPRINTABLE: Final = "\ufffd"


def number(value: Any) -> float | None:
    """A finite number, or None; truth values are no numbers here."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    return float(value) if math.isfinite(value) else None


def number_or(value: Any, default: float) -> float:
    """A finite number, or `default`, for counts and bookkeeping that start at it."""
    found = number(value)
    return default if found is None else found


def numbers(value: Any) -> dict[str, float]:
    """The finite numbers of a mapping, by name."""
    if not isinstance(value, Mapping):
        return {}
    return {text(name): found for name, item in value.items() if (found := number(item)) is not None}


def whole_numbers(value: Any) -> tuple[int, ...]:
    """The numbers of a list as whole ones, in order, each once."""
    found = (number(item) for item in (value if isinstance(value, list | tuple) else ()))
    return tuple(sorted({int(item) for item in found if item is not None}))


def mappings(value: Any) -> Sequence[Mapping[str, Any]]:
    """The mappings of a list; nothing where it is no list."""
    return [item for item in value if isinstance(item, Mapping)] if isinstance(value, list | tuple) else []


def text(value: Any) -> str:
    """What can be shown of a value; control characters and lone surrogates, which no SVG may hold, are replaced."""
    found = "" if value is None else str(value)
    return "".join(sign if sign.isprintable() else _UNPRINTABLE for sign in found)


def shorten(value: str, limit: int) -> str:
    """The text cut to `limit` characters, with an ellipsis where something was cut."""
    return value if len(value) <= limit else value[: limit - 1] + "…"
