"""The folder of one engine while it is being built: commands in order, their words in a log, progress for who waits."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Final, final

from legion.foundation.clock import Clock, SystemClock
from legion.foundation.errors import EngineError
from legion.foundation.progress import Progress, SilentProgress
from legion.neuro_architecture.data.downloads import without_addresses

__all__ = ["LOG_NAME", "Workshop", "clean_environment"]

LOG_NAME: Final = "install.log"
_LOOK_EVERY_S: Final = 1.0
_NUM_LAST_LINES: Final = 8
_TAIL_BYTES: Final = 8192
# How cmake says how far it is, in whatever pip makes of its lines.
_PERCENT: Final = re.compile(rb"\[\s*(\d{1,3})%\]")
# Variables that would let another Python's packages into the environment.
_FOREIGN: Final = ("PYTHONPATH", "PYTHONHOME", "VIRTUAL_ENV", "PIP_TARGET", "PIP_PREFIX", "PIP_USER")


@final
class Workshop:
    """Builds one environment below `folder`.

    Args:
        name: The engine, as errors name it.
        folder: Where the environment and its log go.
        progress: Told of each step; its whole is 100 parts.
        clock: Source of the durations.
    """

    def __init__(
        self, name: str, folder: Path, progress: Progress = SilentProgress(), clock: Clock = SystemClock()
    ) -> None:
        self.name = name
        self.folder = folder
        self._progress = progress
        self._clock = clock
        self._done = 0
        self._began_s = clock.monotonic_s()

    @property
    def python(self) -> Path:
        return self.folder / "venv" / "bin" / "python"

    @property
    def log(self) -> Path:
        return self.folder / LOG_NAME

    def make_python(self) -> None:
        """A fresh virtual environment of this process's Python, in place of whatever stood there."""
        self.run("venv", 4, [sys.executable, "-m", "venv", "--clear", self.folder / "venv"])

    def pip(self, step: str, share: int, *arguments: str | Path, environment: Mapping[str, str] | None = None) -> None:
        """One pip command of the environment; which index is asked is pip's own configuration."""
        options = ["--no-input", "--disable-pip-version-check", "--progress-bar", "off"]
        verb, *rest = arguments
        self.run(step, share, [self.python, "-m", "pip", verb, *options, *rest], environment=environment)

    def run(
        self,
        step: str,
        share: int,
        command: Sequence[str | Path],
        *,
        environment: Mapping[str, str] | None = None,
    ) -> None:
        """Runs a command to its end; what it says goes to the log.

        Args:
            step: What the command does, for the progress line and the error.
            share: Its part of the whole build, in hundredths.
            command: Program and arguments.
            environment: Variables beside those of this process.

        Raises:
            EngineError: the command failed; the cause holds its last lines and the log's path.
        """
        with self.log.open("ab") as log:
            log.write(f"\n== {step}\n".encode())
            log.flush()
            begin = log.tell()
            try:
                process = subprocess.Popen(
                    [str(word) for word in command],
                    stdin=subprocess.DEVNULL,
                    stdout=log,
                    stderr=subprocess.STDOUT,
                    env=clean_environment() | dict(environment or {}),
                    start_new_session=True,
                )
            except OSError as error:
                raise self._failure(step, str(error)) from error
            try:
                code = self._wait(process, step, share, begin)
            finally:
                _end(process)
        if code:
            raise self._failure(step, self._last_lines(begin) or f"exit status {code}")
        self._done += share
        self._tell(step, self._done)

    def _wait(self, process: subprocess.Popen[bytes], step: str, share: int, begin: int) -> int:
        while True:
            try:
                return process.wait(timeout=_LOOK_EVERY_S)
            except subprocess.TimeoutExpired:
                found = _PERCENT.findall(self._tail(begin))
                within = min(100, int(found[-1])) if found else 0
                self._tell(step, self._done + share * within // 100)

    def _tell(self, step: str, done: int) -> None:
        self._progress.advance(done, step=step, elapsed_s=round(self._clock.monotonic_s() - self._began_s))

    def _tail(self, begin: int) -> bytes:
        with self.log.open("rb") as log:
            size = log.seek(0, os.SEEK_END)
            log.seek(max(begin, size - _TAIL_BYTES))
            return log.read()

    def _last_lines(self, begin: int) -> str:
        lines = self._tail(begin).decode(errors="replace").splitlines()
        told = [line.rstrip() for line in lines if line.strip() and not line.lstrip().startswith("WARNING:")]
        return without_addresses("\n".join(told[-_NUM_LAST_LINES:]))

    def _failure(self, step: str, words: str) -> EngineError:
        return EngineError(
            f"cannot install {self.name}: step {step!r} failed",
            cause=f"{words}\nthe whole log: {self.log}",
            hint=f"check the network and the disk, then: legion engines install {self.name}",
        )


def clean_environment() -> dict[str, str]:
    """This process's variables without those that would mix another Python's packages in."""
    return {name: value for name, value in os.environ.items() if name not in _FOREIGN}


def _end(process: subprocess.Popen[bytes]) -> None:
    """Ends the command and what it started, where it was left running (an interrupt, an error of ours)."""
    if process.poll() is None:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()
