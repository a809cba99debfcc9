"""Every place that blobs may lie in, with what a test does to it behind the store's back."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from fsspec.implementations.dirfs import DirFileSystem
from fsspec.implementations.local import LocalFileSystem
from fsspec.implementations.memory import MemoryFileSystem

from legion.foundation.canonical import digest_bytes
from legion.neuro_architecture.registry.blob_backends import RemoteBackend
from legion.neuro_architecture.registry.blobs import BlobStore
from legion.neuro_architecture.registry.staging import StagingFolder


class OwnMemory(MemoryFileSystem):
    """fsspec's memory, one for each object instead of one for the process."""

    cachable = False

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        self.store: dict[str, Any] = {}
        self.pseudo_dirs = [""]


@dataclass
class Place:
    """A store and the file system below it."""

    store: BlobStore
    fs: Any
    base: str
    folder: Path

    def key(self, digest: str) -> str:
        name = digest.removeprefix("sha256:")
        return "/".join([*([self.base] if self.base else []), "sha256", name[:2], name])

    def overwrite(self, digest: str, content: bytes) -> None:
        key = self.key(digest)
        self.fs.makedirs(key.rpartition("/")[0], exist_ok=True)
        if self.fs.exists(key):
            self.fs.rm_file(key)
        self.fs.pipe_file(key, content)

    def age(self, key: str, seconds: float) -> None:
        """Makes the file older."""
        if isinstance(self.fs, MemoryFileSystem):
            moment = datetime.fromtimestamp(time.time() - seconds, UTC)
            file = self.fs.store[self.fs._strip_protocol(key)]
            file.created = file.modified = moment
        else:
            path = Path(self.fs._join(key) if isinstance(self.fs, DirFileSystem) else key)
            os.utime(path, (time.time() - seconds,) * 2)

    def found(self) -> list[str]:
        found = self.fs.find(self.base)
        return sorted(key.removeprefix(self.base).lstrip("/") for key in found)

    def put(self, content: bytes, name: str = "note.txt") -> str:
        source = self.folder / "source"
        source.write_bytes(content)
        digest = self.store.put(name, source)
        assert digest == digest_bytes(content)
        return digest


def _staging(folder: Path) -> StagingFolder:
    return StagingFolder(folder / "registry")


def own_folder(folder: Path) -> Place:
    root = folder / "registry"
    return Place(BlobStore(root, StagingFolder(root)), LocalFileSystem(), str(root / "blobs"), folder)


def other_folder(folder: Path) -> Place:
    elsewhere = folder / "elsewhere"
    return Place(BlobStore(folder, _staging(folder), str(elsewhere)), LocalFileSystem(), str(elsewhere), folder)


def file_url(folder: Path) -> Place:
    elsewhere = folder / "else where"
    url = f"file://{folder}/else%20where"
    return Place(BlobStore(folder, _staging(folder), url), LocalFileSystem(), str(elsewhere), folder)


def over(fs: Any, base: str, folder: Path) -> Place:
    return Place(BlobStore.over(RemoteBackend(fs, base), _staging(folder)), fs, base, folder)


def memory(folder: Path) -> Place:
    return over(OwnMemory(), "/bucket/blobs", folder)


def fsspec_folder(folder: Path) -> Place:
    return over(LocalFileSystem(), str(folder / "remote"), folder)


def fsspec_dir(folder: Path) -> Place:
    return over(DirFileSystem(path=str(folder / "remote"), fs=LocalFileSystem()), "", folder)


PLACES: dict[str, Callable[[Path], Place]] = {
    "own folder": own_folder,
    "other folder": other_folder,
    "file url": file_url,
    "memory": memory,
    "fsspec folder": fsspec_folder,
    "fsspec dir": fsspec_dir,
}
