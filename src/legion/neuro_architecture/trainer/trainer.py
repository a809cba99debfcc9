"""`ProxyTrainer`: the stage's door."""

from __future__ import annotations

from pathlib import Path
from typing import final

import torch

from legion.foundation.clock import Clock, SystemClock
from legion.foundation.errors import DataError, InvalidValueError, ModelError, WorldError
from legion.foundation.files import exclusive_lock
from legion.foundation.progress import Progress, SilentProgress
from legion.foundation.settings import Settings
from legion.neuro_architecture.data.base_models import BaseModel, resolve_base
from legion.neuro_architecture.data.datasets import DataSet, read_data
from legion.neuro_architecture.records import ProposalStore, RunFolder
from legion.neuro_architecture.spec.training import TrainingMetrics
from legion.neuro_architecture.trainer.config import TrainerConfig
from legion.neuro_architecture.trainer.environment import torch_environment
from legion.neuro_architecture.trainer.plan import find_beginning, move_aside
from legion.neuro_architecture.trainer.trial import Trial, identity_of

__all__ = ["ProxyTrainer"]


@final
class ProxyTrainer:
    """Trains one stored proposal on a data set and measures it, into `artifacts/proxy_runs/<id>/`.

    The task decides the training: a classification head, or a causal model with loss on the target's tokens alone.
    AdamW in fp32, linear warm-up and decay, clipped gradients, batches of like length. On a CPU, two trainings of the
    same proposal, data, seed, steps and number of threads give the same weights bit for bit, however often one of
    them was killed and resumed.

    One trial at a time in a process; a lock keeps other processes off the same run folder.

    Args:
        proposal_id: Id of a stored proposal, or its unique beginning.
        settings: Workspace, threads and device; resolved from the environment by default.
        seed: Seed of head, adapter, data order and dropout.
        progress: Is told of every step, with its loss and the last validation's metric.
        config: Sizes and intervals; the defaults of the task's kind when left out.
        clock: Source of times and durations.

    Raises:
        UnknownNameError: no proposal has this id.
    """

    def __init__(
        self,
        proposal_id: str,
        *,
        settings: Settings | None = None,
        seed: int = 0,
        progress: Progress | None = None,
        config: TrainerConfig | None = None,
        clock: Clock | None = None,
    ) -> None:
        self.settings = settings or Settings.load()
        self.proposal = ProposalStore(self.settings).load(proposal_id)
        self.seed = seed
        self.config = config or TrainerConfig.for_task(self.proposal.task_kind)
        self._progress = progress or SilentProgress()
        self._clock = clock or SystemClock()

    @property
    def run(self) -> RunFolder:
        """Where this proposal's trial is recorded."""
        return RunFolder.of(self.settings, self.proposal.id)

    def train(self, data_path: Path | str, steps: int) -> TrainingMetrics:
        """Trains for `steps` steps in all and returns what was measured, also where the trial diverged (`failed`).

        Called again, it returns the stored metrics of a finished trial at once, resumes a killed or interrupted one
        exactly, extends one that was trained for fewer steps, and moves another trial's folder (other data, seed or
        config, or more steps than asked for) to `artifacts/proxy_runs_replaced/` to train anew.

        Args:
            data_path: Data folder, relative to the workspace or absolute.
            steps: Optimiser steps in all, at least 1.

        Raises:
            InvalidValueError: steps below 1.
            DataError: the data set is broken, or of another kind than the proposal's task.
            ModelError: the base model is not the one the proposal was made for.
            IntegrityError: the checkpoint to resume from is damaged.
            WorldError: another process trains this proposal, or the accelerator's memory is too small.
            KeyboardInterrupt: Ctrl-C, after the state was saved.
        """
        if steps < 1:
            raise InvalidValueError(f"steps must be at least 1, got {steps}", hint="for example: --steps 200")
        data = self._read_data(Path(data_path))
        run = self.run
        lock = run.path.with_name(f".{run.path.name}.lock")
        with exclusive_lock(lock, refusal=f"proposal {self.proposal.id} is being trained by another process"):
            identity = identity_of(self.proposal, data, self.seed, self.config)
            beginning = find_beginning(run, identity, steps)
            if beginning.stored is not None:
                return beginning.stored
            base = self._resolve_base()
            if beginning.is_replacing:
                move_aside(self.settings, run)
            with torch_environment(self.settings) as device:
                trial = Trial(
                    self.proposal,
                    base,
                    data,
                    run=run,
                    settings=self.settings,
                    seed=self.seed,
                    steps=steps,
                    config=self.config,
                    device=device,
                    listener=self._progress,
                    clock=self._clock,
                )
                try:
                    return trial.execute(beginning.checkpoint)
                except torch.OutOfMemoryError as error:
                    raise WorldError(
                        f"the accelerator has too little memory for proposal {self.proposal.id}",
                        cause=str(error),
                        hint="train on the processor: LEGION_DEVICE=cpu",
                    ) from error

    def _read_data(self, folder: Path) -> DataSet:
        data = read_data(self.settings.workspace / folder, kind=None)
        kind = self.proposal.task_kind
        if data.spec.kind != kind:
            raise DataError(
                f"{data.folder} is a {data.spec.kind} data set, proposal {self.proposal.id} is for {kind}",
                hint=f"legion generate --task {data.spec.name} --data {folder} proposes for this data",
            )
        return data

    def _resolve_base(self) -> BaseModel:
        wanted = self.proposal.base
        base = resolve_base(wanted.name, self.settings)
        if base.reference.digest != wanted.digest:
            raise ModelError(
                f"base model {wanted.name!r} is not the one proposal {self.proposal.id} was made for",
                cause=f"weights are {base.reference.digest}, the proposal says {wanted.digest}",
                hint="generate proposals for the base as it is now: legion generate",
            )
        return base
