"""The manifest of LEGION Core's slots, `core/slots.json`: read by core, changed by patches only."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Final, final

from legion.foundation.errors import UnknownNameError
from legion.foundation.files import exclusive_lock, fsync_folder, read_json, write_bytes
from legion.foundation.settings import Settings
from legion.neuro_architecture.spec.slot import Slot, SlotManifest

__all__ = ["SlotStore"]

MANIFEST: Final = Path("core") / "slots.json"


@final
class SlotStore:
    """Reads and replaces the manifest of one workspace. Readers need no lock; writers take `locked()`.

    Args:
        settings: Says where the workspace is.
    """

    def __init__(self, settings: Settings) -> None:
        self.path = settings.workspace / MANIFEST

    def read(self) -> SlotManifest:
        """The manifest as it stands; empty before the first patch."""
        if not self.path.is_file():
            return SlotManifest()
        return SlotManifest.parse(read_json(self.path), what=str(self.path))

    def slot(self, name: str) -> Slot:
        """The slot called `name`.

        Raises:
            UnknownNameError: there is none.
        """
        slots = self.read().slots
        if name not in slots:
            raise UnknownNameError.of("slot", name, slots, hint="fill one: legion integrate --top 3")
        return slots[name]

    def replace(self, manifest: SlotManifest) -> None:
        """Writes the whole manifest at once; an empty one removes the file."""
        self.write(self.bytes_of(manifest))

    @staticmethod
    def bytes_of(manifest: SlotManifest) -> bytes | None:
        """The file's content for this manifest; None, for no file, where it has no slot."""
        if not manifest.slots:
            return None
        return (json.dumps(manifest.to_dict(), indent=2, ensure_ascii=False, allow_nan=False) + "\n").encode()

    def content(self) -> bytes | None:
        """The file's exact bytes, or None where there is no file."""
        return self.path.read_bytes() if self.path.is_file() else None

    def write(self, content: bytes | None) -> None:
        """Puts exactly these bytes in the file's place at once; None removes it. Durable on return."""
        if content is not None:
            write_bytes(self.path, content)
        elif self.path.exists():
            self.path.unlink()
            fsync_folder(self.path.parent)

    @contextlib.contextmanager
    def locked(self) -> Iterator[None]:
        """Keeps other writers out."""
        with exclusive_lock(self.path.with_suffix(".lock")):
            yield
