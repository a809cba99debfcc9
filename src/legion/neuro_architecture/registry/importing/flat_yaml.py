"""The YAML that MLflow writes into `meta.yaml`: one flat map of texts, with flat maps and empty lists as values.

No tags, anchors, documents or types: a value is a text, None, a map of texts, or an empty list; a number stays the text
that stands there. Whatever is outside that is refused with its line.
"""

from __future__ import annotations

import re
from typing import Final

__all__ = ["FlatValue", "parse_flat_yaml"]

FlatValue = str | None | dict[str, "str | None"] | list[str]

_KEY: Final = re.compile(
    r"""( *)('(?:[^']|'')*'|"(?:[^"\\]|\\.)*"|[^\s'"#\[\]{},&*!|>%@`?:-][^:#]*?|-[^\s:#][^:#]*?):(?: +(.*))?"""
)
_ESCAPE: Final = re.compile(r"\\(x[0-9a-fA-F]{2}|u[0-9a-fA-F]{4}|U[0-9a-fA-F]{8}|.)", re.DOTALL)
_SIMPLE: Final = {
    "0": "\0", "a": "\a", "b": "\b", "t": "\t", "n": "\n", "v": "\v", "f": "\f", "r": "\r", "e": "\x1b", " ": " ",
    '"': '"', "\\": "\\", "/": "/", "N": "\x85", "_": "\xa0", "L": "\u2028", "P": "\u2029",
}  # fmt: skip
_NOTHING: Final = ("", "null", "~", "Null", "NULL")
_OTHER_BREAKS: Final = "\r\x85\u2028\u2029"
_MOST_LINES: Final = 10_000


def parse_flat_yaml(text: str) -> dict[str, FlatValue]:
    """The map in `text`.

    Raises:
        ValueError: it is other YAML than that; names the line.
    """
    if any(character in text for character in _OTHER_BREAKS):
        raise ValueError("it holds a line's end of another kind, unescaped")
    lines = text.split("\n")
    if len(lines) > _MOST_LINES:
        raise ValueError(f"it has {len(lines)} lines; at most {_MOST_LINES} are read")
    values: dict[str, FlatValue] = {}
    position = 0
    while position < len(lines):
        if not lines[position].strip():
            position += 1
            continue
        indent, key, rest = _key(lines, position)
        if indent or key in values:
            raise ValueError(f"line {position + 1}: {'an indented key' if indent else f'{key!r} is there twice'}")
        start, position = position + 1, _end(lines, position)
        block = lines[start:position]
        first = next((line for line in block if line.strip()), None)
        if not rest and first is not None and first.startswith(" ") and _KEY.fullmatch(first):
            values[key] = _map(lines, start, position)
        else:
            values[key] = _value(rest, block, start)
    return values


def _key(lines: list[str], position: int) -> tuple[int, str, str]:
    match = _KEY.fullmatch(lines[position])
    if match is None:
        raise ValueError(f"line {position + 1} is no key and value: {lines[position][:60]!r}")
    return len(match[1]), _scalar(match[2]) or "", (match[3] or "").strip(" ")


def _end(lines: list[str], position: int) -> int:
    """Where the value that begins on this line ends: at the next line that is not indented, blank ones aside."""
    end = position + 1
    while end < len(lines) and (not lines[end].strip() or lines[end].startswith(" ")):
        end += 1
    return end


def _map(lines: list[str], start: int, end: int) -> dict[str, str | None]:
    values: dict[str, str | None] = {}
    indent = len(lines[start]) - len(lines[start].lstrip(" "))
    position = start
    while position < end:
        if not lines[position].strip():
            position += 1
            continue
        found, key, rest = _key(lines, position)
        if found != indent or key in values:
            raise ValueError(f"line {position + 1}: {key!r} is there twice or at another depth")
        first, position = position + 1, position + 1
        while position < end and (not lines[position].strip() or lines[position].startswith(" " * (indent + 1))):
            position += 1
        value = _value(rest, lines[first:position], first)
        if isinstance(value, (dict, list)):
            raise ValueError(f"line {first}: a map in a map")
        values[key] = value
    return values


def _value(rest: str, more: list[str], start: int) -> FlatValue:
    if rest in {"{}", "[]"} and not any(line.strip() for line in more):
        return {} if rest == "{}" else []
    if rest[:1] and rest[0] in "{[&*!|>%@`#":
        raise ValueError(f"line {start}: {rest[:60]!r} is more than flat YAML")
    return _scalar(_folded([rest, *more], is_double=rest.startswith('"')))


def _folded(lines: list[str], *, is_double: bool) -> str:
    """Several lines of one scalar as one: a line's end is a blank, an empty line a line's end, as YAML has it."""
    while len(lines) > 1 and not lines[-1].strip():
        lines = lines[:-1]
    text, num_empty = lines[0], 0
    for line in lines[1:]:
        if not line.strip(" "):
            num_empty += 1
            continue
        is_escaped = is_double and (len(text) - len(text.rstrip("\\"))) % 2 == 1
        text = text[:-1] if is_escaped else text.rstrip(" ")
        blank = "" if is_escaped or not text else " "
        text, num_empty = text + ("\n" * num_empty or blank) + line.lstrip(" "), 0
    return text


def _scalar(text: str) -> str | None:
    if text.startswith("'"):
        if len(text) < 2 or not re.fullmatch(r"'(?:[^']|'')*'", text):
            raise ValueError(f"the quote does not end: {text[:60]!r}")
        return text[1:-1].replace("''", "'")
    if text.startswith('"'):
        if not re.fullmatch(r'"(?:[^"\\]|\\.)*"', text, re.DOTALL):
            raise ValueError(f"the quote does not end: {text[:60]!r}")
        return _ESCAPE.sub(_escaped, text[1:-1])
    if " #" in text or ": " in text or text.endswith(":"):
        raise ValueError(f"{text[:60]!r} is no plain text")
    return None if text in _NOTHING else text


def _escaped(match: re.Match[str]) -> str:
    word = match[1]
    if word[0] in "xuU" and len(word) > 1:
        return chr(int(word[1:], 16))
    if word not in _SIMPLE:
        raise ValueError(f"no such escape: \\{word}")
    return _SIMPLE[word]
