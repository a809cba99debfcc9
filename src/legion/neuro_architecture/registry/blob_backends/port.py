"""What a blob store needs of the place where its bytes lie."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol, final

__all__ = ["BlobBackend", "ByteSource", "StoredBlob"]


class ByteSource(Protocol):
    """Bytes to be read in order."""

    def read(self, size: int = ..., /) -> bytes:
        """At most `size` bytes, b"" at the end."""


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class StoredBlob:
    """One blob as the place lists it, unread.

    Attributes:
        name: 64 hex digits of its SHA-256.
        size_bytes: Its length.
        modified_s: When it was last written or asked to stay, in seconds since 1970; None where the place cannot say.
    """

    name: str
    size_bytes: int
    modified_s: float | None


class BlobBackend(Protocol):
    """Bytes under names of 64 hex digits. Every name given to it was checked by the store.

    Each method raises WorldError where the place refuses, FileNotFoundError where a blob that is asked for is missing,
    and IntegrityError where something stands under its name that is no file.
    """

    @property
    def address(self) -> str:
        """The place for a person to read; holds no secret."""

    def place(self, name: str) -> str:
        """Where the blob lies, for a message."""

    def keep(self, scratch: Path, name: str) -> None:
        """Keeps the complete file `scratch` under `name`; at return it is there whole.

        A blob that is there stays, and counts as written now: a sweep that goes on at the same time leaves it alone.
        """

    def reading(self, name: str) -> AbstractContextManager[tuple[ByteSource, int]]:
        """The blob's bytes, unchecked, and how many there should be."""

    def size_bytes(self, name: str) -> int:
        """Its length."""

    def modified_s(self, name: str) -> float | None:
        """As in `StoredBlob`, asked anew."""

    def remove(self, name: str) -> None:
        """Takes the blob away; durable at return."""

    def listing(self) -> Iterator[StoredBlob]:
        """All blobs; what else lies there is left out."""

    def sweep_scratch(self, before_s: float) -> None:
        """Removes what killed writers left before then."""
