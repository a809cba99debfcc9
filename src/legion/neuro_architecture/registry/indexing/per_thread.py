"""A connection for each thread, closed with its thread, and left alone by a forked child."""

from __future__ import annotations

import os
import threading
import weakref
from collections.abc import Callable
from typing import Generic, Protocol, TypeVar, final

__all__ = ["PerThread"]


class _Closable(Protocol):
    def close(self) -> None: ...


Connection = TypeVar("Connection", bound=_Closable)


@final
class _Holder(Generic[Connection]):
    """What a thread holds; when it goes, so does the connection."""

    def __init__(self, connection: Connection) -> None:
        self.connection = connection
        self.process = os.getpid()


@final
class PerThread(Generic[Connection]):
    """Hands each thread a connection of its own, made at its first use.

    Args:
        connect: Makes one.
    """

    def __init__(self, connect: Callable[[], Connection]) -> None:
        self._connect = connect
        self._local = threading.local()
        self._holders: weakref.WeakSet[_Holder[Connection]] = weakref.WeakSet()
        self._lock = threading.Lock()

    def get(self) -> Connection:
        """This thread's connection."""
        holder: _Holder[Connection] | None = getattr(self._local, "holder", None)
        if holder is not None and holder.process == os.getpid():
            return holder.connection
        # A forked child must neither use nor close what its parent had open: it would drop the parent's locks, or speak
        # through the parent's socket. So it keeps it.
        self._local.inherited = (getattr(self._local, "inherited", None), holder)
        fresh = _Holder(self._connect())
        weakref.finalize(fresh, _close, fresh.connection, fresh.process)
        with self._lock:
            self._holders.add(fresh)
        self._local.holder = fresh
        return fresh.connection

    def drop(self) -> None:
        """Lets go of this thread's connection; the next use makes another."""
        self._local.holder = None
        self._local.inherited = None

    def close(self) -> None:
        """Closes the connections of all threads; none may be at work."""
        with self._lock:
            holders, self._holders = list(self._holders), weakref.WeakSet()
            self._local = threading.local()
        for holder in holders:
            _close(holder.connection, holder.process)


def _close(connection: _Closable, process: int) -> None:
    if process == os.getpid():
        connection.close()
