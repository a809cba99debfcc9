"""Opening a file that somebody else named: a regular one, or none."""

from __future__ import annotations

import contextlib
import os
import stat
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

from legion.foundation.errors import IntegrityError

__all__ = ["open_regular"]


@contextlib.contextmanager
def open_regular(path: Path) -> Iterator[tuple[BinaryIO, int]]:
    """A regular file's bytes and their number; a link is not followed, a FIFO not waited for.

    Raises:
        FileNotFoundError: it is missing.
        IntegrityError: it is a link, a folder, a FIFO or a device.
        OSError: the disk refused.
    """
    if path.is_symlink():
        raise IntegrityError(f"{path} is no regular file", hint="links, folders and devices are refused")
    descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
    try:
        found = os.fstat(descriptor)
        if not stat.S_ISREG(found.st_mode):
            raise IntegrityError(f"{path} is no regular file", hint="links, folders and devices are refused")
        with os.fdopen(descriptor, "rb", closefd=False) as file:
            yield file, found.st_size
    finally:
        os.close(descriptor)
