"""What a full check finds."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal, final

__all__ = ["Damage", "Problem"]

Problem = Literal[
    "altered", "missing", "duplicate", "reordered", "unexpected", "unreadable", "rolled back", "forked", "wrong key"
]


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class Damage:
    """One thing that is not what was written.

    Attributes:
        path: The file, relative to the registry's folder.
        problem: What is wrong with it.
        detail: One sentence with the numbers or digests behind it.
        start: Offset of its first byte in the file, or None where it is the file as a whole.
        stop: Offset after its last byte; equal to `start` where something is missing between two bytes.
        entry: Number of the first entry that it concerns, or None.
        stop_entry: Number after the last entry that it concerns, or None.
    """

    path: str
    problem: Problem
    detail: str
    start: int | None = None
    stop: int | None = None
    entry: int | None = None
    stop_entry: int | None = None

    def __str__(self) -> str:
        place = "" if self.start is None else f" bytes {self.start} to {self.stop}"
        entry = "" if self.entry is None else f" entry {self.entry}"
        return f"{self.path}:{place}{entry}: {self.problem}: {self.detail}"

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON values."""
        return {
            "path": self.path,
            "problem": self.problem,
            "detail": self.detail,
            "start": self.start,
            "stop": self.stop,
            "entry": self.entry,
            "stop_entry": self.stop_entry,
        }
