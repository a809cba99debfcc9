"""Blobs in whatever fsspec reaches: `<base>/sha256/<2 hex>/<64 hex>`.

```
sha256/<2 hex>/<64 hex>   the blobs
tmp/<32 hex>.tmp          uploads at work, where the place moves files without copying them
claims/<64 hex>           "do not sweep this": written by who finds an old blob there and will refer to it
```

An upload counts once its size and its digest were read back. Object stores show an upload whole or not at all, so
there it goes straight under its name; file systems get it under `tmp/` first.
"""

from __future__ import annotations

import contextlib
import logging
import re
import time
import uuid
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, BinaryIO, Final, final

from fsspec.asyn import AsyncFileSystem  # type: ignore[import-untyped]
from fsspec.implementations.dirfs import DirFileSystem  # type: ignore[import-untyped]
from fsspec.spec import AbstractFileSystem  # type: ignore[import-untyped]

from legion.foundation.errors import IntegrityError, LegionError, WorldError
from legion.neuro_architecture.registry.blob_backends.address import BlobAddress
from legion.neuro_architecture.registry.blob_backends.port import ByteSource, StoredBlob
from legion.neuro_architecture.registry.blob_backends.reader import hash_stream

__all__ = ["RemoteBackend"]

log = logging.getLogger(__name__)

_BLOB: Final = re.compile(r"(?:.*/)?sha256/([0-9a-f]{2})/(\1[0-9a-f]{62})", re.DOTALL)
_CLAIM: Final = re.compile(r"(?:.*/)?claims/([0-9a-f]{64})", re.DOTALL)
_UPLOAD: Final = re.compile(r"(?:.*/)?tmp/([0-9a-f]{32})\.tmp", re.DOTALL)
_TIMES: Final = ("mtime", "LastModified", "last_modified", "modified", "updated", "created")
_CLAIM_AFTER_S: Final = 3600.0


