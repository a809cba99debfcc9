"""`ProxyTrainer`: the stage's door for one proposal."""

from __future__ import annotations

from pathlib import Path
from typing import final

from legion.foundation.clock import Clock
from legion.foundation.progress import Progress
from legion.foundation.settings import Settings
from legion.neuro_architecture.records import ProposalStore, RunFolder
from legion.neuro_architecture.spec.training import TrainingMetrics
from legion.neuro_architecture.trainer.config import TrainerConfig
from legion.neuro_architecture.trainer.population_trainer import PopulationTrainer

__all__ = ["ProxyTrainer"]


@final
class ProxyTrainer:
    """Trains one stored proposal on a data set and measures it, into `artifacts/proxy_runs/<id>/`.

    The population of one: `PopulationTrainer` does the work. The task decides the training: a classification head, or
    a causal model with loss on the target's tokens alone. AdamW in fp32, linear warm-up and decay, clipped gradients,
    batches of like length. On a CPU, two trainings of the same proposal, data, seed, steps and number of threads give
    the same weights bit for bit, however often one of them was killed and resumed.

    A lock keeps other processes off the same run folder.

    Args:
        proposal_id: Id of a stored proposal, or its unique beginning.
        settings: Workspace, threads and device; resolved from the environment by default.
        seed: Seed of head, adapter and dropout; the order of the data is `config.data_seed`'s.
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
        self._progress = progress
        self._clock = clock

    @property
    def run(self) -> RunFolder:
        """Where this proposal's trial is recorded."""
        return RunFolder.of(self.settings, self.proposal.id)

    def train(self, data_path: Path | str, steps: int) -> TrainingMetrics:
        """Trains for `steps` steps in all and returns what was measured, also where the trial diverged (`failed`).

        Called again, it returns the stored metrics of a finished trial at once, resumes a killed, interrupted, paused
        or stopped one exactly, extends one that was trained for fewer steps, and moves another trial's folder (other
        data, seed or config, or more steps than asked for) to `artifacts/proxy_runs_replaced/` to train anew.

        Args:
            data_path: Data folder, relative to the workspace or absolute.
            steps: Optimiser steps in all, at least 1.

        Raises:
            InvalidValueError: steps below 1.
            DataError: the data set is broken, or of another kind than the proposal's task.
            ModelError: the base model is not the one the proposal was made for.
            IntegrityError: the checkpoint to resume from is damaged.
            WorldError: another process trains this proposal, or there is too little memory.
            KeyboardInterrupt: Ctrl-C, after the state was saved.
        """
        trainer = PopulationTrainer(
            settings=self.settings, seed=self.seed, progress=self._progress, config=self.config, clock=self._clock
        )
        return trainer.train([self.proposal.id], data_path, steps).metrics[self.proposal.id]
