"""The search: generations of proposals through the rungs until the budget is spent, then the front anew."""

from __future__ import annotations

import contextlib
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Final, final

from legion.foundation.clock import Clock, SystemClock
from legion.foundation.errors import InvalidValueError
from legion.foundation.files import exclusive_lock
from legion.foundation.machine import available_cores
from legion.foundation.progress import Progress, SilentProgress
from legion.foundation.settings import Settings
from legion.neuro_architecture.data.base_models import resolve_base
from legion.neuro_architecture.data.datasets import read_data
from legion.neuro_architecture.records import ProposalStore
from legion.neuro_architecture.runtime import WorkerPool
from legion.neuro_architecture.spec.ports import TrialRunner
from legion.neuro_architecture.study.budget import Budget
from legion.neuro_architecture.study.climb import Climb
from legion.neuro_architecture.study.criteria import EVALUATED, Criteria
from legion.neuro_architecture.study.finals import Finals
from legion.neuro_architecture.study.front import front_of, moment_of, reference_of
from legion.neuro_architecture.study.ladder import measure_ladder, next_factor
from legion.neuro_architecture.study.measuring import measure, measured_values
from legion.neuro_architecture.study.notes import (
    describe_generation,
    describe_warm_start,
    front_notes,
    refuse_all_failed,
    refuse_change,
)
from legion.neuro_architecture.study.proposer import Proposer
from legion.neuro_architecture.study.recipe import StudyRecipe
from legion.neuro_architecture.study.ridge import ridge_accuracies
from legion.neuro_architecture.study.session import SessionOf
from legion.neuro_architecture.study.space import StudySpace
from legion.neuro_architecture.study.state import StudyState, StudyStore
from legion.neuro_architecture.study.warm import WARM, data_embedding, find_earlier

__all__ = ["Search"]

_MOST_TOKENS: Final = 256
_RIDGE: Final = "ridge_accuracies"
_BASE: Final = "predicted_base"
# What of a problem is found once, when the study begins.
_AT_START: Final = (WARM, _RIDGE)


