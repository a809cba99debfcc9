"""Who may take part in a session: stored proposals of one base and task, each under its lock, begun where it stood."""

from __future__ import annotations

import contextlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, final

from legion.foundation.clock import Clock
from legion.foundation.errors import DataError, InvalidValueError
from legion.foundation.files import exclusive_lock
from legion.neuro_architecture.records import ProposalStore, RunFolder
from legion.neuro_architecture.spec.proposal import ArchitectureProposal
from legion.neuro_architecture.spec.training import TrainingMetrics
from legion.neuro_architecture.trainer.checkpoint import Checkpoint
from legion.neuro_architecture.trainer.execution import Execution, identity_of
from legion.neuro_architecture.trainer.ground import Ground
from legion.neuro_architecture.trainer.plan import Beginning, find_beginning, move_aside

__all__ = ["Admission", "Admitted", "load_proposals"]


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class Admitted:
    """What came of letting proposals in.

    Attributes:
        trials: Those to be trained, and where they go on.
        stored: Metrics of those that had ended before.
        passed: Their validation losses, by step.
    """

    trials: list[tuple[Execution, Checkpoint | None]]
    stored: dict[str, TrainingMetrics]
    passed: dict[str, dict[int, float]]


@final
class Admission:
    """Lets proposals in and keeps other processes off their run folders until it is closed.

    Args:
        ground: What they will stand on.
        seed: Seed of heads, adapters and dropout.
        steps: Steps of the whole schedule.
        places: Most trials held at once, or None.
        clock: Source of times.
    """

    def __init__(self, ground: Ground, *, seed: int, steps: int, places: int | None, clock: Clock) -> None:
        self.ground = ground
        self.steps = steps
        self._seed = seed
        self._places = places
        self._clock = clock
        self._locks = contextlib.ExitStack()
        self._proposals: list[ArchitectureProposal] = []

    @property
    def facts(self) -> Mapping[str, Any]:
        """For the session's record."""
        return self.ground.facts

    def run_of(self, name: str) -> RunFolder:
        """The run folder of a proposal."""
        return RunFolder.of(self.ground.settings, name)

    def admit(self, proposal_ids: Sequence[str], *, held: Sequence[ArchitectureProposal]) -> Admitted:
        """Lets stored proposals in.

        Args:
            proposal_ids: Their ids, or unique beginnings.
            held: Those that have a place already.
        """
        proposals = load_proposals(ProposalStore(self.ground.settings), proposal_ids, self._proposals)
        for proposal in proposals:
            self._check_task(proposal)
        self._lock(proposals)
        self._proposals += proposals
        beginnings = [(proposal, self._beginning(proposal)) for proposal in proposals]
        stored = {proposal.id: found.stored for proposal, found in beginnings if found.stored is not None}
        passed = {proposal.id: found.losses for proposal, found in beginnings if found.stored is not None}
        waiting = [(proposal, found) for proposal, found in beginnings if found.stored is None]
        if waiting:
            most = self._largest([*held, *(proposal for proposal, _ in waiting)])
            self.ground.prepare(most, num_trials=len(waiting) + len(held))
        return Admitted(
            trials=[(self._execution(proposal, found), found.checkpoint) for proposal, found in waiting],
            stored=stored,
            passed=passed,
        )

    def close(self) -> None:
        """Frees the locks, and what the trials stood on."""
        self.ground.close()
        self._locks.close()

    def _largest(self, proposals: Sequence[ArchitectureProposal]) -> list[ArchitectureProposal]:
        """The largest of them, where not all are held at once."""
        ordered = sorted(proposals, key=lambda proposal: -proposal.trainable_parameters)
        return ordered[: self._places or len(ordered)]

    def _check_task(self, proposal: ArchitectureProposal) -> None:
        data = self.ground.data
        if data.spec.kind != proposal.task_kind:
            raise DataError(
                f"{data.folder} is a {data.spec.kind} data set, proposal {proposal.id} is for {proposal.task_kind}",
                hint=f"legion generate --task {data.spec.name} --data {data.folder} proposes for this data",
            )

    def _lock(self, proposals: Sequence[ArchitectureProposal]) -> None:
        for proposal in sorted(proposals, key=lambda each: each.id):
            run = self.run_of(proposal.id)
            lock = run.path.with_name(f".{run.path.name}.lock")
            refusal = f"proposal {proposal.id} is being trained by another process"
            self._locks.enter_context(exclusive_lock(lock, refusal=refusal))

    def _beginning(self, proposal: ArchitectureProposal) -> Beginning:
        run = self.run_of(proposal.id)
        identity = identity_of(proposal, self.ground.data, self._seed, self.ground.config)
        beginning = find_beginning(run, identity, self.steps)
        if beginning.is_replacing:
            move_aside(self.ground.settings, run)
        return beginning

    def _execution(self, proposal: ArchitectureProposal, beginning: Beginning) -> Execution:
        return Execution(
            proposal,
            self.ground.base_of(proposal),
            self.ground.data,
            run=self.run_of(proposal.id),
            settings=self.ground.settings,
            seed=self._seed,
            steps=self.steps,
            config=self.ground.config,
            device=self.ground.device,
            clock=self._clock,
            checkpoint=beginning.checkpoint,
            found=beginning.found,
        )


def load_proposals(
    store: ProposalStore, proposal_ids: Sequence[str], others: Sequence[ArchitectureProposal] = ()
) -> list[ArchitectureProposal]:
    """The stored proposals, which with the others are all for one base and kind of task.

    Raises:
        InvalidValueError: none, one named twice, or they share no base or task.
        UnknownNameError: no proposal has such an id.
    """
    proposals = [store.load(proposal_id) for proposal_id in proposal_ids]
    everybody = [*others, *proposals]
    names = [proposal.id for proposal in everybody]
    if not proposals:
        raise InvalidValueError("no proposal to train", hint="legion proposals ls")
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        raise InvalidValueError(f"proposal {twice[0]} is named twice", cause="a population trains each once")
    for what, found in (
        ("base model", {proposal.base.digest: proposal.base.name for proposal in everybody}),
        ("kind of task", {proposal.task_kind: proposal.task_kind for proposal in everybody}),
    ):
        if len(found) > 1:
            raise InvalidValueError(
                f"the proposals are for more than one {what}",
                cause=", ".join(found.values()),
                hint="train those of one base and task together",
            )
    return proposals
