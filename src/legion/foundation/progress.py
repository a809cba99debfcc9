"""How long work tells that it goes on, without knowing who listens."""

from __future__ import annotations

from typing import Protocol, final

__all__ = ["Progress", "SilentProgress"]


class Progress(Protocol):
    """A listener of one long task at a time."""

    def start(self, label: str, total: int) -> None:
        """A task of `total` equal parts begins."""
        ...

    def advance(self, done: int, **fields: float | int | str | None) -> None:
        """`done` parts are finished; `fields` are shown beside the bar (loss, metric)."""
        ...

    def finish(self, note: str = "") -> None:
        """The task ended; `note` says how."""
        ...


@final
class SilentProgress:
    """Listens and says nothing; the default of every library call."""

    def start(self, label: str, total: int) -> None:
        pass

    def advance(self, done: int, **fields: float | int | str | None) -> None:
        pass

    def finish(self, note: str = "") -> None:
        pass
