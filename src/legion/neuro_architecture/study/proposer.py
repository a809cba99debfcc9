"""Who makes a study's proposals: the generator, told of every trial, and the same again after a kill."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any, Final, final

from legion.foundation.errors import IntegrityError
from legion.foundation.rng import RandomStream
from legion.neuro_architecture.generator import PointGenerator, build_generator
from legion.neuro_architecture.objectives import Observation
from legion.neuro_architecture.records import ProposalStore
from legion.neuro_architecture.space import Point, PointSpace
from legion.neuro_architecture.study.space import StudySpace
from legion.neuro_architecture.study.state import Generation, StudyState, TrialRecord
from legion.neuro_architecture.study.warm import is_misleading, warmed

__all__ = ["Proposer"]

# What a trial that failed misses its constraints by: more than any that was measured.
_FAILED: Final = 1e9


@final
class Proposer:
    """Proposes generation by generation; a pure function of the recipe's seed and of what the trials showed.

    Args:
        space: What may be proposed.
        proposals: Where proposals are stored.
        earlier: What an earlier study was good at, or None.
    """

    def __init__(self, space: StudySpace, proposals: ProposalStore, earlier: dict[str, Any] | None = None) -> None:
        self._space = space
        self._proposals = proposals
        self._stream = RandomStream(space.recipe.seed).child("study")
        self._biased, self._carried = warmed(space.points, earlier, space.recipe.generator.batch)
        self._generator = self._build(self._biased)

    def replay(self, state: StudyState) -> None:
        """Brings the generator to where the study stands: it proposes again, and is told again.

        Raises:
            IntegrityError: it proposes otherwise than the study's record says.
        """
        for number, generation in enumerate(state.generations):
            points = self._generator.propose(len(generation.trials))
            stored = [state.trials[name].point for name in generation.trials]
            if points != stored:
                raise IntegrityError(
                    f"generation {number} of study {state.recipe.name} would be proposed otherwise today",
                    cause="the study was begun by another version, or its files were changed",
                    hint="begin a study of another name with the same recipe",
                )
            if generation.told is not None:
                self._generator.tell(self._observations(state, generation.told))
            if generation.is_warm_start_dropped:
                self._drop_warm_start(state, number)

    def _build(self, points: PointSpace) -> PointGenerator:
        return build_generator(self._space.recipe.generator.name, points, self._stream.child("generator"))

    def _drop_warm_start(self, state: StudyState, number: int) -> None:
        """From here on the space's own prior: a fresh generator, told all that is known."""
        self._biased, self._carried = self._space.points, frozenset()
        self._generator = self._build(self._biased)
        for generation in state.generations[: number + 1]:
            self._generator.tell(self._observations(state, generation.told or {}))

    def propose(self, state: StudyState, count: int, factor: float) -> StudyState:
        """The state with one more generation; of no trial where the space has run out."""
        number = len(state.generations)
        points = self._generator.propose(count)
        exploring = self._exploring(len(state.trials), len(points), number)
        trials = [
            self._trial(point, number, is_exploratory=place in exploring or point in self._carried)
            for place, point in enumerate(points)
        ]
        for trial in trials:
            state = state.with_trial(trial)
        return state.with_generation(number, Generation(trials=tuple(each.id for each in trials), factor=factor))

    def tell(self, state: StudyState, number: int) -> StudyState:
        """The state with a generation that the generator knows of, and whatever else trained on beside it."""
        before: dict[str, int] = {}
        for generation in state.generations[:number]:
            before |= generation.told or {}
        known = {trial.id: -1 if trial.phase == "failed" else len(trial.looks) for trial in state.trials.values()}
        told = {name: count for name, count in known.items() if count and before.get(name) != count}
        self._generator.tell(self._observations(state, told))
        state = state.with_generation(number, state.generations[number].model_copy(update={"told": told}))
        if self._biased is self._space.points or not is_misleading(state, self._biased, self._space.points):
            return state
        self._drop_warm_start(state, number)
        dropped = state.generations[number].model_copy(update={"is_warm_start_dropped": True})
        return state.with_generation(number, dropped)

    def _exploring(self, before: int, count: int, number: int) -> set[int]:
        """Which of a generation's trials are exploratory: as many as keep the recipe's share of all trials so far."""
        share = self._space.recipe.scheduler.exploratory
        wanted = math.floor(share * (before + count)) - math.floor(share * before)
        return set(self._stream.child(f"exploratory {number}").random().sample(range(count), wanted))

    def _trial(self, point: Point, generation: int, *, is_exploratory: bool) -> TrialRecord:
        points = self._space.points
        proposal = self._space.proposal(*points.candidate(point))
        self._proposals.save(proposal)
        return TrialRecord(
            id=proposal.id,
            point=point,
            traits=points.traits(point),
            generation=generation,
            origin="start" if point in self._biased.starts else self._generator.name,
            is_exploratory=is_exploratory,
            predicted=self._space.predicted(proposal.architecture),
        )

    def _observations(self, state: StudyState, told: Mapping[str, int]) -> list[Observation]:
        """What trials showed, as far as the generator was to know, in the order proposed."""
        ordered = [state.trials[name] for name in state.trials if name in told]
        return [self._observation(trial, told[trial.id]) for trial in ordered]

    def _observation(self, trial: TrialRecord, num_looks: int) -> Observation:
        criteria = self._space.criteria
        if num_looks < 0:
            losses = (0.0,) * len(criteria.objectives)
            return Observation(point=trial.point, losses=losses, violation=_FAILED, level=0)
        look = trial.looks[num_looks - 1]
        is_final = look.decision == "end"
        return Observation(
            point=trial.point,
            losses=criteria.losses(look.values, expected_accuracy=None if is_final else look.expected_accuracy),
            violation=min(criteria.violation(look.values, is_final=is_final), _FAILED),
            level=num_looks - 1,
        )
