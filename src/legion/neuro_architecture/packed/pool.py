"""A population of adapters over one frozen base, stepped and measured together."""

from __future__ import annotations

import concurrent.futures
import gc
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar, final

import torch
from torch import Tensor

from legion.foundation.errors import InvalidValueError
from legion.foundation.rng import RandomStream
from legion.neuro_architecture.anatomy import inspect_model
from legion.neuro_architecture.packed.attention import Context
from legion.neuro_architecture.packed.cut import Cut
from legion.neuro_architecture.packed.dispatch import Dispatch
from legion.neuro_architecture.packed.group import Group, Judged, PackedGroup, StepOutcome, Turn, WholeGroup
from legion.neuro_architecture.packed.grouping import partition
from legion.neuro_architecture.packed.inputs import Inputs, Reading, read_inputs
from legion.neuro_architecture.packed.member import Member, fresh_model, stored_model
from legion.neuro_architecture.packed.prefix import CacheBudget, Prefix, PrefixCounts
from legion.neuro_architecture.packed.recording import Recorder, Studio
from legion.neuro_architecture.packed.stacking import Arena
from legion.neuro_architecture.packed.trunk import find_trunk
from legion.neuro_architecture.spec.architecture import AnyArchitecture
from legion.neuro_architecture.spec.proposal import BaseReference, TrainingRecipe

__all__ = ["Pool", "PoolReport"]

Found = TypeVar("Found")


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class PoolReport:
    """How a pool computes.

    Attributes:
        groups: Names of the members that pass through the base together, group by group.
        forms: How each member there ever was takes part: `stacked`, `looped` or `whole`.
        prefix: Block passes below the adapters: wanted and run.
        cache_memory_bytes: States kept in memory.
        cache_disk_bytes: States kept in files.
        dispatch: The machine's choices.
    """

    groups: tuple[tuple[str, ...], ...]
    forms: dict[str, str]
    prefix: PrefixCounts
    cache_memory_bytes: int
    cache_disk_bytes: int
    dispatch: Dispatch


