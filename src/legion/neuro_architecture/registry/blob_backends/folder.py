"""Blobs in a folder of this machine: complete and synced before they get their name, never written again."""

from __future__ import annotations

import contextlib
import logging
import os
import re
import stat
from collections.abc import Iterator
from pathlib import Path
from typing import Final, final

from legion.foundation.errors import IntegrityError, WorldError
from legion.foundation.files import fsync_folder
from legion.neuro_architecture.registry.blob_backends.port import ByteSource, StoredBlob
from legion.neuro_architecture.registry.blob_backends.reader import hash_stream
from legion.neuro_architecture.registry.regular import open_regular
from legion.neuro_architecture.registry.staging import StagingFolder

__all__ = ["FolderBackend"]

log = logging.getLogger(__name__)

_NAME: Final = re.compile(r"[0-9a-f]{64}")
_RACES: Final = 8


@final
class FolderBackend:
    """`<folder>/<2 hex>/<64 hex>`, read-only files.

    Args:
        folder: Made by the first blob; on the disk of `staging`, which has hard links.
        staging: Where a blob is complete before it gets its name.
        is_sweeping: Whether `staging` is this store's own, so that it sweeps it itself.
    """

    def __init__(self, folder: Path, staging: StagingFolder, *, is_sweeping: bool) -> None:
        self.folder = folder
        self._staging = staging
        self._is_sweeping = is_sweeping

    @property
    def address(self) -> str:
        return str(self.folder)

    def path(self, name: str) -> Path:
        """Where the blob is kept."""
        return self.folder / name[:2] / name

    def place(self, name: str) -> str:
        return str(self.path(name))

    def keep(self, scratch: Path, name: str) -> None:
        with self._disk(f"cannot keep blob {self.place(name)}"):
            if not any(self._try_to_keep(scratch, name) for _ in range(_RACES)):
                raise WorldError(f"blob {self.place(name)} comes and goes", hint="try again when the sweep is over")

    def _try_to_keep(self, scratch: Path, name: str) -> bool:
        """Whether it is kept; it is not where another writer or a sweep came in between."""
        path = self.path(name)
        try:
            if not self._is_sound(path, name):
                log.warning("blob %s was altered and is written anew", path)
                self._staging.publish(scratch, path, is_replacing=True)
                return True
            with contextlib.suppress(PermissionError):  # another account's file: its time stays
                os.utime(path)
            fsync_folder(path.parent)  # a killed writer may have named it without syncing the name
        except FileNotFoundError:
            try:
                self._staging.publish(scratch, path)
            except IntegrityError:  # somebody took the name since
                return False
        return True

    def _is_sound(self, path: Path, name: str) -> bool:
        try:
            with open_regular(path) as (file, _):
                return hash_stream(file) == name
        except IntegrityError:
            return False

    @contextlib.contextmanager
    def reading(self, name: str) -> Iterator[tuple[ByteSource, int]]:
        with self._disk(f"cannot read blob {self.place(name)}"), open_regular(self.path(name)) as opened:
            yield opened

    def size_bytes(self, name: str) -> int:
        return self._stat(name).st_size

    def modified_s(self, name: str) -> float:
        return self._stat(name).st_mtime

    def _stat(self, name: str) -> os.stat_result:
        with self._disk(f"cannot look at blob {self.place(name)}"):
            found = self.path(name).lstat()
        if not stat.S_ISREG(found.st_mode):
            raise IntegrityError(f"{self.place(name)} is no regular file")
        return found

    def remove(self, name: str) -> None:
        path = self.path(name)
        with self._disk(f"cannot remove blob {path}"):
            path.unlink()
            fsync_folder(path.parent)

    def listing(self) -> Iterator[StoredBlob]:
        with self._disk(f"cannot list {self.folder}"):
            for path in sorted(self.folder.glob("??/*")):
                found = path.lstat()
                if _NAME.fullmatch(path.name) and path.parent.name == path.name[:2] and stat.S_ISREG(found.st_mode):
                    yield StoredBlob(name=path.name, size_bytes=found.st_size, modified_s=found.st_mtime)

    def sweep_scratch(self, before_s: float) -> None:
        with self._disk(f"cannot sweep {self._staging.folder}"):
            for path in self._staging.leftovers() if self._is_sweeping else ():
                with contextlib.suppress(FileNotFoundError):
                    if path.lstat().st_mtime < before_s:
                        path.unlink()

    @contextlib.contextmanager
    def _disk(self, failure: str) -> Iterator[None]:
        try:
            yield
        except FileNotFoundError:
            raise
        except OSError as error:
            raise WorldError(failure, cause=str(error), hint="check the disk's free space and rights") from error
