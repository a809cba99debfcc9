"""A process that imports the trainer once, then forks a child for each line on stdin; the child trains and kills
itself with SIGKILL at the moment asked for. Answers each line with the child's exit status. Run by test_resume.
"""

from __future__ import annotations

import json
import os
import signal
import sys
from pathlib import Path

from legion.foundation.settings import Settings
from legion.neuro_architecture.trainer import ProxyTrainer, TrainerConfig, checkpoint


class Killer:
    """A listener that dies after step `at`."""

    def __init__(self, at):
        self.at = at

    def start(self, label, total):
        pass

    def advance(self, done, **fields):
        if done == self.at:
            os.kill(os.getpid(), signal.SIGKILL)

    def finish(self, note=""):
        pass


def die_while_writing(nth):
    """Dies in the middle of the nth checkpoint's file."""
    real, calls = checkpoint.write_bytes, []

    def half(path, content):
        calls.append(path)
        if len(calls) == nth:
            (path.parent / f".{path.name}.abc.tmp").write_bytes(content[: len(content) // 2])
            os.kill(os.getpid(), signal.SIGKILL)
        real(path, content)

    checkpoint.write_bytes = half


def train(workspace, proposal_id, data, steps, config, moment, at):
    if moment == "write":
        die_while_writing(at)
    trainer = ProxyTrainer(
        proposal_id,
        settings=Settings.load(workspace=Path(workspace)),
        config=TrainerConfig.parse(config, what="config"),
        progress=Killer(at if moment == "step" else -1),
    )
    trainer.train(data, steps)


if __name__ == "__main__":
    for line in sys.stdin:
        child = os.fork()
        if child == 0:
            train(**json.loads(line))
            sys.exit(0)
        _, status = os.waitpid(child, 0)
        sys.stdout.write(f"{os.waitstatus_to_exitcode(status)}\n")
        sys.stdout.flush()
