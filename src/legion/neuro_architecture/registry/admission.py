"""What the registry lets in: bounded plain JSON, plain names, and files that run no code when loaded."""

from __future__ import annotations

import codecs
import re
import unicodedata
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, BinaryIO, Final
from urllib.parse import unquote

from safetensors import SafetensorError, safe_open

from legion.foundation.canonical import canonical_json, parse_canonical
from legion.foundation.errors import IntegrityError, InvalidValueError
from legion.foundation.labels import plain_label
from legion.neuro_architecture.registry.pickles import code_in
from legion.neuro_architecture.registry.plain_json import MAX_DEPTH, check_extent, parse_plain_json
from legion.neuro_architecture.registry.regular import open_regular
from legion.neuro_architecture.registry.tensors import TensorInspection, inspect_tensors

__all__ = [
    "TensorInspection",
    "admit_alias",
    "admit_file",
    "admit_file_name",
    "admit_json",
    "admit_tags",
    "admit_version",
    "inspect_tensors",
]

MAX_RECORD_BYTES: Final = 1 << 20
MAX_JSON_FILE_BYTES: Final = 64 << 20
_MAX_FILE_DEPTH: Final = 64
_FILE_NAME: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}")
_ALIAS: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")
_HASH: Final = re.compile(r"[0-9a-f]{12,64}")
_WORD: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9 ._-]*(?:[/:][A-Za-z0-9][A-Za-z0-9 ._-]*)*")  # climbs nowhere
_TEXT_SUFFIXES: Final = (".txt", ".md", ".toml", ".csv")
_JSON_SUFFIX: Final = ".json"
_LINES_SUFFIX: Final = ".jsonl"
_TENSOR_SUFFIX: Final = ".safetensors"
_CHUNK_BYTES: Final = 1 << 20


def admit_json(value: Mapping[str, Any], what: str) -> dict[str, Any]:
    """A detached plain copy of `value`, as RFC 8785 writes it.

    Raises:
        InvalidValueError: no object, NaN or infinity, not JSON, deeper than 32 levels or larger than 1 MiB.
    """
    if not isinstance(value, Mapping):
        raise InvalidValueError(f"{what} is no mapping but {type(value).__name__}")
    try:
        check_extent(value, what, max_depth=MAX_DEPTH, max_bytes=MAX_RECORD_BYTES)
        content = canonical_json(dict(value))
    except InvalidValueError as error:
        raise InvalidValueError(f"{what}: {error.message}", cause=error.cause, hint=error.hint) from error
    except UnicodeEncodeError as error:
        raise InvalidValueError(f"{what} holds half of a character", cause=str(error)) from error
    except ValueError as error:
        raise InvalidValueError(str(error), hint=_LONG_EVIDENCE) from error
    if len(content) > MAX_RECORD_BYTES:
        raise InvalidValueError(
            f"{what} has {len(content)} bytes; a record holds at most {MAX_RECORD_BYTES}", hint=_LONG_EVIDENCE
        )
    plain: dict[str, Any] = parse_canonical(content)
    return plain


_LONG_EVIDENCE: Final = "keep long evidence in a file and register it under files="


def admit_tags(tags: Iterable[str]) -> tuple[str, ...]:
    """Sorted unique tags.

    Raises:
        InvalidValueError: a bare string, or a tag that is no plain label or climbs like a path.
    """
    if isinstance(tags, str):
        raise InvalidValueError(f"tags is the one string {tags!r}", hint=f"write tags=[{tags!r}]")
    return tuple(sorted({_climbless(plain_label(tag, "tag"), "tag") for tag in tags}))


def admit_version(version: str) -> str:
    """`version`, when it is a plain label that does not climb like a path.

    Raises:
        InvalidValueError: it is not.
    """
    return _climbless(plain_label(version, "version"), "version")


def _climbless(label: str, what: str) -> str:
    r"""Labels become lines of files, parts of URLs, and names in whatever somebody builds on them.

    `task/summarization` passes; `../x`, `/etc/passwd`, `a//b`, `C:\x` and what decodes to such a thing do not.
    """
    if _WORD.fullmatch(label):
        return label
    for reading in (label, unicodedata.normalize("NFKC", unquote(unquote(label)))):
        parts = re.split("[/:]", reading)
        is_path = "/" in reading and any(not part.strip(" ") for part in parts)
        if is_path or "\\" in reading or reading.startswith("~") or any(part.strip(" ") in _CLIMBS for part in parts):
            raise InvalidValueError(f"{what} {label!r} climbs like a path", hint="use a plain word")
        if any(unicodedata.category(character)[0] == "C" for character in reading):
            raise InvalidValueError(f"{what} {label!r} hides a character that does not print", hint="use a plain word")
    return label


