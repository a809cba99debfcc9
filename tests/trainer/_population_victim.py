"""As `_victim`, for populations: a child trains all proposals of an order and kills itself at the moment asked for."""

from __future__ import annotations

import json
import os
import signal
import sys
from pathlib import Path

from legion.foundation.settings import Settings
from legion.neuro_architecture.records import RunFolder
from legion.neuro_architecture.trainer import PopulationTrainer, Rungs, TrainerConfig, checkpoint


class Killer:
    """A listener that dies at the report number `at`."""

    def __init__(self, at):
        self.left = at

    def start(self, label, total):
        pass

    def advance(self, done, **fields):
        self.left -= 1
        if self.left == 0:
            os.kill(os.getpid(), signal.SIGKILL)

    def finish(self, note=""):
        pass


def die_while_writing(nth):
    """Dies in the middle of the nth checkpoint's file."""
    real, calls = checkpoint.write_bytes, []

    def half(path, content):
        calls.append(path)
        if len(calls) == nth:
            path.parent.mkdir(exist_ok=True)
            (path.parent / f".{path.name}.abc.tmp").write_bytes(content[: len(content) // 2])
            os.kill(os.getpid(), signal.SIGKILL)
        real(path, content)

    checkpoint.write_bytes = half


def die_while_noting(state, nth):
    """Dies just before the nth trial is noted as being in `state`: between the decisions of one rung."""
    real, calls = RunFolder.write_metrics, []

    def write(self, metrics, record):
        if metrics.state.value == state:
            calls.append(self)
            if len(calls) == nth:
                os.kill(os.getpid(), signal.SIGKILL)
        real(self, metrics, record)

    RunFolder.write_metrics = write


def train(workspace, proposal_ids, data, steps, config, rungs, places, moment, at):
    killer = Killer(at if moment == "step" else sys.maxsize)
    if moment == "write":
        die_while_writing(at)
    elif moment != "step":
        die_while_noting(moment, at)
    trainer = PopulationTrainer(
        settings=Settings.load(workspace=Path(workspace)),
        config=TrainerConfig.parse(config, what="config"),
        progress=killer,
        places=places,
    )
    trainer.train(proposal_ids, data, steps, rungs=Rungs.parse(rungs, what="rungs") if rungs else None)


if __name__ == "__main__":
    for line in sys.stdin:
        child = os.fork()
        if child == 0:
            train(**json.loads(line))
            sys.exit(0)
        _, status = os.waitpid(child, 0)
        sys.stdout.write(f"{os.waitstatus_to_exitcode(status)}\n")
        sys.stdout.flush()
