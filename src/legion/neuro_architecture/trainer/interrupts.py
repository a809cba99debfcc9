"""Ctrl-C waits until a step is whole, so that what is then saved is a state between two steps."""

from __future__ import annotations

import contextlib
import signal
import threading
from collections.abc import Iterator
from types import FrameType

__all__ = ["hold_interrupts"]


@contextlib.contextmanager
def hold_interrupts() -> Iterator[None]:
    """Delivers a SIGINT that arrives inside the block at its end.

    Does nothing outside the main thread, which alone receives signals, and where SIGINT is not handled in Python.
    """
    handler = signal.getsignal(signal.SIGINT)
    if threading.current_thread() is not threading.main_thread() or not callable(handler):
        yield
        return
    held: list[int] = []

    def hold(number: int, frame: FrameType | None) -> None:  # noqa: ARG001 - the signature that signal asks for
        held.append(number)

    signal.signal(signal.SIGINT, hold)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, handler)
    if held:
        handler(held[0], None)
