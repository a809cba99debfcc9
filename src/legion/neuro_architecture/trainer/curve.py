"""The learning curve as JSON lines; cut back to the checkpoint when a killed trial resumes."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any, final

from legion.foundation.canonical import refuse_non_finite
from legion.foundation.errors import IntegrityError

__all__ = ["Curve"]


@final
class Curve:
    """Appends lines to `curve.jsonl`. Kinds: `train` (a step) and `validation`. One writer at a time.

    Args:
        path: The file.
        num_bytes: Bytes that the checkpoint vouches for; what a killed attempt wrote after them is cut off.

    Raises:
        IntegrityError: the file is shorter than that.
    """

    def __init__(self, path: Path, num_bytes: int = 0) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        self._file = path.open("a+b")
        present = self._file.seek(0, os.SEEK_END)
        if present < num_bytes:
            self._file.close()
            raise IntegrityError(
                f"{path} holds {present} bytes, its checkpoint counts {num_bytes}",
                hint=f"move {path.parent} away to train anew",
            )
        self._file.truncate(num_bytes)
        self._file.seek(0, os.SEEK_END)

    def append(self, kind: str, **fields: Any) -> None:
        """Adds a line; it is on disk for sure after `sync`."""
        refuse_non_finite(fields)
        self._file.write(json.dumps({"kind": kind, **fields}, allow_nan=False).encode() + b"\n")

    def sync(self) -> int:
        """Makes every line durable and returns the file's length in bytes."""
        self._file.flush()
        os.fsync(self._file.fileno())
        return self._file.tell()

    def close(self) -> None:
        """Lets go of the file."""
        self._file.close()
