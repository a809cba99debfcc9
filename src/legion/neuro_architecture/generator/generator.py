"""Makes proposals: even over the strategies, valid for the model, never twice the same, reproducible by seed."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import final

from legion.foundation.errors import InvalidValueError
from legion.foundation.rng import RandomStream
from legion.foundation.settings import Settings
from legion.neuro_architecture.generator.learned import learned_candidates
from legion.neuro_architecture.generator.problem import Problem, pose_problem
from legion.neuro_architecture.generator.proposing import make_proposal
from legion.neuro_architecture.generator.target import TargetConstraint
from legion.neuro_architecture.portability.values import Target
from legion.neuro_architecture.records import ProposalStore
from legion.neuro_architecture.space import (
    Candidate,
    SearchSpace,
    calibrate,
    check_strategies,
)
from legion.neuro_architecture.spec.architecture import DEFAULT_STRATEGIES
from legion.neuro_architecture.spec.proposal import ArchitectureProposal

__all__ = ["ArchitectureGenerator"]


@final
class ArchitectureGenerator:
    """Proposes adapter architectures.

    The same seed, task, base, strategies and machine give the same files, byte for byte; a larger `n` begins with the
    proposals of a smaller one. The order of `strategies` does not matter.

    Args:
        seed: Decides the draws.
        settings: The workspace that proposals are stored in; by default the one around the current folder.
    """

    def __init__(self, seed: int = 0, *, settings: Settings | None = None) -> None:
        self.seed = seed
        self._settings = settings or Settings.load()

    def generate(
        self,
        task: str,
        n: int,
        strategies: Sequence[str] | None = None,
        *,
        base: str | None = None,
        data: Path | str | None = None,
        target: Target | None = None,
        learn: bool = False,
    ) -> list[ArchitectureProposal]:
        """Makes `n` proposals and stores them under `orchestrator/proposals/`.

        Strategies take turns, each beginning with its well-known good default. No two proposals have the same
        semantic hash, whatever their recipes. A strategy that runs out, or of which nothing can be served by the
        target, leaves its turns to the others.

        Args:
            task: An embedded task, or with `data` any label.
            n: How many.
            strategies: Families to propose; by default LoRA, Adapter and MoE.
            base: Base model; by default the settings' one, then the one of the embedded task of this kind.
            data: Data set that the proposals are for; its kind, labels and lengths are used.
            target: Who is to serve what is trained: only architectures whose portability plan is possible there are
                proposed.
            learn: Whether to learn from trials of this workspace for the same task and base, where there are some:
                proposals come from where these were accurate and quick, and none of them again.

        Raises:
            InvalidValueError: `n` is below 1 or above what the space holds; a strategy is named twice, or fits nothing
                of the base.
            NotPortableError: the target can serve none.
            UnknownNameError: no such task, strategy, base or target.
            DataError: the data set is broken.
            ModelError: the base model cannot be used for the task.
        """
        _check_count(n)
        chosen = check_strategies(DEFAULT_STRATEGIES if strategies is None else strategies)
        constraint = None if target is None else TargetConstraint(target)
        problem = pose_problem(task, base=base, data=data, settings=self._settings)
        space = SearchSpace(problem.anatomy, chosen)
        if strategies is not None:
            _check_fits(space, problem)
        if constraint is not None:
            space = constraint.narrow(space, problem)
        _check_room(n, space, problem)
        calibration = calibrate(self._settings)
        learned = self._learned(n, space, problem) if learn else None
        candidates = itertools.islice(self._candidates(space), n) if learned is None else learned
        proposals = [make_proposal(problem, each, calibration, seed=self.seed) for each in candidates]
        store = ProposalStore(self._settings)
        for proposal in proposals:
            store.save(proposal)
        return proposals

    def _learned(self, n: int, space: SearchSpace, problem: Problem) -> list[Candidate] | None:
        stream = RandomStream(self.seed).child("generator")
        return learned_candidates(problem, space.strategies, n, self._settings, stream, allow=space.allows)

    def _candidates(self, space: SearchSpace) -> Iterator[Candidate]:
        """The whole space, strategies taking turns; one that runs out leaves its turns to the others."""
        stream = RandomStream(self.seed).child("generator")
        walks = [space.walk(strategy, stream.child(strategy).random()) for strategy in space.strategies]
        while walks:
            for walk in tuple(walks):
                candidate = next(walk, None)
                if candidate is None:
                    walks.remove(walk)
                else:
                    yield candidate


def _check_count(n: int) -> None:
    if isinstance(n, bool) or not isinstance(n, int) or n < 1:
        raise InvalidValueError(f"n cannot be {n!r}", cause="it counts proposals", hint="ask for 1 or more: --n 8")


def _check_fits(space: SearchSpace, problem: Problem) -> None:
    """Refuses strategies that were asked for and of which nothing fits the base, each with its reasons."""
    reasons = {strategy: space.obstacles(strategy) for strategy in space.strategies if not space.size(strategy)}
    if reasons:
        raise InvalidValueError(
            f"{', '.join(reasons)} cannot be proposed for {problem.base.name} ({problem.base.model_type})",
            cause="\n".join(f"{strategy}: {'; '.join(mistakes)}" for strategy, mistakes in reasons.items()),
            hint="leave these strategies out, or name another base: --base",
        )


def _check_room(n: int, space: SearchSpace, problem: Problem) -> None:
    size = space.size()
    if n > size:
        raise InvalidValueError(
            f"n = {n} is more than the {size} distinct architectures of {', '.join(space.strategies)}",
            cause=f"that many are valid for {problem.base.name} ({problem.base.model_type})",
            hint="ask for fewer, or name more strategies",
        )
