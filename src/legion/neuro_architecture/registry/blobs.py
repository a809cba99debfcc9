"""Files by digest: written once, read only under their digest, taken away only when nothing refers to them."""

from __future__ import annotations

import contextlib
import hashlib
import io
import time
from collections.abc import Collection, Iterator, Mapping
from pathlib import Path
from typing import Any, BinaryIO, Final, Self, final

from legion.foundation.canonical import is_digest
from legion.foundation.errors import IntegrityError, InvalidValueError
from legion.neuro_architecture.registry.admission import admit_file
from legion.neuro_architecture.registry.blob_backends import (
    BlobBackend,
    FolderBackend,
    open_remote,
    parse_address,
)
from legion.neuro_architecture.registry.blob_backends.reader import CHUNK_BYTES, CheckedReader
from legion.neuro_architecture.registry.regular import open_regular
from legion.neuro_architecture.registry.staging import StagingFolder

__all__ = ["GRACE_S", "BlobStore"]

_PREFIX: Final = "sha256:"

# A blob is written before the record that refers to it. A sweep leaves alone what is younger than this.
GRACE_S: Final = 24 * 3600.0


@final
class BlobStore:
    """The blobs of one registry.

    The contract:

    - What `put` returned is whole in its place: on a folder of this machine synced, elsewhere read back.
    - Reading checks: no method hands out the last byte of a blob whose bytes are not what its digest says.
    - A name inside the store comes from a checked digest, never from a caller's text.
    - Any number of threads and processes may read and put at once. `sweep` and `delete` are for the one that holds
      the registry's lock; the grace period stands for those that put before they take it.

    Args:
        root: The registry's folder.
        staging: Where a blob is complete before it gets its name.
        url: None for `root/blobs`; a path or `file://` for another folder of this machine; else what fsspec reaches.
        options: What fsspec is given with the URL; never shown.

    Raises:
        InvalidValueError: `url` is no address.
        WorldError: no such protocol, or its driver is not installed.
    """

    def __init__(
        self, root: Path, staging: StagingFolder, url: str | None = None, *, options: Mapping[str, Any] | None = None
    ) -> None:
        self._staging = staging
        self._backend: BlobBackend
        if url is None:
            self._backend = FolderBackend(root / "blobs" / "sha256", staging, is_sweeping=False)
            return
        address = parse_address(url, options)
        if address.folder is None:
            self._backend = open_remote(address, options)
        else:  # a blob is linked to its name, so it is made whole on the disk where it stays
            self._staging = StagingFolder(address.folder)
            self._backend = FolderBackend(address.folder / "sha256", self._staging, is_sweeping=True)

    @classmethod
    def over(cls, backend: BlobBackend, staging: StagingFolder) -> Self:
        """A store whose bytes lie in `backend`."""
        store = cls(staging.folder.parent, staging)
        store._backend = backend
        return store

    @property
    def address(self) -> str:
        """Where it is, for a person; without user, password and options."""
        return self._backend.address

    @property
    def is_local(self) -> bool:
        """Whether the blobs are files of this machine."""
        return isinstance(self._backend, FolderBackend)

    @property
    def folder(self) -> Path:
        """The folder of this machine that holds them.

        Raises:
            InvalidValueError: they are elsewhere.
        """
        return self._folder_backend().folder

    def path(self, digest: str) -> Path:
        """Where the blob is kept on this machine.

        Raises:
            InvalidValueError: no digest, or the blobs are elsewhere.
        """
        return self._folder_backend().path(_name(digest))

    def _folder_backend(self) -> FolderBackend:
        if isinstance(self._backend, FolderBackend):
            return self._backend
        raise InvalidValueError(f"the blobs at {self.address} are no files of this machine", hint="open or copy them")

    def put(self, name: str, source: Path) -> str:
        """Keeps a copy of the file and returns its digest; a blob that is there is not written again.

        Args:
            name: Says by its ending what the file must hold.
            source: A regular file; links, FIFOs and devices are refused.

        Raises:
            InvalidValueError: no regular file, or not of the kind that `name` says.
            WorldError: the place refused, or what arrived there is not what was sent.
        """
        with _regular(name, source) as file, self._staging.file() as (scratch, target):
            digest = _copy(file, target)
            admit_file(name, scratch)
            self._backend.keep(scratch, _name(digest))
        return digest

    def open(self, digest: str) -> BinaryIO:
        """The blob's bytes in order, checked on their way; close it.

        Raises:
            IntegrityError: the blob is missing, or (from a read) altered.
            WorldError: the place refused.
        """
        return self._reader(f"blob {self._backend.place(_name(digest))}", digest)

    def _reader(self, what: str, digest: str) -> io.BufferedReader:
        with contextlib.ExitStack() as stack, _present(what):
            source, size = stack.enter_context(self._backend.reading(_name(digest)))
            raw = CheckedReader(source, _name(digest), size, what=what, closing=stack.pop_all())
        return io.BufferedReader(raw, CHUNK_BYTES)

    def verify(self, name: str, digest: str) -> None:
        """Raises IntegrityError unless the blob is there and is what its digest says; `name` is for the message."""
        with self._reader(self._what(name, digest), digest) as file:
            while file.read(CHUNK_BYTES):
                pass

    def copy(self, name: str, digest: str, target: Path) -> None:
        """Writes the blob to `target`, checking the bytes that are written.

        Raises:
            IntegrityError: the blob is missing or altered; then there is no `target`.
        """
        with self._reader(self._what(name, digest), digest) as source, target.open("xb") as file:
            try:
                _copy(source, file)
            except BaseException:
                target.unlink()
                raise

    def _what(self, name: str, digest: str) -> str:
        return f"blob {self._backend.place(_name(digest))} of {name}"

    def size_bytes(self, digest: str) -> int:
        """The blob's length, as its place says; nothing is read.

        Raises:
            IntegrityError: it is missing.
        """
        with _present(f"blob {self._backend.place(_name(digest))}"):
            return self._backend.size_bytes(_name(digest))

    def files(self) -> Iterator[Path]:
        """Every file in the blobs' folder, in the order of names.

        Raises:
            InvalidValueError: the blobs are elsewhere.
        """
        return (path for path in sorted(self.folder.rglob("*")) if not path.is_dir())

    def digests(self) -> Iterator[tuple[str, int]]:
        """Digest and length of every blob, unread; what else lies there is left out."""
        return ((_PREFIX + blob.name, blob.size_bytes) for blob in self._backend.listing())

    def delete(self, digest: str) -> int:
        """Takes the blob away and returns how much room that made: 0 where it was gone already.

        The caller has made sure that nothing refers to it.

        Raises:
            WorldError: the place refused.
        """
        try:
            size = self._backend.size_bytes(_name(digest))
            self._backend.remove(_name(digest))
        except FileNotFoundError:
            return 0
        return size

    def sweep(
        self, referenced: Collection[str], *, is_dry_run: bool = True, grace_s: float = GRACE_S
    ) -> list[tuple[str, int]]:
        """Digest and length of each blob that nothing refers to and that is older than the grace period.

        A blob whose age its place cannot tell stays.

        Args:
            referenced: Digests that must stay.
            is_dry_run: Only tells; with False the blobs are gone at return, and so is what killed writers left.
            grace_s: How long a blob may wait for the record that refers to it.

        Raises:
            InvalidValueError: what is referenced is no digest, or the grace period is negative; nothing was removed.
            WorldError: the place refused.
        """
        if not grace_s >= 0:
            raise InvalidValueError(f"grace period {grace_s} s is negative")
        kept = {_name(digest) for digest in referenced}
        before_s = time.time() - grace_s
        garbage = [
            (_PREFIX + blob.name, blob.size_bytes)
            for blob in self._backend.listing()
            if blob.name not in kept and blob.modified_s is not None and blob.modified_s < before_s
        ]
        if is_dry_run:
            return garbage
        removed = [(digest, size) for digest, size in garbage if self._remove_old(_name(digest), before_s)]
        self._backend.sweep_scratch(before_s)
        return removed

    def _remove_old(self, name: str, before_s: float) -> bool:
        """Whether it was removed: not where a writer has asked for it since it was listed."""
        try:
            modified_s = self._backend.modified_s(name)
            if modified_s is None or modified_s >= before_s:
                return False
            self._backend.remove(name)
        except FileNotFoundError:
            return False
        return True


