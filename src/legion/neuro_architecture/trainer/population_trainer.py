"""`PopulationTrainer`: many proposals over one frozen base in one process."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, final

from legion.foundation.clock import Clock, SystemClock
from legion.foundation.errors import InvalidValueError
from legion.foundation.progress import Progress, SilentProgress
from legion.foundation.settings import Settings
from legion.neuro_architecture.data.datasets import read_data
from legion.neuro_architecture.packed import Dispatch
from legion.neuro_architecture.records import ProposalStore
from legion.neuro_architecture.spec.task import TaskKind
from legion.neuro_architecture.spec.training import TrainingMetrics
from legion.neuro_architecture.trainer.admission import Admission, load_proposals
from legion.neuro_architecture.trainer.config import TrainerConfig
from legion.neuro_architecture.trainer.environment import torch_environment
from legion.neuro_architecture.trainer.ground import Ground
from legion.neuro_architecture.trainer.halving import halve
from legion.neuro_architecture.trainer.rungs import Rungs
from legion.neuro_architecture.trainer.session import PopulationSession

__all__ = ["PopulationReport", "PopulationTrainer"]


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class PopulationReport:
    """What a population left.

    Attributes:
        metrics: Of every proposal, by id, in the order asked for.
        record: How it was computed: groups, forms, what cache and rungs saved, memory, seconds.
    """

    metrics: dict[str, TrainingMetrics]
    record: dict[str, Any]


@final
class PopulationTrainer:
    """Trains stored proposals on one data set together, each into `artifacts/proxy_runs/<id>/`.

    One frozen base, the same batches in the same order for all, adapters of one family as one batched product, frozen
    layers once for everybody. What a proposal ends with is what a training alone would give, to the rounding of floats:
    losses are summed and never averaged across trials; rate, decay, clipping and draws are each trial's own.

    Args:
        settings: Workspace, threads and device; resolved from the environment by default.
        seed: Seed of heads, adapters and dropout; the order of the data is `config.data_seed`'s.
        progress: Is told of every step.
        config: Sizes and intervals; the defaults of the task's kind when left out.
        clock: Source of times and durations.
        dispatch: How to compute; measured on this machine when left out.
        places: Most trials held at once; the others wait, and paused ones go on from their checkpoints. None: all.
        memory_limit: Bytes that the population may need beside the base; what is free when left out.
    """

    def __init__(
        self,
        *,
        settings: Settings | None = None,
        seed: int = 0,
        progress: Progress | None = None,
        config: TrainerConfig | None = None,
        clock: Clock | None = None,
        dispatch: Dispatch | None = None,
        places: int | None = None,
        memory_limit: int | None = None,
    ) -> None:
        if places is not None and places < 1:
            raise InvalidValueError(f"places cannot be {places}", hint="leave it out to hold all trials at once")
        self.settings = settings or Settings.load()
        self.seed = seed
        self._config = config
        self._progress = progress or SilentProgress()
        self._clock = clock or SystemClock()
        self._dispatch = dispatch
        self._places = places
        self._memory_limit = memory_limit

    def train(
        self, proposal_ids: Sequence[str], data_path: Path | str, steps: int, *, rungs: Rungs | None = None
    ) -> PopulationReport:
        """Trains all for `steps` steps, or with `rungs` fewer and fewer of them; called again it goes on exactly.

        What each run folder holds is treated as `ProxyTrainer.train` says.

        Args:
            proposal_ids: Ids of stored proposals, or their unique beginnings; all for one base and kind of task.
            data_path: Data folder, relative to the workspace or absolute.
            steps: Optimiser steps of the whole schedule, at least 1.
            rungs: Where the worse trials stop; None trains all to the end.

        Raises:
            InvalidValueError: steps below 1, no proposal, one named twice, or proposals that share no base or task.
            UnknownNameError: no proposal has such an id.
            DataError: the data set is broken, or of another kind than the proposals' task.
            ModelError: the base model is not the one the proposals were made for.
            IntegrityError: a checkpoint to resume from is damaged.
            WorldError: another process trains one of them, or there is too little memory.
            KeyboardInterrupt: Ctrl-C, after every trial's state was saved.
        """
        proposals = load_proposals(ProposalStore(self.settings), proposal_ids)
        with self.open(data_path, steps, kind=proposals[0].task_kind) as session:
            session.add([proposal.id for proposal in proposals])
            passed = halve(session, rungs) if session.names else []
            found = session.metrics()
            record = session.record() | {"rungs": passed} if session.names else {"trained": 0}
        return PopulationReport(metrics={each.id: found[each.id] for each in proposals}, record=record)

    @contextlib.contextmanager
    def open(self, data_path: Path | str, steps: int, *, kind: TaskKind) -> Iterator[PopulationSession]:
        """A session whose trials somebody else leads: they are let in by and by, and the base is loaded once for all.

        Args:
            data_path: Data folder, relative to the workspace or absolute.
            steps: Optimiser steps of the whole schedule, at least 1.
            kind: Kind of the task; decides the sizes where no config was given.

        Raises:
            InvalidValueError: steps below 1.
            DataError: the data set is broken.
        """
        if steps < 1:
            raise InvalidValueError(f"steps must be at least 1, got {steps}", hint="for example: --steps 200")
        config = self._config or TrainerConfig.for_task(kind)
        data = read_data(self.settings.workspace / Path(data_path), kind=None)
        with torch_environment(self.settings) as device:
            ground = Ground(
                self.settings,
                data,
                config,
                device,
                self._progress,
                dispatch=self._dispatch,
                memory_limit=self._memory_limit,
            )
            admission = Admission(ground, seed=self.seed, steps=steps, places=self._places, clock=self._clock)
            with PopulationSession(
                admission, clock=self._clock, places=self._places, listener=self._progress
            ) as session:
                yield session
