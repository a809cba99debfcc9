"""Reading that checks: the last byte of a blob is handed out only once all of them have the right digest."""

from __future__ import annotations

import contextlib
import hashlib
import io
from typing import TYPE_CHECKING, Final, final

from legion.foundation.errors import IntegrityError
from legion.neuro_architecture.registry.blob_backends.port import ByteSource

if TYPE_CHECKING:
    from _typeshed import WriteableBuffer

__all__ = ["CheckedReader", "hash_stream"]

CHUNK_BYTES: Final = 1 << 20


def hash_stream(source: ByteSource) -> str:
    """64 hex digits over what is left of `source`, read in pieces."""
    state = hashlib.sha256()
    while chunk := source.read(CHUNK_BYTES):
        state.update(chunk)
    return state.hexdigest()


@final
class CheckedReader(io.RawIOBase):
    """The bytes of a blob in order, hashed on their way; who reads to the end has read the right ones.

    Args:
        source: The bytes; read from where it stands.
        name: 64 hex digits that they should hash to.
        size_bytes: How many there should be.
        what: Names the blob in a message.
        closing: Closed together with this reader.

    Raises:
        IntegrityError: on the read that would complete other bytes.
    """

    def __init__(
        self, source: ByteSource, name: str, size_bytes: int, *, what: str, closing: contextlib.ExitStack
    ) -> None:
        self._source = source
        self._name = name
        self._left = size_bytes
        self._what = what
        self._closing = closing
        self._state = hashlib.sha256()
        self._is_checked = False

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: WriteableBuffer, /) -> int:
        view = memoryview(buffer).cast("B")
        chunk = self._source.read(min(len(view), self._left)) if self._left else b""
        self._state.update(chunk)
        self._left -= len(chunk)
        if not self._is_checked and (self._left == 0 or not chunk):
            self._check()
        view[: len(chunk)] = chunk
        return len(chunk)

    def _check(self) -> None:
        if self._left == 0 and self._source.read(1):
            raise IntegrityError(f"{self._what} was altered", cause="it is longer than it should be")
        actual = self._state.hexdigest()
        if actual != self._name:
            raise IntegrityError(f"{self._what} was altered", cause=f"its bytes are sha256:{actual}")
        self._is_checked = True

    def close(self) -> None:
        if not self.closed:
            self._closing.close()
        super().close()