def _name(digest: str) -> str:
    """64 hex digits.

    Raises:
        InvalidValueError: it is no digest.
    """
    if not isinstance(digest, str) or not is_digest(digest):
        raise InvalidValueError(f"{str(digest)[:80]!r} is no digest", hint="write sha256:<64 hex>")
    return digest.removeprefix(_PREFIX)


@contextlib.contextmanager
def _present(what: str) -> Iterator[None]:
    try:
        yield
    except FileNotFoundError as error:
        raise IntegrityError(f"{what} is missing") from error


@contextlib.contextmanager
def _regular(name: str, source: Path) -> Iterator[BinaryIO]:
    try:
        with contextlib.ExitStack() as stack:
            file, _ = stack.enter_context(open_regular(source))
            opened = stack.pop_all()
    except IntegrityError as error:
        raise InvalidValueError(f"file {name!r}: {error.message}", hint=error.hint) from error
    except OSError as error:
        raise InvalidValueError(f"cannot read file {name!r} from {source}", cause=str(error)) from error
    with opened:
        yield file


def _copy(source: BinaryIO, target: BinaryIO) -> str:
    state = hashlib.sha256()
    while chunk := source.read(CHUNK_BYTES):
        state.update(chunk)
        target.write(chunk)
    target.flush()
    return _PREFIX + state.hexdigest()