@final
class RemoteBackend:
    """Blobs over one fsspec file system.

    Args:
        file_system: Any of fsspec's.
        base: Folder inside it.
        address: What it is called, and what must not be said of it.
    """

    def __init__(self, file_system: AbstractFileSystem, base: str, address: BlobAddress | None = None) -> None:
        self._fs = file_system
        self._base = base.rstrip("/")
        self._address = address or _address_of(file_system, base)
        self._has_moves = _has_cheap_moves(file_system)

    @property
    def address(self) -> str:
        return self._address.shown

    def place(self, name: str) -> str:
        return f"{self.address.rstrip('/')}/sha256/{name[:2]}/{name}"

    def _path(self, *parts: str) -> str:
        return "/".join([*([self._base] if self._base else []), *parts])

    def _key(self, name: str) -> str:
        return self._path("sha256", name[:2], name)

    def keep(self, scratch: Path, name: str) -> None:
        try:
            self._keep(scratch, name)
        except FileNotFoundError as error:
            raise WorldError(f"blob {self.place(name)} went while it was being kept", cause=str(error)) from error

    def _keep(self, scratch: Path, name: str) -> None:
        with self._driver(f"keep blob {self.place(name)}"):
            size = scratch.stat().st_size
            found = self._size(self._key(name))
            if found == size and self._is_claimed(name, size):
                return
            if found not in {None, size}:
                log.warning("blob %s has %s bytes, not %d, and is written anew", self.place(name), found, size)
            if self._has_moves:
                self._upload_and_move(scratch, name, size)
            else:
                self._upload(scratch, self._key(name), name, size)

    def _is_claimed(self, name: str, size: int) -> bool:
        """Asks a sweep to leave the blob alone, and whether it still is there."""
        modified = self.modified_s(name)
        if modified is not None and time.time() - modified < _CLAIM_AFTER_S:
            return True
        claim = self._path("claims", name)
        self._in_its_folder(claim, lambda: self._fs.pipe_file(claim, b"claimed\n"))
        return self._size(self._key(name)) == size

    def _upload_and_move(self, scratch: Path, name: str, size: int) -> None:
        temporary, key = self._path("tmp", f"{uuid.uuid4().hex}.tmp"), self._key(name)
        try:
            self._upload(scratch, temporary, name, size)
            if self._size(key) is not None:
                self._remove(key)  # the wrong one: some places do not move over what is there
            try:
                self._in_its_folder(key, lambda: self._fs.mv(temporary, key))
            except Exception:
                if self._size(key) != size:  # else another writer was first
                    raise
        finally:
            with contextlib.suppress(Exception):  # the sweep takes what is left
                if self._size(temporary) is not None:
                    self._remove(temporary)
        if self._size(key) != size:
            raise WorldError(f"blob {self.place(name)} is not there after its move")

    def _upload(self, scratch: Path, key: str, name: str, size: int) -> None:
        try:
            self._in_its_folder(key, lambda: self._fs.put_file(str(scratch), key))
        except Exception:
            with contextlib.suppress(Exception):  # the upload's own error is the one to tell
                self._remove_wrong(key, name, size)
            raise
        problem = self._remove_wrong(key, name, size)
        if problem:
            raise WorldError(
                f"the upload of blob {self.place(name)} did not arrive whole", cause=problem, hint="try again"
            )

    def _remove_wrong(self, key: str, name: str, size: int) -> str | None:
        """Reads back what was uploaded; what is wrong with it, once it is gone again."""
        found = self._size(key)
        if found is None:
            return "it is missing"
        with self._fs.open(key, "rb") as file:
            actual = hash_stream(file)
        if found == size and actual == name:
            return None
        self._remove(key)
        return f"there were {found} bytes sha256:{actual}, not {size} bytes"

    def _in_its_folder(self, key: str, write: Callable[[], object]) -> None:
        """`write`, after making the folder where the place has folders and it is not there."""
        try:
            write()
        except FileNotFoundError:
            self._fs.makedirs(key.rpartition("/")[0], exist_ok=True)
            write()

    def _size(self, key: str) -> int | None:
        self._fs.invalidate_cache()
        try:
            found = self._fs.info(key)
        except FileNotFoundError:
            return None
        if found.get("type") != "file" or found.get("size") is None:
            raise IntegrityError(f"{self.address} holds something at {key} that is no file of a known size")
        return int(found["size"])

    def _remove(self, key: str) -> None:
        self._fs.rm_file(key)
        self._fs.invalidate_cache()

    @contextlib.contextmanager
    def reading(self, name: str) -> Iterator[tuple[ByteSource, int]]:
        failure = f"read blob {self.place(name)}"
        size = self.size_bytes(name)
        with self._driver(failure):
            source = self._fs.open(self._key(name), "rb")
        with contextlib.closing(source):
            yield _Source(source, lambda: self._driver(failure)), size

    def size_bytes(self, name: str) -> int:
        with self._driver(f"look at blob {self.place(name)}"):
            size = self._size(self._key(name))
        if size is None:
            raise FileNotFoundError(self.place(name))
        return size

    def modified_s(self, name: str) -> float | None:
        with self._driver(f"look at blob {self.place(name)}"):
            self._fs.invalidate_cache()
            written = self._time(self._key(name), self._fs.info(self._key(name)))
            claim = self._path("claims", name)
            if self._size(claim) is None or written is None:
                return written
            return max(written, self._time(claim, self._fs.info(claim)) or time.time())

    def _time(self, key: str, info: Mapping[str, Any]) -> float | None:
        known = (_seconds(info[word]) for word in _TIMES if info.get(word) is not None)
        found = next((seconds for seconds in known if seconds is not None), None)
        if found is None:
            with contextlib.suppress(NotImplementedError, AttributeError):
                return _seconds(self._fs.modified(key))
        return found

    def remove(self, name: str) -> None:
        with self._driver(f"remove blob {self.place(name)}"):
            self._remove(self._key(name))
            if self._size(self._path("claims", name)) is not None:
                self._remove(self._path("claims", name))

    def listing(self) -> Iterator[StoredBlob]:
        with self._driver(f"list {self.address}"):
            claims = {match[1]: self._time(key, info) for key, info, match in self._find("claims", _CLAIM)}
            blobs = sorted((match[2], key, info) for key, info, match in self._find("sha256", _BLOB))
            times = {name: self._time(key, info) for name, key, info in blobs}
        for name, _, info in blobs:
            written = times[name]
            claimed = claims.get(name, written)
            modified = None if written is None or claimed is None else max(written, claimed)
            yield StoredBlob(name=name, size_bytes=int(info["size"]), modified_s=modified)

    def _find(self, folder: str, pattern: re.Pattern[str]) -> Iterator[tuple[str, dict[str, Any], re.Match[str]]]:
        self._fs.invalidate_cache()
        try:
            found = self._fs.find(self._path(folder), detail=True)
        except FileNotFoundError:
            return
        for key, info in found.items():
            match = pattern.fullmatch(key)
            if match and info.get("type") == "file" and info.get("size") is not None:
                yield key, info, match

    def sweep_scratch(self, before_s: float) -> None:
        with self._driver(f"sweep {self.address}"):
            blobs = {match[2] for _, _, match in self._find("sha256", _BLOB)}
            stale = [
                key
                for key, info, match in [*self._find("claims", _CLAIM), *self._find("tmp", _UPLOAD)]
                if (match.re is _CLAIM and match[1] not in blobs) or self._is_older(key, info, before_s)
            ]
            for key in stale:
                with contextlib.suppress(FileNotFoundError):
                    self._remove(key)

    def _is_older(self, key: str, info: Mapping[str, Any], moment_s: float) -> bool:
        modified = self._time(key, info)
        return modified is not None and modified < moment_s

    @contextlib.contextmanager
    def _driver(self, attempt: str) -> Iterator[None]:
        """Turns the driver's errors into ours; each driver has errors of its own."""
        try:
            yield
        except (LegionError, FileNotFoundError):
            raise
        except Exception as error:  # noqa: BLE001 - translated; see above
            told = f"{type(error).__name__}: {error}"
            cause = self._address.scrub(told)
            source = error if cause == told else None  # a traceback would show what the cause must not
            raise WorldError(f"cannot {attempt}", cause=cause, hint="is the place reachable and writable?") from source


