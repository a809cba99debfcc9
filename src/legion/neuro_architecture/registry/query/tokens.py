"""A query's text cut into tokens, each with its place."""

from __future__ import annotations

import re
from dataclasses import dataclass
from enum import StrEnum
from typing import Final, final

from legion.neuro_architecture.registry.query.mistakes import mistake
from legion.neuro_architecture.registry.query.terms import BARE_VALUE, NAME

__all__ = ["MAX_CHARACTERS", "Kind", "Token", "tokenise"]

MAX_CHARACTERS: Final = 4096


class Kind(StrEnum):
    """What a token is, in the words of an error."""

    OPEN = "'('"
    CLOSE = "')'"
    FIELD = "a field"
    OPERATOR = "a comparison"
    NUMBER = "a number"
    WORD = "a name"
    QUOTED = "a quoted text"
    END = "the end"


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class Token:
    """One token.

    Attributes:
        kind: What it is.
        text: Its text without quotes; the name of a field.
        place: Index of its first character.
        value: The value of a field.
        value_place: Where the value begins.
    """

    kind: Kind
    text: str
    place: int
    value: str = ""
    value_place: int = 0


_QUOTED: Final = re.compile(r'"((?:[^"\\]|\\.)*)"' + "|" + r"'((?:[^'\\]|\\.)*)'", re.DOTALL)
_ESCAPED: Final = re.compile(r"\\(.)", re.DOTALL)
_BLANK: Final = re.compile(r"\s+")
_FIELD: Final = re.compile(r"([^\W\d]\w*):")
_PATTERNS: Final = (
    (Kind.OPEN, re.compile(r"\(")),
    (Kind.CLOSE, re.compile(r"\)")),
    (Kind.OPERATOR, re.compile(r"<=|>=|!=|==|<>|=|<|>")),
    (Kind.NUMBER, re.compile(r"[+-]?(?:\d+(?:\.\d*)?|\.\d+)(?:[eE][+-]?\d+)?(?![\w.])")),
    (Kind.WORD, NAME),
)


def tokenise(text: str) -> list[Token]:
    """All tokens, the last of them `Kind.END`.

    Raises:
        InvalidValueError: too long, a quote that never ends, a field without a value, an odd character.
    """
    if len(text) > MAX_CHARACTERS:
        raise mistake(text, MAX_CHARACTERS, f"{len(text)} characters are too many; at most {MAX_CHARACTERS} are read")
    tokens: list[Token] = []
    place = _past_blanks(text, 0)
    while place < len(text):
        token, place = _token(text, place)
        tokens.append(token)
        place = _past_blanks(text, place)
    return [*tokens, Token(kind=Kind.END, text="", place=len(text))]


def _past_blanks(text: str, place: int) -> int:
    blank = _BLANK.match(text, place)
    return blank.end() if blank else place


def _token(text: str, place: int) -> tuple[Token, int]:
    if text[place] in "\"'":
        quoted, end = _quoted(text, place)
        return Token(kind=Kind.QUOTED, text=quoted, place=place), end
    if field := _FIELD.match(text, place):
        return _field(text, place, field)
    for kind, pattern in _PATTERNS:
        if found := pattern.match(text, place):
            return Token(kind=kind, text=found[0], place=place), found.end()
    raise mistake(text, place, f"{text[place]!r} has no meaning here", hint='quote odd names: "rouge l" > 0.3')


def _field(text: str, place: int, field: re.Match[str]) -> tuple[Token, int]:
    start = field.end()
    if start < len(text) and text[start] in "\"'":
        value, end = _quoted(text, start)
    elif bare := BARE_VALUE.match(text, start):
        value, end = bare[0], bare.end()
    else:
        raise mistake(
            text, start, f"expected a value right behind '{field[0]}'", hint=f'{field[0]}name or {field[0]}"a name"'
        )
    return Token(kind=Kind.FIELD, text=field[1], place=place, value=value, value_place=start), end


def _quoted(text: str, place: int) -> tuple[str, int]:
    found = _QUOTED.match(text, place)
    if not found:
        raise mistake(text, place, "this quote never ends")
    inside = found[1] if found[1] is not None else found[2]
    return _ESCAPED.sub(r"\1", inside), found.end()
