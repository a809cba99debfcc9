"""What the trials of one session stand on: the base, the batches, and the pool over them."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property
from typing import Any, Final, final

import torch

from legion.foundation.errors import ModelError
from legion.foundation.progress import Progress
from legion.foundation.settings import Settings
from legion.neuro_architecture.anatomy import ModelAnatomy, inspect_model
from legion.neuro_architecture.data.base_models import BaseModel, resolve_base
from legion.neuro_architecture.data.datasets import DataSet
from legion.neuro_architecture.packed import Dispatch, Pool
from legion.neuro_architecture.packed.cut import expected_cut
from legion.neuro_architecture.packed.dispatch import choose_dispatch
from legion.neuro_architecture.packed.memory import MemberNeeds, MemoryPlan, plan_memory
from legion.neuro_architecture.packed.prefix import CacheBudget
from legion.neuro_architecture.spec.proposal import ArchitectureProposal
from legion.neuro_architecture.trainer.config import TrainerConfig
from legion.neuro_architecture.trainer.feed import Feed
from legion.neuro_architecture.trainer.measuring import free_memory, reset_peaks
from legion.neuro_architecture.trainer.population import Population

__all__ = ["Ground"]

_MB: Final = 1_000_000
_FLOAT_BYTES: Final = 4


@final
class Ground:
    """Loaded when the first trial needs it, once.

    Args:
        settings: Threads, device, where frozen states may be kept.
        data: The data set.
        config: Sizes.
        device: Where.
        listener: Is told of every step.
        dispatch: How to compute; measured on this machine when left out.
        memory_limit: Bytes beside the base; what is free when left out.
    """

    def __init__(
        self,
        settings: Settings,
        data: DataSet,
        config: TrainerConfig,
        device: torch.device,
        listener: Progress,
        *,
        dispatch: Dispatch | None,
        memory_limit: int | None,
    ) -> None:
        self.settings = settings
        self.data = data
        self.config = config
        self.device = device
        self._listener = listener
        self._dispatch = dispatch
        self._memory_limit = memory_limit
        self._base: BaseModel | None = None
        self._population: Population | None = None
        self._anatomy: ModelAnatomy | None = None
        self.facts: dict[str, Any] = {}

    def base_of(self, proposal: ArchitectureProposal) -> BaseModel:
        """The base model that the proposal was made for.

        Raises:
            ModelError: what bears its name now is another one.
        """
        if self._base is None or self._base.reference.name != proposal.base.name:
            self._base = resolve_base(proposal.base.name, self.settings)
        if self._base.reference.digest != proposal.base.digest:
            raise ModelError(
                f"base model {proposal.base.name!r} is not the one proposal {proposal.id} was made for",
                cause=f"weights are {self._base.reference.digest}, the proposal says {proposal.base.digest}",
                hint="generate proposals for the base as it is now: legion generate",
            )
        return self._base

    @property
    def population(self) -> Population:
        """Who steps the trials; there is none before `prepare`."""
        if self._population is None:
            raise RuntimeError("no trial has needed the base yet")
        return self._population

    @cached_property
    def feed(self) -> Feed:
        """The same batches and watched examples for all."""
        if self._base is None:
            raise RuntimeError("no trial has named the base yet")
        return Feed(self._base, self.data, self.config)

    def prepare(self, proposals: Sequence[ArchitectureProposal], *, num_trials: int) -> None:
        """Makes sure that these trials can be held at once, and at the first call loads the base.

        Args:
            proposals: All that will be held at once.
            num_trials: That are trained in this process; one's peak memory is its own.

        Raises:
            WorldError: they do not fit; says how many would.
        """
        if self._anatomy is not None:
            self.facts["memory"] = self._plan(proposals, self._anatomy).to_dict()
            return
        is_peak_known = reset_peaks(self.device)
        base = self.base_of(proposals[0])
        model = base.load(self.data.spec)
        self._anatomy = inspect_model(model)
        plan = self._plan(proposals, self._anatomy)
        pool = Pool(
            model,
            key={"base": base.reference.digest},
            dispatch=plan.dispatch,
            device=self.device,
            budget=CacheBudget(
                memory_bytes=self.settings.prefix_memory_mb * _MB,
                disk_bytes=self.settings.prefix_disk_mb * _MB,
                folder=self.settings.home / "frozen_states",
            ),
        )
        self._population = Population(pool, self.feed, self.config, self._listener)
        scope = ("trial" if num_trials == 1 else "population") if is_peak_known else "process"
        self.facts |= {"memory": plan.to_dict(), "peak_memory_scope": scope}

    def close(self) -> None:
        """Ends the pool's threads."""
        if self._population is not None:
            self._population.pool.close()

    def _plan(self, proposals: Sequence[ArchitectureProposal], anatomy: ModelAnatomy) -> MemoryPlan:
        needs = [
            MemberNeeds(num_parameters=proposal.trainable_parameters, cut=expected_cut(proposal.architecture, anatomy))
            for proposal in proposals
        ]
        kept = sum(
            (self.feed.num_train if cut.is_read_only else self.feed.num_train_tokens) * cut.width(anatomy.hidden_size)
            for cut in {item.cut for item in needs}
            if cut.passes
        )
        return plan_memory(
            needs,
            anatomy,
            self._dispatch or choose_dispatch(self.settings, self.device),
            batch=max(proposal.training.batch_size for proposal in proposals),
            length=self.feed.longest,
            cache_bytes=min(_FLOAT_BYTES * kept, self.settings.prefix_memory_mb * _MB),
            limit_bytes=self._memory_limit or free_memory(self.device),
        )
