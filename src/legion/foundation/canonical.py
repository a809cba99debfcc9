"""Canonical JSON (RFC 8785) and the content names made from it."""

from __future__ import annotations

import hashlib
import json
import math
from pathlib import Path
from typing import Any, Final

import rfc8785

from legion.foundation.errors import InvalidValueError

__all__ = [
    "canonical_json",
    "digest_bytes",
    "digest_file",
    "digest_json",
    "is_digest",
    "parse_canonical",
    "refuse_non_finite",
    "short",
]

_PREFIX: Final = "sha256:"
_CHUNK_BYTES: Final = 1 << 20
_LARGEST_INTEGER: Final = 2**53 - 1
_LEAST_PLAIN: Final = 1e-4  # below it, and from 1e16 on, Python writes an exponent
_ENCODE: Final = json.JSONEncoder(ensure_ascii=False, sort_keys=True, separators=(",", ":"), allow_nan=False).encode


def canonical_json(value: Any) -> bytes:
    """The one byte string of `value` under RFC 8785: sorted keys, no white space, shortest numbers.

    Raises:
        InvalidValueError: `value` holds NaN, infinity or something JSON cannot say.
    """
    fast = _common_json(value)
    if fast is not None:
        return fast
    refuse_non_finite(value)
    try:
        return rfc8785.dumps(value)
    except rfc8785.CanonicalizationError as error:
        raise InvalidValueError(f"cannot be written as canonical JSON: {error}") from error


def _common_json(value: Any) -> bytes | None:
    """`canonical_json` of what nearly all records are, in a tenth of the time, or None.

    Of plain ASCII text and of numbers that need no exponent, Python's own encoder writes the same bytes.
    """
    try:
        text = _ENCODE(_plain(value))
    except (_NotPlainError, RecursionError):
        return None
    return text.encode("ascii") if text.isascii() else None


class _NotPlainError(Exception):
    """Python and RFC 8785 may spell it in two ways, or not at all."""


def _plain(value: Any) -> Any:
    """`value` with whole floats as integers.

    Raises:
        _NotPlainError: it holds anything but dicts with text keys, lists, texts and common numbers.
    """
    kind = type(value)
    if kind is str or kind is bool or value is None:
        return value
    if kind is dict:
        plain = {}
        for key, item in value.items():
            if type(key) is not str:
                raise _NotPlainError
            plain[key] = item if type(item) is str else _plain(item)
        return plain
    if kind is list or kind is tuple:
        return [item if type(item) is str else _plain(item) for item in value]
    if kind is int and -_LARGEST_INTEGER <= value <= _LARGEST_INTEGER:
        return value
    if kind is float:
        if value.is_integer() and -_LARGEST_INTEGER <= value <= _LARGEST_INTEGER:
            return int(value)
        if _LEAST_PLAIN <= abs(value) <= _LARGEST_INTEGER:
            return value
    raise _NotPlainError


def parse_canonical(content: bytes) -> Any:
    """The value that `canonical_json` wrote: whole numbers beyond 2**53 were floats, for RFC 8785 writes no others.

    Raises:
        ValueError: it is not JSON.
    """
    return _DECODE(content.decode())


def _whole_number(text: str) -> int | float:
    number = int(text)
    return number if abs(number) <= _LARGEST_INTEGER else float(text)


_DECODE: Final = json.JSONDecoder(parse_int=_whole_number).decode


def refuse_non_finite(value: Any, path: str = "$") -> None:
    """Raises InvalidValueError, naming the path, where a number is NaN or infinite."""
    if isinstance(value, float) and not math.isfinite(value):
        raise InvalidValueError(
            f"{path} is {value}, which is no measurement", hint="record it as absent, with a reason"
        )
    if isinstance(value, dict):
        for key, item in value.items():
            refuse_non_finite(item, f"{path}.{key}")
    elif isinstance(value, (list, tuple)):
        for index, item in enumerate(value):
            refuse_non_finite(item, f"{path}[{index}]")


def digest_bytes(content: bytes) -> str:
    """`sha256:<64 hex>` of the bytes."""
    return _PREFIX + hashlib.sha256(content).hexdigest()


def digest_json(value: Any) -> str:
    """`sha256:<64 hex>` of the canonical JSON of `value`."""
    return digest_bytes(canonical_json(value))


def digest_file(path: Path) -> str:
    """`sha256:<64 hex>` of a file's bytes, read in pieces."""
    state = hashlib.sha256()
    with path.open("rb") as file:
        while chunk := file.read(_CHUNK_BYTES):
            state.update(chunk)
    return _PREFIX + state.hexdigest()


def is_digest(text: str) -> bool:
    """Whether `text` has the form `sha256:<64 hex>`."""
    body = text.removeprefix(_PREFIX)
    return text.startswith(_PREFIX) and len(body) == 64 and set(body) <= set("0123456789abcdef")


def short(digest: str) -> str:
    """The first 12 hex digits, for a screen."""
    return digest.removeprefix(_PREFIX)[:12]