@final
class Pool:
    """Members over one base. One caller at a time; its groups run on threads of their own.

    Members never mix: losses are summed, gradients, clipping, moments and random draws are each member's own. What a
    member computes depends on its group's size in the last bits of a float and on nothing else of its neighbours.

    Args:
        model: The bare base in eval mode, fp32, on the CPU; its weights are frozen, and cast where `dispatch` says.
        key: What names the base in kept states: digest, tokenizer.
        dispatch: How to compute.
        device: Where.
        budget: Where frozen states may be kept.
    """

    def __init__(
        self, model: Any, *, key: Mapping[str, str], dispatch: Dispatch, device: torch.device, budget: CacheBudget
    ) -> None:
        model.config.use_cache = False
        self._dtype = getattr(torch, dispatch.precision)
        self._base = model.requires_grad_(requires_grad=False).to(device, self._dtype).eval()
        self._device = device
        self._dispatch = dispatch
        self._anatomy = inspect_model(model)
        self._trunk = find_trunk(model, self._anatomy, dispatch.kernel)
        self._members: dict[str, Member] = {}
        self._forms: dict[str, str] = {}
        self._groups: dict[tuple[str, ...], Group] = {}
        self._arena = Arena()
        self._studio = Studio(device) if dispatch.graphs and device.type == "cuda" else None
        self._workers = concurrent.futures.ThreadPoolExecutor(dispatch.workers) if dispatch.workers > 1 else None
        self.prefix = (
            Prefix(self._trunk, dict(key), width=self._anatomy.hidden_size, dtype=self._dtype, budget=budget)
            if self._trunk
            else None
        )

    @property
    def device(self) -> torch.device:
        return self._device

    @property
    def precision(self) -> str:
        """Of the frozen base and the activations."""
        return self._dispatch.precision

    @property
    def num_blocks(self) -> int:
        return self._anatomy.num_layers

    @property
    def is_known(self) -> bool:
        """Whether the base's blocks are known one by one; else every member runs as a whole."""
        return self._trunk is not None

    @property
    def members(self) -> tuple[Member, ...]:
        return tuple(self._members.values())

    def add(self, name: str, architecture: AnyArchitecture, recipe: TrainingRecipe, stream: RandomStream) -> Member:
        """A fresh member, drawn from `stream`.

        Raises:
            InvalidValueError: the name is taken.
            AdapterError: the architecture does not fit the base.
        """
        model = fresh_model(self._base, architecture, self._anatomy, stream)
        return self._take(name, model, recipe, stream)

    def load(self, name: str, folder: Path, reference: BaseReference) -> Member:
        """A member with the adapter that a folder holds.

        Raises:
            InvalidValueError: the name is taken.
            AdapterError: the files are damaged, do not fit, or belong to another base.
        """
        model = stored_model(self._base, folder, reference, self._anatomy)
        return self._take(name, model, TrainingRecipe(), RandomStream(0))

    def _take(self, name: str, model: Any, recipe: TrainingRecipe, stream: RandomStream) -> Member:
        if name in self._members:
            raise InvalidValueError(f"the pool has a member {name!r} already")
        self._members[name] = Member(name, model, recipe, self._anatomy, stream, is_known=self.is_known)
        self._forms[name] = self._members[name].form
        return self._members[name]

    def drop(self, names: Sequence[str]) -> None:
        """Lets members go; stacks that held them are made anew without them, and their memory is returned."""
        gone = set(names)
        self._members = {name: member for name, member in self._members.items() if name not in gone}
        self._part(gone)

    def read(self, batch: dict[str, Tensor]) -> Inputs:
        """A collated batch with what the base's head reads of it; a classifier's may come without labels."""
        if "labels" not in batch and not self._anatomy.is_causal:
            batch = batch | {"labels": torch.zeros(len(batch["input_ids"]), dtype=torch.long)}
        reading: Reading = self._trunk.reading if self._trunk else "targets" if self._anatomy.is_causal else "first"
        return read_inputs(
            batch,
            reading,
            self._device,
            pad_token_id=self._base.config.pad_token_id,
            multiple=self._dispatch.length_multiple,
        )

    def step(
        self, split: str, examples: Sequence[int], inputs: Inputs, turns: Mapping[str, Turn]
    ) -> dict[str, StepOutcome]:
        """One update of each member that has a turn, all on the same batch.

        Args:
            split: Name of the split.
            examples: The batch's examples, as numbers within it.
            inputs: The batch.
            turns: By member.
        """

        def work(group: Group, x: Tensor, context: Context | None) -> list[StepOutcome]:
            return group.step(x, context, inputs, [turns[member.name] for member in group.members])

        return self._run(split, examples, inputs, list(turns), work)

    def measure(self, split: str, examples: Sequence[int], inputs: Inputs, names: Sequence[str]) -> dict[str, Judged]:
        """Each member's predictions for the batch; the frozen part is computed once for all."""

        def work(group: Group, x: Tensor, context: Context | None) -> list[Judged]:
            return group.measure(x, context, inputs)

        return self._run(split, examples, inputs, names, work)

    def report(self) -> PoolReport:
        """How it computes by now."""
        return PoolReport(
            groups=tuple(tuple(key) for key in self._groups),
            forms=dict(self._forms),
            prefix=self.prefix.counts if self.prefix else PrefixCounts(),
            cache_memory_bytes=self.prefix.memory_bytes if self.prefix else 0,
            cache_disk_bytes=self.prefix.disk_bytes if self.prefix else 0,
            dispatch=self._dispatch,
        )

    def close(self) -> None:
        """Ends the threads."""
        if self._workers is not None:
            self._workers.shutdown()

    def _run(
        self,
        split: str,
        examples: Sequence[int],
        inputs: Inputs,
        names: Sequence[str],
        work: Callable[[Group, Tensor, Context | None], list[Found]],
    ) -> dict[str, Found]:
        groups = self._grouped(names)
        context = self._trunk.context(inputs.mask) if self._trunk else None
        states: dict[Cut, Tensor] = {}
        if self.prefix is not None and context is not None:
            wanted: dict[Cut, int] = {}
            for group in groups:
                if group.members[0].form != "whole":
                    wanted[group.cut] = wanted.get(group.cut, 0) + len(group.members)
            states = self.prefix.states(split, examples, inputs, context, wanted)
        nothing = torch.empty(0)
        jobs = [(group, states.get(group.cut, nothing)) for group in groups]
        if self._workers is None or len(jobs) == 1:
            results = [work(group, x, context) for group, x in jobs]
        else:
            futures = [self._workers.submit(_alone, work, group, x, context) for group, x in jobs]
            results = [future.result() for future in futures]
        return {
            member.name: outcome
            for group, outcomes in zip(groups, results, strict=True)
            for member, outcome in zip(group.members, outcomes, strict=True)
        }

    def _grouped(self, names: Sequence[str]) -> list[Group]:
        """The groups of these members; made anew where the company changed."""
        parts = partition([self._members[name] for name in names], self._dispatch, num_blocks=self.num_blocks)
        wanted = [tuple(member.name for member in part) for part in parts]
        moved = {name for key in wanted if key not in self._groups for name in key}
        self._part(moved)
        for key in wanted:
            if key not in self._groups:
                self._groups[key] = self._make([self._members[name] for name in key])
        return [self._groups[key] for key in wanted]

    def _part(self, names: set[str]) -> None:
        """Lets go of the groups that hold any of these members, and at once of what they had recorded."""
        kept = {key: group for key, group in self._groups.items() if not names.intersection(key)}
        is_fewer = len(kept) < len(self._groups)
        self._groups = kept
        if is_fewer and self._studio is not None:
            gc.collect()  # a group and its corrections hold each other

    def _make(self, members: Sequence[Member]) -> Group:
        # what is recorded keeps its addresses, which the shared memory would change when it grows
        is_shared = self._workers is None and self._studio is None
        arena = self._arena if is_shared else Arena()
        if self._trunk is None or members[0].form == "whole":
            return WholeGroup(members[0], self._device, arena)
        head = None
        if self._anatomy.is_causal:
            head = self._base.get_submodule(self._trunk.head_name)
        recorder = None if self._studio is None else Recorder(self._studio)
        return PackedGroup(members, self._trunk, head, arena, recorder)


def _alone(
    work: Callable[[Group, Tensor, Context | None], list[Found]], group: Group, x: Tensor, context: Context | None
) -> list[Found]:
    """On a worker: one thread for torch, whatever the machine has."""
    torch.set_num_threads(1)
    return work(group, x, context)
