"""Trials on several worker processes of one machine, led as one."""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import signal
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from multiprocessing.connection import Connection
from multiprocessing.process import BaseProcess
from typing import Any, Final, Self, final

from legion.foundation.errors import LegionError, WorldError
from legion.foundation.progress import Progress, SilentProgress
from legion.neuro_architecture.runtime.worker import Call, serve
from legion.neuro_architecture.spec.ports import TrialRunner
from legion.neuro_architecture.spec.standing import Standing
from legion.neuro_architecture.spec.training import TrainingMetrics

__all__ = ["WorkerPool"]

_LEAVE_S: Final = 30.0


@final
class WorkerPool:
    """A `TrialRunner` whose trials are spread over worker processes, in turn and for good.

    Trials share nothing across workers but the files of their run folders, so how many workers there are decides how
    fast trials come, not what they become. A worker whose parent dies dies with it; what it had not saved is trained
    again. For one thread, as a context manager.

    Args:
        open_runner: Opens the runner of one worker, there; it is sent to the worker, so it can be pickled.
        count: How many workers.
        listener: Is told of rungs.
    """

    def __init__(
        self,
        open_runner: Callable[[], AbstractContextManager[TrialRunner]],
        count: int,
        *,
        listener: Progress | None = None,
    ) -> None:
        self._open_runner = open_runner
        self._count = count
        self._listener = listener or SilentProgress()
        self._workers: list[tuple[BaseProcess, Connection]] = []
        self._guards: list[Connection] = []
        self._homes: dict[str, int] = {}
        self._total = 0

    def __enter__(self) -> Self:
        context = multiprocessing.get_context("spawn")
        for _ in range(self._count):
            here, there = context.Pipe()
            watched, guard = context.Pipe(duplex=False)
            process = context.Process(target=serve, args=(self._open_runner, there, watched), daemon=True)
            process.start()
            there.close()
            watched.close()
            self._workers.append((process, here))
            self._guards.append(guard)
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, _trace: object) -> None:
        for process, pipe in self._workers:
            if kind is not None and process.pid is not None and process.is_alive():
                os.kill(process.pid, signal.SIGINT)  # saves its trials and leaves
            with contextlib.suppress(OSError):
                pipe.send(None)
        for process, pipe in self._workers:
            process.join(_LEAVE_S)
            if process.is_alive():
                process.kill()
                process.join()
            pipe.close()
        for guard in self._guards:
            guard.close()

    def add(self, proposal_ids: Sequence[str]) -> None:
        for name in proposal_ids:
            self._homes[name] = len(self._homes) % self._count
        self._each("add", proposal_ids)

    def step_of(self, name: str) -> int:
        home = self._homes[name]
        return int(self._ask({home: Call("step_of", (name,))})[home])

    def announce(self, label: str, total_steps: int) -> None:
        self._total = total_steps
        self._listener.start(label, total_steps)

    def advance(self, names: Sequence[str], until: int) -> None:
        self._each("advance", names, until)
        self._listener.advance(self._total, trials=len(names))

    def finish(self, names: Sequence[str]) -> None:
        self._each("finish", names)
        self._listener.advance(self._total, trials=len(names))

    def pause(self, names: Sequence[str]) -> None:
        self._each("pause", [name for name in names if name in self._homes])

    def stop(self, name: str, reason: str) -> None:
        self._ask({self._homes[name]: Call("stop", (name, reason))})

    def standing(self, name: str, step: int) -> Standing | None:
        home = self._homes.get(name, 0)
        found: Standing | None = self._ask({home: Call("standing", (name, step))})[home]
        return found

    def metrics(self) -> dict[str, TrainingMetrics]:
        found: dict[str, TrainingMetrics] = {}
        for part in self._ask(dict.fromkeys(range(self._count), Call("metrics", ()))).values():
            found |= part
        return {name: found[name] for name in self._homes if name in found}

    def record(self) -> dict[str, Any]:
        asked = [number for number in range(self._count) if number in self._homes.values()]
        return {"workers": list(self._ask(dict.fromkeys(asked, Call("record", ()))).values())}

    def _each(self, method: str, names: Sequence[str], *others: Any) -> None:
        """The call on every worker that has some of the trials, on all at once."""
        shares: dict[int, list[str]] = {}
        for name in names:
            shares.setdefault(self._homes[name], []).append(name)
        self._ask({home: Call(method, (share, *others)) for home, share in shares.items()})

    def _ask(self, calls: dict[int, Call]) -> dict[int, Any]:
        for home, call in calls.items():
            self._send(home, call)
        answers = {home: self._receive(home) for home in calls}
        for answer in answers.values():
            if isinstance(answer, BaseException):
                raise answer
        return answers

    def _send(self, home: int, call: Call) -> None:
        try:
            self._workers[home][1].send(call)
        except OSError as error:
            raise self._died(home) from error

    def _receive(self, home: int) -> Any:
        try:
            return self._workers[home][1].recv()
        except (EOFError, OSError) as error:
            raise self._died(home) from error

    def _died(self, home: int) -> LegionError:
        process = self._workers[home][0]
        process.join(1.0)
        return WorldError(
            f"worker {home} of {self._count} died",
            cause=f"exit code {process.exitcode}; -9 is often too little memory",
            hint="the same command goes on where it stood; fewer workers need less memory: --workers 1",
        )
