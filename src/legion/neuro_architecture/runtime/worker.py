"""What a worker process does: it opens a runner and answers calls until its parent has none left."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass
from multiprocessing.connection import Connection
from typing import Any, final

from legion.foundation.errors import LegionError
from legion.neuro_architecture.spec.ports import TrialRunner

__all__ = ["Call", "serve"]


@final
@dataclass(frozen=True, slots=True)
class Call:
    """A method of the runner, and what it is called with."""

    method: str
    arguments: tuple[Any, ...]


def serve(
    open_runner: Callable[[], AbstractContextManager[TrialRunner]], calls: Connection, parent: Connection
) -> None:
    """Answers each call with its result, or with the error of ours that it raised; ends at None.

    Args:
        open_runner: Opens the runner.
        calls: From and to the parent.
        parent: Nothing ever comes through it; that it closes says that the parent is gone.
    """
    signal.signal(signal.SIGINT, signal.default_int_handler)
    threading.Thread(target=_die_with, args=(parent,), daemon=True).start()
    try:
        with open_runner() as runner:
            while (call := calls.recv()) is not None:
                calls.send(_answer(runner, call))
    except (EOFError, KeyboardInterrupt):
        return


def _answer(runner: TrialRunner, call: Call) -> Any:
    try:
        return getattr(runner, call.method)(*call.arguments)
    except LegionError as error:
        return error


def _die_with(parent: Connection) -> None:
    """Ends this process at once when the parent is gone, as if it had been killed too."""
    try:
        parent.recv_bytes()
    except (EOFError, OSError):
        os.kill(os.getpid(), signal.SIGKILL)
