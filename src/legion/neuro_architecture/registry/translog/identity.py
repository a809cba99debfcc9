"""Who a log is: its name in `origin`, its signer in `key.pub`, against what this machine remembers of the folder."""

from __future__ import annotations

import logging
import secrets
from dataclasses import dataclass
from pathlib import Path
from typing import Final, final

from legion.foundation.errors import IntegrityError, InvalidValueError, WorldError
from legion.foundation.files import write_text
from legion.neuro_architecture.registry.failpoints import failpoint
from legion.neuro_architecture.registry.translog.memory import LogMemory, PlaceMemory
from legion.neuro_architecture.registry.translog.notes import Signer, VerifierKey, check_name

__all__ = ["Identity", "create_identity", "read_identity", "read_key", "read_origin"]

log = logging.getLogger(__name__)

_PREFIX: Final = "legion.registry/"
_MAX_BYTES: Final = 4096


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class Identity:
    """A log's name, its key, and what this machine remembers of it."""

    origin: str
    key: VerifierKey
    memory: LogMemory


def read_origin(folder: Path) -> str | None:
    """The name in `origin`, or None where there is no such file.

    Raises:
        IntegrityError: it holds no name.
        WorldError: it cannot be read.
    """
    line = _read_line(folder / "origin")
    try:
        return line if line is None else check_name(line)
    except InvalidValueError as error:
        raise IntegrityError(f"{folder / 'origin'} is altered", cause=error.message) from error


def read_key(folder: Path) -> VerifierKey | None:
    """The key in `key.pub`, or None where there is no such file.

    Raises:
        IntegrityError: it holds no key.
        WorldError: it cannot be read.
    """
    line = _read_line(folder / "key.pub")
    try:
        return line if line is None else VerifierKey.parse(line)
    except InvalidValueError as error:
        raise IntegrityError(f"{folder / 'key.pub'} is altered", cause=f"{error.message}: {error.cause}") from error


def _read_line(path: Path) -> str | None:
    try:
        with path.open("rb") as file:
            content = file.read(_MAX_BYTES)
        text = content.decode()
    except FileNotFoundError:
        return None
    except UnicodeDecodeError as error:
        raise IntegrityError(f"{path} is altered", cause=str(error)) from error
    except OSError as error:
        raise WorldError(f"cannot read {path}", cause=str(error)) from error
    if not text.endswith("\n") or text.count("\n") != 1:
        raise IntegrityError(f"{path} is altered", cause="it must be one line with a newline")
    return text[:-1]


def read_identity(folder: Path, keys: Path, *, has_segments: bool) -> Identity | None:
    """The log in a folder, trusted on first sight and compared ever after; None where there is none.

    Raises:
        IntegrityError: it is not the log that was seen here, or not signed by its key, or parts are missing.
    """
    place = PlaceMemory(keys, folder)
    remembered = place.origin()
    origin = read_origin(folder)
    if origin is None:
        _refuse_missing(folder, place, remembered, has_segments=has_segments)
        return None
    if remembered not in {None, origin}:
        raise IntegrityError(
            f"another log stands in {folder}",
            cause=f"remembered is {remembered}, there is {origin}",
            hint=f"if you replaced it on purpose, delete {place.path}",
        )
    key = read_key(folder)
    memory = LogMemory(keys, origin)
    if key is None:
        if has_segments or memory.pinned():
            raise IntegrityError(f"{folder / 'key.pub'} is missing", hint="legion registry verify")
        return None
    _compare_key(folder, key, memory)
    return Identity(origin=origin, key=key, memory=memory)


def _refuse_missing(folder: Path, place: PlaceMemory, remembered: str | None, *, has_segments: bool) -> None:
    if remembered is not None:
        seen = LogMemory(place.path.parent, remembered).seen()
        if not folder.is_dir() or not any(folder.iterdir()):
            # Whoever deletes a workspace and begins anew means it; `check` tells of it until then.
            log.warning(
                "%s held the log %s with %d entries; there is nothing", folder, remembered, seen.size if seen else 0
            )
            return
        raise IntegrityError(
            f"the log in {folder} is gone",
            cause=f"remembered is {remembered} with {seen.size if seen else 'some'} entries, there is none",
            hint=f"if you deleted it on purpose, delete {place.path}",
        )
    if has_segments:
        raise IntegrityError(
            f"{folder / 'origin'} is missing", cause="there are segments", hint="legion registry verify"
        )


def _compare_key(folder: Path, key: VerifierKey, memory: LogMemory) -> None:
    if key.name != memory.origin:
        raise IntegrityError(
            f"{folder / 'origin'} and key.pub do not belong together",
            cause=f"the origin is {memory.origin}, the key is of {key.name}",
        )
    pinned = memory.pinned()
    if pinned is None:
        signer = memory.signer()
        pinned = signer.verifier if signer else None
    if pinned not in {None, key}:
        raise IntegrityError(
            f"the log in {folder} is not signed by the pinned key",
            cause=f"pinned is {pinned}, key.pub is {key}",
            hint="legion registry verify",
        )


def create_identity(folder: Path, keys: Path) -> tuple[Identity, Signer]:
    """A name and a key for the folder; what a killed creator left is taken up. Every step is durable.

    Raises:
        WorldError: the disk refused.
    """
    origin = read_origin(folder)
    name = origin or _PREFIX + secrets.token_hex(8)
    memory = LogMemory(keys, name)
    signer = memory.signer() or memory.create_signer()
    try:
        if origin is None:
            failpoint("log.before-origin")
            write_text(folder / "origin", name + "\n")
            failpoint("log.after-origin")
        write_text(folder / "key.pub", f"{signer.verifier}\n")
        failpoint("log.after-key-pub")
    except OSError as error:
        raise WorldError(f"cannot make a log in {folder}", cause=str(error)) from error
    return Identity(origin=name, key=signer.verifier, memory=memory), signer
