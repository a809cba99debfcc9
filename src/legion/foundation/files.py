"""Files that survive: written whole or not at all, read under a size, kept inside their folder."""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from legion.foundation.canonical import refuse_non_finite
from legion.foundation.errors import InvalidValueError, UsageError, WorldError

__all__ = [
    "confine",
    "exclusive_lock",
    "fsync_folder",
    "publish_folder",
    "read_json",
    "write_bytes",
    "write_json",
    "write_text",
]


def write_bytes(path: Path, content: bytes) -> None:
    """Writes beside `path`, syncs, renames over it and syncs the folder: a reader sees the old bytes or the new.

    Raises:
        WorldError: the disk refused.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        descriptor, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.", suffix=".tmp")
        temporary = Path(name)
        try:
            with os.fdopen(descriptor, "wb") as file:
                os.fchmod(file.fileno(), 0o644)
                file.write(content)
                file.flush()
                os.fsync(file.fileno())
            temporary.replace(path)
        except BaseException:
            temporary.unlink(missing_ok=True)
            raise
        fsync_folder(path.parent)
    except OSError as error:
        raise WorldError(
            f"cannot write {path}", cause=str(error), hint="check the disk's free space and rights"
        ) from error


def write_text(path: Path, text: str) -> None:
    """`write_bytes` of UTF-8 text."""
    write_bytes(path, text.encode())


def write_json(path: Path, value: Any) -> None:
    """Writes indented JSON with a final newline; NaN and infinity are refused.

    Raises:
        InvalidValueError: a number is not finite.
        WorldError: the disk refused.
    """
    refuse_non_finite(value)
    write_text(path, json.dumps(value, indent=2, ensure_ascii=False, allow_nan=False) + "\n")


def read_json(path: Path) -> Any:
    """The JSON value in a file.

    Raises:
        UsageError: the file is missing or is not JSON.
    """
    try:
        return json.loads(path.read_text(encoding="utf-8"), parse_constant=_refuse_constant)
    except FileNotFoundError as error:
        raise UsageError(f"no file {path}") from error
    except (OSError, ValueError) as error:
        raise UsageError(f"cannot read {path} as JSON", cause=str(error)) from error


def _refuse_constant(name: str) -> float:
    raise ValueError(f"{name} is no JSON number")


def publish_folder(target: Path, fill: Callable[[Path], None]) -> None:
    """Calls `fill` with a fresh folder beside `target` and renames it into place once it is complete and synced.

    An existing `target` is replaced; a reader sees the old folder or the new one, or for an instant none.
    """
    target.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=target.parent, prefix=f".{target.name}.") as scratch:
        fresh = Path(scratch) / "fresh"
        fresh.mkdir()
        fill(fresh)
        for path in sorted(fresh.rglob("*")):
            if path.is_file():
                _fsync(path)
        fsync_folder(fresh)
        if target.exists():
            target.rename(Path(scratch) / "old")
        fresh.rename(target)
        fsync_folder(target.parent)


def _fsync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def fsync_folder(folder: Path) -> None:
    """Makes renames in `folder` durable."""
    _fsync(folder)


def confine(root: Path, name: str) -> Path:
    """`root / name`, when that stays inside `root`.

    Raises:
        InvalidValueError: the name climbs out, is absolute or is empty.
    """
    if name and "\0" not in name:
        candidate, folder = (root / name).resolve(), root.resolve()
        if candidate.is_relative_to(folder) and candidate != folder:
            return candidate
    raise InvalidValueError(f"{name!r} is not a name inside {root}")


@contextlib.contextmanager
def exclusive_lock(path: Path, *, refusal: str | None = None) -> Iterator[None]:
    """Holds an advisory lock on `path` (created when missing); it is freed by exit or death of the process.

    Waits for another holder; with `refusal`, does not wait.

    Raises:
        WorldError: somebody else holds the lock; the message is `refusal`.
    """
    try:
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o644)
    except FileNotFoundError:
        path.parent.mkdir(parents=True, exist_ok=True)
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o644)
    try:
        _lock(descriptor, path, refusal)
        yield
    finally:
        os.close(descriptor)


def _lock(descriptor: int, path: Path, refusal: str | None) -> None:
    if refusal is None:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        return
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as error:
        raise WorldError(refusal, hint=f"wait until it ends; it holds {path}") from error
