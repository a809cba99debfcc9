"""`PopulationTrainer`: many proposals over one frozen base in one process."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, final

import torch

from legion.foundation.clock import Clock, SystemClock
from legion.foundation.errors import DataError, InvalidValueError, ModelError, WorldError
from legion.foundation.files import exclusive_lock
from legion.foundation.progress import Progress, SilentProgress
from legion.foundation.settings import Settings
from legion.neuro_architecture.anatomy import ModelAnatomy, inspect_model
from legion.neuro_architecture.data.base_models import BaseModel, resolve_base
from legion.neuro_architecture.data.datasets import DataSet, read_data
from legion.neuro_architecture.packed import Dispatch, Pool
from legion.neuro_architecture.packed.cut import expected_cut
from legion.neuro_architecture.packed.dispatch import choose_dispatch
from legion.neuro_architecture.packed.memory import MemberNeeds, MemoryPlan, plan_memory
from legion.neuro_architecture.packed.prefix import CacheBudget
from legion.neuro_architecture.records import ProposalStore, RunFolder
from legion.neuro_architecture.spec.proposal import ArchitectureProposal
from legion.neuro_architecture.spec.training import TrainingMetrics
from legion.neuro_architecture.trainer.checkpoint import Checkpoint
from legion.neuro_architecture.trainer.config import TrainerConfig
from legion.neuro_architecture.trainer.environment import torch_environment
from legion.neuro_architecture.trainer.execution import Execution, identity_of
from legion.neuro_architecture.trainer.feed import Feed
from legion.neuro_architecture.trainer.halving import Halving
from legion.neuro_architecture.trainer.measuring import free_memory, reset_peaks
from legion.neuro_architecture.trainer.plan import Beginning, find_beginning, move_aside
from legion.neuro_architecture.trainer.population import Population
from legion.neuro_architecture.trainer.rungs import Rungs

__all__ = ["PopulationReport", "PopulationTrainer"]

_MB: Final = 1_000_000
_FLOAT_BYTES: Final = 4


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
        if steps < 1:
            raise InvalidValueError(f"steps must be at least 1, got {steps}", hint="for example: --steps 200")
        proposals = self._load(proposal_ids)
        config = self._config or TrainerConfig.for_task(proposals[0].task_kind)
        data = self._read_data(Path(data_path), proposals[0])
        with self._locked(proposals):
            return self._train(proposals, data, steps, config, rungs)

    def _load(self, proposal_ids: Sequence[str]) -> list[ArchitectureProposal]:
        store = ProposalStore(self.settings)
        proposals = [store.load(proposal_id) for proposal_id in proposal_ids]
        names = [proposal.id for proposal in proposals]
        if not proposals:
            raise InvalidValueError("no proposal to train", hint="legion proposals ls")
        twice = sorted({name for name in names if names.count(name) > 1})
        if twice:
            raise InvalidValueError(f"proposal {twice[0]} is named twice", cause="a population trains each once")
        for what, found in (
            ("base model", {proposal.base.digest: proposal.base.name for proposal in proposals}),
            ("kind of task", {proposal.task_kind: proposal.task_kind for proposal in proposals}),
        ):
            if len(found) > 1:
                raise InvalidValueError(
                    f"the proposals are for more than one {what}",
                    cause=", ".join(found.values()),
                    hint="train those of one base and task together",
                )
        return proposals

    @contextlib.contextmanager
    def _locked(self, proposals: Sequence[ArchitectureProposal]) -> Iterator[None]:
        with contextlib.ExitStack() as stack:
            for proposal in sorted(proposals, key=lambda each: each.id):
                run = RunFolder.of(self.settings, proposal.id)
                lock = run.path.with_name(f".{run.path.name}.lock")
                refusal = f"proposal {proposal.id} is being trained by another process"
                stack.enter_context(exclusive_lock(lock, refusal=refusal))
            yield

    def _train(
        self,
        proposals: Sequence[ArchitectureProposal],
        data: DataSet,
        steps: int,
        config: TrainerConfig,
        rungs: Rungs | None,
    ) -> PopulationReport:
        stored: dict[str, TrainingMetrics] = {}
        passed: dict[str, dict[int, float]] = {}
        waiting: list[tuple[ArchitectureProposal, RunFolder, Beginning]] = []
        for proposal in proposals:
            run = RunFolder.of(self.settings, proposal.id)
            beginning = find_beginning(run, identity_of(proposal, data, self.seed, config), steps)
            if beginning.stored is not None:
                stored[proposal.id] = beginning.stored
                passed[proposal.id] = beginning.losses
                continue
            if beginning.is_replacing:
                move_aside(self.settings, run)
            waiting.append((proposal, run, beginning))
        if not waiting:
            return PopulationReport(metrics={name: stored[name] for name in stored}, record={"trained": 0})
        base = self._resolve_base(proposals[0])
        with torch_environment(self.settings) as device:
            trials = [
                (
                    Execution(
                        proposal,
                        base,
                        data,
                        run=run,
                        settings=self.settings,
                        seed=self.seed,
                        steps=steps,
                        config=config,
                        device=device,
                        clock=self._clock,
                        checkpoint=beginning.checkpoint,
                        found=beginning.found,
                    ),
                    beginning.checkpoint,
                )
                for proposal, run, beginning in waiting
            ]
            found, record = self._run(trials, base, data, config, device, rungs, passed)
        metrics = stored | found
        return PopulationReport(metrics={each.id: metrics[each.id] for each in proposals}, record=record)

    def _run(
        self,
        trials: list[tuple[Execution, Checkpoint | None]],
        base: BaseModel,
        data: DataSet,
        config: TrainerConfig,
        device: torch.device,
        rungs: Rungs | None,
        passed: dict[str, dict[int, float]],
    ) -> tuple[dict[str, TrainingMetrics], dict[str, Any]]:
        is_peak_known = reset_peaks(device)
        feed = Feed(base, data, config)
        model = base.load(data.spec)
        plan = self._plan([trial for trial, _ in trials], feed, inspect_model(model), device)
        pool = Pool(
            model,
            key={"base": base.reference.digest},
            dispatch=plan.dispatch,
            device=device,
            budget=CacheBudget(
                memory_bytes=self.settings.prefix_memory_mb * _MB,
                disk_bytes=self.settings.prefix_disk_mb * _MB,
                folder=self.settings.home / "frozen_states",
            ),
        )
        population = Population(pool, feed, config, self._progress)
        halving = Halving(
            population, feed, config, clock=self._clock, device=device, places=self._places, listener=self._progress
        )
        halving.facts |= {
            "memory": plan.to_dict(),
            "peak_memory_scope": ("trial" if len(trials) == 1 else "population") if is_peak_known else "process",
        }
        try:
            found = halving.run(trials, rungs, passed)
        except torch.OutOfMemoryError as error:
            raise WorldError(
                f"the accelerator has too little memory for {len(trials)} trials at once",
                cause=str(error),
                hint="hold fewer at once (places), or train on the processor: LEGION_DEVICE=cpu",
            ) from error
        finally:
            pool.close()
        return found, halving.record()

    def _plan(self, trials: Sequence[Execution], feed: Feed, anatomy: ModelAnatomy, device: torch.device) -> MemoryPlan:
        """What the trials will need, largest first where not all are held at once.

        Raises:
            WorldError: they do not fit; says how many would.
        """
        needs = sorted(
            (
                MemberNeeds(
                    num_parameters=trial.proposal.trainable_parameters,
                    cut=expected_cut(trial.proposal.architecture, anatomy),
                )
                for trial in trials
            ),
            key=lambda item: -item.num_parameters,
        )
        kept = sum(
            (feed.num_train if cut.is_read_only else feed.num_train_tokens) * cut.width(anatomy.hidden_size)
            for cut in {item.cut for item in needs}
            if cut.passes
        )
        return plan_memory(
            needs[: self._places or len(needs)],
            anatomy,
            self._dispatch or choose_dispatch(self.settings, device),
            batch=max(trial.proposal.training.batch_size for trial in trials),
            length=feed.longest,
            cache_bytes=min(_FLOAT_BYTES * kept, self.settings.prefix_memory_mb * _MB),
            limit_bytes=self._memory_limit or free_memory(device),
        )

    def _read_data(self, folder: Path, proposal: ArchitectureProposal) -> DataSet:
        data = read_data(self.settings.workspace / folder, kind=None)
        if data.spec.kind != proposal.task_kind:
            raise DataError(
                f"{data.folder} is a {data.spec.kind} data set, proposal {proposal.id} is for {proposal.task_kind}",
                hint=f"legion generate --task {data.spec.name} --data {folder} proposes for this data",
            )
        return data

    def _resolve_base(self, proposal: ArchitectureProposal) -> BaseModel:
        wanted = proposal.base
        base = resolve_base(wanted.name, self.settings)
        if base.reference.digest != wanted.digest:
            raise ModelError(
                f"base model {wanted.name!r} is not the one proposal {proposal.id} was made for",
                cause=f"weights are {base.reference.digest}, the proposal says {wanted.digest}",
                hint="generate proposals for the base as it is now: legion generate",
            )
        return base
