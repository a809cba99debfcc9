"""How a query is refused: the text, a caret under the place, and what was expected."""

from __future__ import annotations

import difflib
from collections.abc import Iterable
from typing import Final

from legion.foundation.errors import InvalidValueError

__all__ = ["mistake", "nearest"]

_WINDOW: Final = 60


def mistake(text: str, place: int, problem: str, *, hint: str | None = None) -> InvalidValueError:
    """The error for `text`, whose character at `place` is where it goes wrong."""
    shown = "".join(character if character.isprintable() else " " for character in text)
    first, last = max(0, place - _WINDOW), min(len(shown), place + _WINDOW)
    before, after = ("..." if first > 0 else ""), ("..." if last < len(shown) else "")
    line = before + shown[first:last] + after
    caret = " " * (len(before) + place - first) + "^"
    return InvalidValueError(f"query: {problem}", cause=f"{line}\n{caret}", hint=hint)


def nearest(name: str, known: Iterable[str]) -> str | None:
    """`did you mean ...?`, where something known is near."""
    near = difflib.get_close_matches(name.lower(), sorted(known), n=1, cutoff=0.6)
    return f"did you mean '{near[0]}'?" if near else None