@final
class Search:
    """Runs one study, or goes on with it: whatever was decided before a kill is read, not decided again.

    Args:
        settings: The workspace that the study's folder is in.
        recipe: What is searched, where, for what.
        progress: Is told of every step.
        say: Called with a line when a part begins or has a result.
        clock: Source of durations.
        workers: Processes that train; they decide how fast trials come, not which.
    """

    def __init__(
        self,
        settings: Settings,
        recipe: StudyRecipe,
        *,
        progress: Progress | None = None,
        say: Callable[[str], None] = lambda _line: None,
        clock: Clock | None = None,
        workers: int = 1,
    ) -> None:
        if workers < 1:
            raise InvalidValueError(f"workers cannot be {workers}", hint="one or more processes train")
        self.recipe = recipe
        self._workers = workers
        self.store = StudyStore(settings, recipe.name)
        self.criteria = Criteria.of(recipe.objectives, recipe.constraints, recipe.weights)
        self.space = StudySpace(recipe, self.criteria, settings)
        self._outer = settings
        self._settings = replace(settings, workspace=self.store.folder)
        self._progress = progress or SilentProgress()
        self._say = say
        self._clock = clock or SystemClock()
        self._began_s = self._clock.monotonic_s()
        self._before_s = 0.0
        self._search_s = 0.0

    @property
    def data(self) -> Path:
        """Data folder, absolute."""
        return (self._outer.workspace / self.space.data).resolve()

    def run(self, budget: Budget) -> StudyState:
        """Searches until the budget is spent, trains the front anew and measures it; the state at the end.

        Raises:
            InvalidValueError: nothing can satisfy the constraints or measure an objective on this kind of task, or the
                study was begun with another recipe.
            TrainingError: no trial of a generation could be trained.
            WorldError: another process runs this study.
            KeyboardInterrupt: Ctrl-C, after everything was written down.
        """
        self.criteria.refuse_unmeasured(self.space.problem.kind)
        self.store.folder.mkdir(parents=True, exist_ok=True)
        with exclusive_lock(self.store.lock, refusal=f"study {self.recipe.name} is being run by another process"):
            self.store.stop_file.unlink(missing_ok=True)
            self._began_s = self._clock.monotonic_s()
            state = self._begin()
            state = self._search(state, budget)
            if self.store.stop_file.exists():
                return self._save(state.model_copy(update={"phase": "stopped"}))
            return self._finish(state)

    def _begin(self) -> StudyState:
        stored = self.store.read()
        problem = self._problem()
        if stored is None:
            reference = reference_of(self.criteria, self._worst_predicted(), self._num_labels)
            problem[_RIDGE] = self._ridge()
            if self.recipe.warm_start:
                problem[WARM] = find_earlier(self._outer, self.recipe.name, problem, self.space.points)
                self._say(describe_warm_start(problem[WARM]))
            return self._save(StudyState(recipe=self.recipe, problem=problem, reference_point=reference))
        refuse_change("recipe", stored.recipe.to_dict(), self.recipe.to_dict(), self.recipe.name)
        kept = {key: stored.problem.get(key) for key in _AT_START}
        refuse_change("problem", stored.problem | {_BASE: None}, problem | kept | {_BASE: None}, self.recipe.name)
        self._before_s, self._search_s = stored.spent_s, stored.search_s
        self._say(f"study {self.recipe.name} goes on: {len(stored.trials)} trials, {stored.spent_s:.0f} s spent")
        return stored.model_copy(update={"phase": "searching"})

    def _problem(self) -> dict[str, Any]:
        problem, data = self.space.problem, read_data(self.data)
        base = resolve_base(problem.base.name, self._outer)
        return {
            "task": problem.task,
            "kind": problem.kind,
            "base": problem.base.to_dict(),
            "data_digest": data.digest,
            "num_train": len(data.train),
            "sequence_length": problem.sequence_length,
            "space_size": self.space.points.size,
            _BASE: self.space.predicted_base(),
            "embedding": data_embedding(base, data, max_tokens=_MOST_TOKENS),
        }

    def _ridge(self) -> list[float] | None:
        """What a linear head reads off the frozen states; None where there are no labels to read."""
        problem = self.space.problem
        if problem.kind != "classification":
            return None
        return ridge_accuracies(
            resolve_base(problem.base.name, self._outer), read_data(self.data), max_tokens=_MOST_TOKENS
        )

    def _search(self, state: StudyState, budget: Budget) -> StudyState:
        proposer = Proposer(self.space, ProposalStore(self._settings), state.problem.get(WARM))
        with self._searching():
            proposer.replay(state)
        with self._runner() as runner:

            def must_stop(now: StudyState) -> bool:
                return self.store.stop_file.exists() or self._left(self._timed(now), budget, at_rung=True) <= 0.0

            climb = Climb(self.space, runner, save=self._save, evaluate=self._evaluate, must_stop=must_stop)
            while not self.store.stop_file.exists():
                number = len(state.generations) - 1
                if number < 0 or state.generations[number].told is not None:
                    begun = self._propose(state, budget, proposer)
                    if begun is None:
                        break
                    state, number = begun, number + 1
                state, is_done = climb.climb(state, number)
                if not is_done:
                    break
                refuse_all_failed(state, number)
                with self._searching():
                    state = proposer.tell(state, number)
                state = self._close_generation(state, number)
        return state

    def _propose(self, state: StudyState, budget: Budget, proposer: Proposer) -> StudyState | None:
        """The state with one more generation, written down; None where budget or space have run out."""
        left = self._left(state, budget)
        if left <= 0.0:
            return None
        count = self.recipe.generator.batch
        if budget.unit == "trials":
            count = min(count, math.floor(left))
        with self._searching():
            state = proposer.propose(state, count, next_factor(state))
        if not state.generations[-1].trials:
            self._say("the space has run out: every candidate was proposed")
            return None
        return self._save(state)

    def _close_generation(self, state: StudyState, number: int) -> StudyState:
        with self._searching():
            state = state.model_copy(update={"fidelity": measure_ladder(state, self._settings)})
            state = self._timed(state)
            moment = moment_of(state, self.criteria)
        state = self._save(state.model_copy(update={"history": (*state.history, moment)}))
        self._say(describe_generation(state, number, moment, self.criteria))
        return state

    def _finish(self, state: StudyState) -> StudyState:
        front = front_of(state, self.criteria)
        notes = front_notes(state, self.criteria)
        for line in notes:
            self._say(line)
        state = self._save(state.model_copy(update={"phase": "final", "notes": notes}))
        points = self.space.points
        chosen = [self.space.proposal(*points.candidate(each.point)) for each in front[: self.recipe.final.top]]
        if chosen:
            finals = Finals(self._settings, self.recipe, self.data, progress=self._progress, say=self._say)
            state = finals.run(state, chosen)
        return self._save(state.model_copy(update={"phase": "finished"}))

    @contextlib.contextmanager
    def _runner(self) -> Iterator[TrialRunner]:
        """Whoever trains: a session of this process, or several workers' sessions led as one."""
        recipe, kind = self.recipe, self.space.problem.kind
        opened = SessionOf(
            settings=self._settings,
            data=self.data,
            kind=kind,
            steps=recipe.scheduler.steps,
            seed=recipe.seed,
            places=recipe.training.places,
            validation_examples=recipe.training.validation_examples,
        )
        if self._workers == 1:
            with opened.open(self._progress, self._clock) as session:
                yield session
        else:
            threads = self._settings.threads or available_cores()
            shared = replace(opened, settings=replace(self._settings, threads=max(1, threads // self._workers)))
            with WorkerPool(shared, self._workers, listener=self._progress) as pool:
                yield pool

    def _evaluate(self, names: Sequence[str]) -> Mapping[str, Mapping[str, float]]:
        if not names:
            return {}
        summary = measure(
            names, self._settings, kind=self.space.problem.kind, seed=self.recipe.seed, progress=self._progress
        )
        found = {row.proposal_id: measured_values(row.measurements)[0] for row in summary.results}
        return {
            name: {key: value for key, value in values.items() if key in EVALUATED} for name, values in found.items()
        }

    def _left(self, state: StudyState, budget: Budget, *, at_rung: bool = False) -> float:
        if budget.unit == "trials" and at_rung:
            return 1.0  # what was proposed is trained
        reserve = self.recipe.final.share if self.recipe.final.top else 0.0
        return budget.left(seconds=state.spent_s, trials=len(state.trials), flops=state.spent_flops, reserve=reserve)

    def _save(self, state: StudyState) -> StudyState:
        timed = self._timed(state)
        self.store.write(timed)
        return timed

    def _timed(self, state: StudyState) -> StudyState:
        """The state with the seconds spent by now, those of earlier attempts included."""
        spent_s = self._before_s + self._clock.monotonic_s() - self._began_s
        return state.model_copy(update={"spent_s": spent_s, "search_s": self._search_s})

    @contextlib.contextmanager
    def _searching(self) -> Iterator[None]:
        """Counts the time within as the search's own."""
        began_s = self._clock.monotonic_s()
        try:
            yield
        finally:
            self._search_s += self._clock.monotonic_s() - began_s

    def _worst_predicted(self) -> dict[str, float]:
        rows = [self.space.predicted(each) for branch in self.space.points.branches for each in branch.architectures]
        return {name: max(row[name] for row in rows) for name in rows[0]}

    @property
    def _num_labels(self) -> int:
        return len(read_data(self.data).spec.labels)
