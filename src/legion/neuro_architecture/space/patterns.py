"""Ranks and alphas of single layers by the end of their path, read as PEFT reads them."""

from __future__ import annotations

import functools
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import TypeVar

from legion.neuro_architecture.anatomy.values import LinearSite

__all__ = ["canonical_pattern", "fits", "is_pattern", "value_at"]

_Number = TypeVar("_Number", int, float)


def is_pattern(key: str) -> bool:
    """Whether the key can be read: PEFT takes it for a regular expression."""
    return _compiled(key) is not None


def fits(key: str, path: str) -> bool:
    """Whether the key is the whole path, or its end from a dot on."""
    expression = _compiled(key)
    return expression is not None and expression.fullmatch(path) is not None


@functools.lru_cache(maxsize=4096)
def _compiled(key: str) -> re.Pattern[str] | None:
    try:
        return re.compile(rf"(.*\.)?({key})")
    except re.error:
        return None


def value_at(pattern: Mapping[str, _Number], path: str, default: _Number) -> _Number:
    """The layer's own value: of the keys that fit, the alphabetically first holds, as in what PEFT has stored."""
    return next((pattern[key] for key in sorted(pattern) if fits(key, path)), default)


def canonical_pattern(
    default: _Number, pattern: Mapping[str, _Number], linears: Sequence[LinearSite]
) -> tuple[_Number, dict[str, _Number]]:
    """The one spelling of the same values: most layers' as the default, the others by name where the name is enough.

    Keys that fit no layer are kept, so that `find_mistakes` can name them.
    """
    if not pattern or not linears:
        return default, dict(pattern)
    values = {linear.path: value_at(pattern, linear.path, default) for linear in linears}
    counts = Counter(values.values())
    common = max(counts, key=lambda value: (counts[value], value))
    spelled = {key: value for key, value in pattern.items() if not any(fits(key, path) for path in values)}
    enough: dict[str, bool] = {}
    for linear in linears:
        value = values[linear.path]
        if value == common:
            continue
        if linear.name not in enough:
            named = {other for path, other in values.items() if fits(linear.name, path)}
            enough[linear.name] = len(named) == 1
        spelled[linear.name if enough[linear.name] else linear.path] = value
    return common, dict(sorted(spelled.items()))