@final
class _Source:
    """A remote file whose errors are ours."""

    def __init__(self, file: BinaryIO, driver: Callable[[], AbstractContextManager[None]]) -> None:
        self._file = file
        self._driver = driver

    def read(self, size: int = -1, /) -> bytes:
        with self._driver():
            return self._file.read(size)


def _address_of(file_system: AbstractFileSystem, base: str) -> BlobAddress:
    protocol = file_system.protocol if isinstance(file_system.protocol, str) else file_system.protocol[0]
    url = f"{protocol}://{base}"
    return BlobAddress(folder=None, protocol=protocol, shown=url, url=url, secrets=frozenset())


def _has_cheap_moves(file_system: AbstractFileSystem) -> bool:
    """Whether a move is a renaming: object stores copy and delete, and need none."""
    while isinstance(file_system, DirFileSystem):
        file_system = file_system.fs
    return not isinstance(file_system, AsyncFileSystem) and type(file_system).mv is not AbstractFileSystem.mv


def _seconds(moment: object) -> float | None:
    """Seconds since 1970 of what a driver says about a time; None where that cannot be read."""
    if isinstance(moment, datetime):
        return (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp()
    if isinstance(moment, str):
        try:
            return _seconds(datetime.fromisoformat(moment))
        except ValueError:
            return None
    return float(moment) if isinstance(moment, (int, float)) else None
