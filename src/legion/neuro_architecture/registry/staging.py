"""Where a file is made whole before it appears: `tmp/` inside the registry, on the same disk."""

from __future__ import annotations

import contextlib
import os
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO, final

from legion.foundation.errors import IntegrityError, WorldError
from legion.foundation.files import fsync_folder
from legion.neuro_architecture.registry.failpoints import failpoint

__all__ = ["StagingFolder"]


@final
class StagingFolder:
    """Scratch files of the one writer that holds the registry's lock; what a killed writer left is swept by the next.

    Args:
        root: The registry's folder.
    """

    def __init__(self, root: Path) -> None:
        self.folder = root / "tmp"

    def sweep(self) -> None:
        """Removes what a killed writer left. Call it under the lock only."""
        for path in self.leftovers():
            path.unlink(missing_ok=True)

    def leftovers(self) -> list[Path]:
        """Scratch files without a writer, or of the writer that is at work."""
        return sorted(self.folder.iterdir()) if self.folder.is_dir() else []

    @contextlib.contextmanager
    def file(self) -> Iterator[tuple[Path, BinaryIO]]:
        """A fresh scratch file, gone at the end.

        Raises:
            WorldError: the disk refused.
        """
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            descriptor, name = tempfile.mkstemp(dir=self.folder, suffix=".tmp")
            with os.fdopen(descriptor, "wb") as file:
                try:
                    failpoint("blob.before-copy")
                    yield Path(name), file
                finally:
                    Path(name).unlink(missing_ok=True)
        except OSError as error:
            raise WorldError(
                f"cannot write into {self.folder}", cause=str(error), hint="check the disk's free space and rights"
            ) from error

    def publish(self, scratch: Path, target: Path, *, is_replacing: bool = False) -> None:
        """Gives the synced, read-only scratch file its name; without `is_replacing` a taken name is refused.

        Raises:
            IntegrityError: `target` exists.
            OSError: the disk refused.
        """
        failpoint("blob.after-copy")
        _make_durable(scratch)
        failpoint("blob.after-sync")
        target.parent.mkdir(parents=True, exist_ok=True)
        if is_replacing:
            scratch.replace(target)
        else:
            try:
                os.link(scratch, target)
            except FileExistsError as error:
                raise IntegrityError(f"{target} exists, and what is written is never written again") from error
        failpoint("blob.after-link")
        fsync_folder(target.parent)
        fsync_folder(target.parent.parent)
        failpoint("blob.after-publish")


def _make_durable(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fchmod(descriptor, 0o444)
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
