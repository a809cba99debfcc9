"""Group commit: of the threads that want to write at once, one writes for all."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Generic, TypeVar, final

from legion.foundation.errors import LegionError, WorldError

__all__ = ["CommitQueue", "Operation"]

Desk = TypeVar("Desk")
Result = TypeVar("Result")
Operation = Callable[[Desk], Result]


@dataclass(slots=True)
class _Waiting(Generic[Desk]):
    operation: Callable[[Desk], object]
    result: object = None
    error: BaseException | None = None
    is_done: bool = False


@final
class CommitQueue(Generic[Desk]):
    """Operations of many threads, in the order they came, committed as few times as may be.

    Whoever finds nobody at work takes all that wait, runs them one after another on one desk and commits once. An
    operation that refuses fails alone; a commit that fails, fails for all that were in it.

    Args:
        commit: Opens a desk, lets `work` run the operations on it, and makes what they wrote durable.
        undo: Takes back what an operation wrote on the desk before it refused.
    """

    def __init__(
        self,
        commit: Callable[[Callable[[Desk], None]], None],
        *,
        mark: Callable[[Desk], int],
        undo: Callable[[Desk, int], None],
    ) -> None:
        self._commit = commit
        self._mark = mark
        self._undo = undo
        self._pending: list[_Waiting[Desk]] = []
        self._door = threading.Lock()
        self._turn = threading.Lock()

    def run(self, operation: Operation[Desk, Result]) -> Result:
        """What the operation gives, once what it wrote is durable.

        Raises:
            LegionError: what the operation or the commit raised.
        """
        mine: _Waiting[Desk] = _Waiting(operation)
        with self._door:
            self._pending.append(mine)
        with self._turn:
            if not mine.is_done:
                self._lead()
        if mine.error is not None:
            raise mine.error
        return mine.result  # type: ignore[return-value]  # it is what this very operation gave

    def _lead(self) -> None:
        with self._door:
            batch, self._pending = self._pending, []
        failure: BaseException = WorldError("the commit was interrupted; nothing of it was acknowledged")
        is_committed = False
        try:
            self._commit(lambda desk: self._work(desk, batch))
            is_committed = True
        except LegionError as error:
            failure = error
        finally:
            for waiting in batch:
                waiting.is_done = True
                if not is_committed and waiting.error is None:
                    waiting.error = failure

    def _work(self, desk: Desk, batch: Sequence[_Waiting[Desk]]) -> None:
        for waiting in batch:
            mark = self._mark(desk)
            try:
                waiting.result = waiting.operation(desk)
            except LegionError as error:
                waiting.error = error
                self._undo(desk, mark)
