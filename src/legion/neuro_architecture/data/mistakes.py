"""Everything that is wrong with a data set, gathered before anything is raised."""

from __future__ import annotations

from pathlib import Path
from typing import Final, final

from legion.foundation.errors import DataError

__all__ = ["Mistakes"]

_SHOWN: Final = 20


@final
class Mistakes:
    """A growing list of mistakes, each with its place (`train.jsonl:17`, `test.parquet row 3`)."""

    def __init__(self) -> None:
        self._lines: list[str] = []

    def add(self, place: str, text: str) -> None:
        self._lines.append(f"{place}: {text}")

    def raise_any(self, folder: Path, *, hint: str | None = None) -> None:
        """Raises one DataError with the first 20 mistakes and the number of the others, where there are any.

        Raises:
            DataError: there is a mistake.
        """
        if not self._lines:
            return
        shown = self._lines[:_SHOWN]
        if len(self._lines) > _SHOWN:
            shown.append(f"and {len(self._lines) - _SHOWN} more")
        count = len(self._lines)
        raise DataError(
            f"data set {folder} has {count} mistake{'s' if count > 1 else ''}", cause="\n".join(shown), hint=hint
        )
