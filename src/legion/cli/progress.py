"""Progress on stderr: a bar on a terminal, a plain line every 30 s elsewhere, both with an ETA."""

from __future__ import annotations

import sys
from typing import Final, TextIO, final

from legion.foundation.clock import Clock, SystemClock

__all__ = ["TerminalProgress", "duration"]

_PLAIN_EVERY_S: Final = 30.0
_DRAW_EVERY_S: Final = 0.2
_BAR_WIDTH: Final = 24


@final
class TerminalProgress:
    """Implements `foundation.progress.Progress` for a person who watches.

    Args:
        stream: Where to write; stderr by default.
        clock: Source of the durations.
    """

    def __init__(self, stream: TextIO | None = None, clock: Clock | None = None) -> None:
        self._stream = stream or sys.stderr
        self._clock = clock or SystemClock()
        self._is_terminal = self._stream.isatty()
        self._label, self._total = "", 0
        self._began_s = self._drawn_s = 0.0
        self._first_done: int | None = None

    def start(self, label: str, total: int) -> None:
        self._label, self._total = label, total
        self._began_s = self._clock.monotonic_s()
        self._drawn_s = self._began_s if not self._is_terminal else float("-inf")
        self._first_done = None

    def advance(self, done: int, **fields: float | int | str | None) -> None:
        now = self._clock.monotonic_s()
        if self._first_done is None:
            self._first_done = done
            self._began_s = now if done > 1 else self._began_s
        if now - self._drawn_s < (_DRAW_EVERY_S if self._is_terminal else _PLAIN_EVERY_S):
            return
        self._drawn_s = now
        self._write(self._line(done, now, fields))

    def finish(self, note: str = "") -> None:
        elapsed = duration(self._clock.monotonic_s() - self._began_s)
        self._write(f"{self._label}: {note or 'done'} ({elapsed})", last=True)

    def _line(self, done: int, now: float, fields: dict[str, float | int | str | None]) -> str:
        share = min(1.0, done / self._total) if self._total else 0.0
        worked = done - (self._first_done or 0)
        eta = ""
        if worked > 0:
            eta = " ETA " + duration((now - self._began_s) / worked * max(0, self._total - done))
        shown = " ".join(f"{name} {_short(value)}" for name, value in fields.items() if value is not None)
        if not self._is_terminal:
            return f"{self._label}: {done}/{self._total}{eta} {shown}".rstrip()
        filled = round(share * _BAR_WIDTH)
        return f"{self._label} [{'█' * filled}{'·' * (_BAR_WIDTH - filled)}] {done}/{self._total}{eta} {shown}".rstrip()

    def _write(self, line: str, *, last: bool = False) -> None:
        if self._is_terminal:
            self._stream.write("\r\x1b[2K" + line + ("\n" if last else ""))
        else:
            self._stream.write(line + "\n")
        self._stream.flush()


def duration(seconds: float) -> str:
    """`8 s`, `3 min 05 s`, `2 h 10 min`."""
    whole = round(max(0.0, seconds))
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60:02d} s"
    return f"{whole // 3600} h {whole % 3600 // 60:02d} min"


def _short(value: float | int | str | None) -> str:
    return f"{value:.3f}" if isinstance(value, float) else str(value)
