"""Files by digest under `blobs/sha256/<2 hex>/<64 hex>`: written once, read only under their digest."""

from __future__ import annotations

import contextlib
import hashlib
import logging
import os
import stat
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO, Final, final

from legion.foundation.canonical import digest_file
from legion.foundation.errors import IntegrityError, InvalidValueError, WorldError
from legion.foundation.files import fsync_folder
from legion.neuro_architecture.registry.admission import admit_file
from legion.neuro_architecture.registry.staging import StagingFolder

__all__ = ["BlobStore"]

log = logging.getLogger(__name__)

_PREFIX: Final = "sha256:"
_CHUNK_BYTES: Final = 1 << 20


@final
class BlobStore:
    """The blobs of one registry. Writers hold the registry's lock; readers need none, a blob never changes.

    Args:
        root: The registry's folder.
        staging: Where a blob is complete before it gets its name.
    """

    def __init__(self, root: Path, staging: StagingFolder) -> None:
        self.folder = root / "blobs" / "sha256"
        self._staging = staging

    def path(self, digest: str) -> Path:
        """Where the blob is kept."""
        name = digest.removeprefix(_PREFIX)
        return self.folder / name[:2] / name

    def put(self, name: str, source: Path) -> str:
        """Keeps a copy of the file and returns its digest; a blob that is there is not written again.

        Raises:
            InvalidValueError: no regular file, or not of the kind that `name` says.
            WorldError: the disk refused.
        """
        with _regular(name, source) as file, self._staging.file() as (scratch, target):
            digest = _copy(file, target)
            admit_file(name, scratch)
            self._keep(scratch, digest)
        return digest

    def _keep(self, scratch: Path, digest: str) -> None:
        path = self.path(digest)
        if not path.exists():
            self._staging.publish(scratch, path)
        elif digest_file(path) != digest:
            log.warning("blob %s was altered and is written anew", path)
            self._staging.publish(scratch, path, is_replacing=True)
        else:
            fsync_folder(path.parent)  # a killed writer may have named it without syncing the name

    def verify(self, name: str, digest: str) -> None:
        """Raises IntegrityError unless the blob is there and is what its digest says; `name` is for the message."""
        path = self.path(digest)
        try:
            actual = digest_file(path)
        except FileNotFoundError as error:
            raise IntegrityError(f"blob {path} of {name} is missing") from error
        except OSError as error:
            raise WorldError(f"cannot read blob {path} of {name}", cause=str(error)) from error
        if actual != digest:
            raise IntegrityError(f"blob {path} of {name} was altered", cause=f"its bytes are {actual}")

    def copy(self, name: str, digest: str, target: Path) -> None:
        """Writes the blob to `target`, checking the bytes that are written.

        Raises:
            IntegrityError: the blob is missing or altered.
        """
        path = self.path(digest)
        try:
            with path.open("rb") as source, target.open("xb") as file:
                actual = _copy(source, file)
        except FileNotFoundError as error:
            raise IntegrityError(f"blob {path} of {name} is missing") from error
        if actual != digest:
            target.unlink()
            raise IntegrityError(f"blob {path} of {name} was altered", cause=f"its bytes are {actual}")

    def files(self) -> Iterator[Path]:
        """Every file in the blobs' folder, in the order of names."""
        return (path for path in sorted(self.folder.rglob("*")) if not path.is_dir())


@contextlib.contextmanager
def _regular(name: str, source: Path) -> Iterator[BinaryIO]:
    try:
        descriptor = os.open(source, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
    except OSError as error:
        raise InvalidValueError(f"cannot read file {name!r} from {source}", cause=str(error)) from error
    try:
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            raise InvalidValueError(f"{source} is no regular file", hint="links, folders and devices are refused")
        with os.fdopen(descriptor, "rb", closefd=False) as file:
            yield file
    finally:
        os.close(descriptor)


def _copy(source: BinaryIO, target: BinaryIO) -> str:
    state = hashlib.sha256()
    while chunk := source.read(_CHUNK_BYTES):
        state.update(chunk)
        target.write(chunk)
    target.flush()
    return _PREFIX + state.hexdigest()