_CLIMBS: Final = frozenset({".", ".."})


def admit_alias(name: str) -> str:
    """`name`, when it is a plain word that cannot be taken for a path, a hash or a digest.

    Raises:
        InvalidValueError: it is not 1 to 64 of letters, digits, dots, dashes and underscores, or reads like a hash.
    """
    if not isinstance(name, str) or not _ALIAS.fullmatch(name):
        raise InvalidValueError(
            f"alias {str(name)[:40]!r} is no plain word", hint="1 to 64 letters, digits, dots, dashes and underscores"
        )
    if _HASH.fullmatch(name) or name.startswith("sha256"):
        raise InvalidValueError(f"alias {name!r} reads like a hash", hint="use a word, like champion")
    return name


def admit_file_name(name: str) -> str:
    """`name`, when it is a plain file name of a kind that the registry keeps.

    Raises:
        InvalidValueError: a path, an odd character, or a kind that may run code when loaded (pickle).
    """
    if not isinstance(name, str) or not _FILE_NAME.fullmatch(name):
        raise InvalidValueError(f"{str(name)[:60]!r} is no plain file name")
    kinds = (_TENSOR_SUFFIX, _JSON_SUFFIX, _LINES_SUFFIX, *_TEXT_SUFFIXES)
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
        InvalidValueError: a link, FIFO or device; content of another kind (a pickle or an archive under a safe name,
            broken or ambiguous JSON, a torn or cunning tensor file); or weights that are NaN or infinite.
    """
    try:
        with open_regular(path) as (file, size):
            code = code_in(file)
            if code is not None:
                raise ValueError(code)
            file.seek(0)
            _read(name, path, file, size)
    except IntegrityError as error:
        raise InvalidValueError(f"file {name!r}: {error.message}", hint=error.hint) from error
    except (SafetensorError, ValueError, RecursionError) as error:
        raise InvalidValueError(
            f"file {name!r} does not hold what its name says", cause=str(error), hint="pickles are refused"
        ) from error


def _read(name: str, path: Path, file: BinaryIO, size: int) -> None:
    if name.endswith(_TENSOR_SUFFIX):
        _read_tensors(name, path)
    elif name.endswith(_JSON_SUFFIX):
        if size > MAX_JSON_FILE_BYTES:
            raise ValueError(f"it has {size} bytes; a JSON file has at most {MAX_JSON_FILE_BYTES}")
        parse_plain_json(file.read(), "it", max_depth=_MAX_FILE_DEPTH)
    elif name.endswith(_LINES_SUFFIX):
        _read_lines(file)
    else:
        _read_text(file)


def _read_tensors(name: str, path: Path) -> None:
    try:
        inspection = inspect_tensors(path)
    except InvalidValueError as error:
        raise ValueError(error.cause or error.message) from error
    with safe_open(path, framework="numpy") as tensors:  # what will load it agrees
        tensors.keys()
    broken = [tensor for tensor in inspection.tensors if tensor.num_non_finite]
    if broken:
        shown = ", ".join(f"{tensor.name} ({tensor.num_non_finite} in {list(tensor.shape)})" for tensor in broken[:5])
        more = f" and {len(broken) - 5} more" if len(broken) > 5 else ""
        raise InvalidValueError(
            f"file {name!r} holds NaN or infinity", cause=f"{shown}{more}", hint="such weights answer nothing"
        )


def _read_lines(file: BinaryIO) -> None:
    number = 0
    while line := file.readline(MAX_JSON_FILE_BYTES + 1):
        number += 1
        if len(line) > MAX_JSON_FILE_BYTES:
            raise ValueError(f"line {number} has more than {MAX_JSON_FILE_BYTES} bytes")
        if line.strip():
            parse_plain_json(line, f"line {number}", max_depth=_MAX_FILE_DEPTH)


def _read_text(file: BinaryIO) -> None:
    decoder = codecs.getincrementaldecoder("utf-8")()
    while chunk := file.read(_CHUNK_BYTES):
        if "\0" in decoder.decode(chunk):
            raise ValueError("it holds a zero byte")
    decoder.decode(b"", final=True)
