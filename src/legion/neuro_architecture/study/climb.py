"""One generation from rung to rung: advance, look, decide, write down, act."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final, final

from legion.neuro_architecture.scheduler import Contender, Decision, RungRule, Verdict
from legion.neuro_architecture.spec.ports import TrialRunner
from legion.neuro_architecture.spec.training import TrainingMetrics, TrialState
from legion.neuro_architecture.study.space import StudySpace
from legion.neuro_architecture.study.state import Look, StudyState, TrialRecord

__all__ = ["Climb"]

# Operations of a training step over those of a forward pass: forward, and twice as much backward.
_TRAINING_PASSES: Final = 3.0

Evaluate = Callable[[Sequence[str]], Mapping[str, Mapping[str, float]]]


@final
class Climb:
    """Leads trials through the rungs. Every decision is written before it is acted on, so a kill repeats none.

    Args:
        space: What trials are compared on.
        runner: Who trains.
        save: Writes the state down.
        evaluate: Objectives that only the evaluator measures, of trials that went to the end, by id.
        must_stop: Asked before each rung whether to leave off.
    """

    def __init__(
        self,
        space: StudySpace,
        runner: TrialRunner,
        *,
        save: Callable[[StudyState], StudyState],
        evaluate: Evaluate,
        must_stop: Callable[[StudyState], bool],
    ) -> None:
        self._space = space
        self._runner = runner
        self._save = save
        self._evaluate = evaluate
        self._must_stop = must_stop
        self._entered: dict[str, None] = {}
        self._done = 0
        scheduler = space.recipe.scheduler
        self._rungs = (*scheduler.rungs, scheduler.steps)

    def climb(self, state: StudyState, number: int) -> tuple[StudyState, bool]:
        """The state after a generation's rungs, and whether all of them were decided."""
        for rung in self._rungs:
            if rung in state.generations[number].decided:
                continue
            if self._must_stop(state):
                self._runner.pause([name for name in self._entered if state.trials[name].phase == "proposed"])
                return state, False
            waiting = self._waiting(state, number, rung)
            self._enter(waiting)
            self._announce(number, waiting, rung)
            state = self._look(state, waiting, rung)
            state, decisions = self._decide(state, number, rung)
            generation = state.generations[number]
            state = self._save(
                state.with_generation(number, generation.model_copy(update={"decided": (*generation.decided, rung)}))
            )
            self._act(decisions)
        return state, True

    def _waiting(self, state: StudyState, number: int, rung: int) -> list[str]:
        """Who has to come to the rung: at the first the generation, later all that went on from the one before."""
        place = self._rungs.index(rung)
        if place == 0:
            return [name for name in state.generations[number].trials if state.trials[name].phase == "proposed"]
        before = self._rungs[place - 1]
        return [
            trial.id
            for trial in state.trials.values()
            if trial.phase == "proposed"
            and trial.look_at(rung) is None
            and (look := trial.look_at(before)) is not None
            and look.decision == "continue"
        ]

    def _announce(self, number: int, waiting: Sequence[str], rung: int) -> None:
        """Tells how far the runner will have come, in steps of all trials that it has seen."""
        place = self._rungs.index(rung)
        self._done += (rung - (self._rungs[place - 1] if place else 0)) * len(waiting)
        self._runner.announce(f"generation {number}, {len(waiting)} trials to step {rung}", self._done)

    def _look(self, state: StudyState, waiting: Sequence[str], rung: int) -> StudyState:
        if rung == self._rungs[-1]:
            self._runner.finish(waiting)
        else:
            self._runner.advance(waiting, rung)
        metrics = self._runner.metrics()
        alive = [name for name in waiting if metrics[name].state is not TrialState.FAILED]
        evaluated = self._evaluate(alive) if rung == self._rungs[-1] and self._space.criteria.is_evaluated else {}
        for name in waiting:
            trial = state.trials[name]
            if name in alive:
                state = state.with_trial(self._with_look(trial, rung, evaluated.get(name, {})))
            else:
                state = state.with_trial(_failed(trial, metrics[name]))
        return state

    def _enter(self, names: Sequence[str]) -> None:
        fresh = [name for name in names if name not in self._entered]
        if fresh:
            self._runner.add(fresh)
            self._entered |= dict.fromkeys(fresh)
            self._done += sum(map(self._runner.step_of, fresh))

    def _with_look(self, trial: TrialRecord, rung: int, evaluated: Mapping[str, float]) -> TrialRecord:
        standing = self._runner.standing(trial.id, rung)
        if standing is None:
            raise RuntimeError(f"trial {trial.id} left no standing at step {rung}")
        is_end = rung == self._rungs[-1]
        look = Look(
            steps=rung,
            values=self._space.criteria.values_at(standing, trial.predicted, evaluated),
            loss=standing.loss,
            expected_accuracy=standing.expected_accuracy,
            decision="end" if is_end else None,
        )
        return trial.model_copy(
            update={
                "looks": (*trial.looks, look),
                "phase": "completed" if is_end else trial.phase,
                "flops": self._flops(trial, rung),
            }
        )

    def _flops(self, trial: TrialRecord, steps: int) -> float:
        _, recipe = self._space.points.candidate(trial.point)
        forward = trial.predicted["cost"]
        return _TRAINING_PASSES * forward * recipe.batch_size * steps

    def _decide(self, state: StudyState, number: int, rung: int) -> tuple[StudyState, dict[str, Decision]]:
        if rung == self._rungs[-1]:
            return state, {}
        generation = state.generations[number]
        scheduler = self._space.recipe.scheduler
        rule = RungRule(factor=generation.factor, delta=scheduler.delta)
        there = [
            trial
            for trial in state.trials.values()
            if trial.look_at(rung) is not None and (scheduler.kind == "asha" or trial.generation == number)
        ]
        decisions = rule.decide([self._contender(trial, rung) for trial in there])
        for name, decision in decisions.items():
            state = state.with_trial(_decided(state.trials[name], rung, decision))
        return state, decisions

    def _contender(self, trial: TrialRecord, rung: int) -> Contender:
        look = trial.look_at(rung)
        if look is None:
            raise RuntimeError(f"trial {trial.id} was not at step {rung}")
        criteria = self._space.criteria
        standing = self._runner.standing(trial.id, rung)
        return Contender(
            name=trial.id,
            losses=criteria.losses(look.values, expected_accuracy=look.expected_accuracy),
            violation=criteria.violation(look.values, is_final=False),
            examples=None if standing is None else standing.losses,
            is_decided=look.decision in {"continue", "stop"} or trial.phase == "failed",
            is_exploratory=trial.is_exploratory,
        )

    def _act(self, decisions: Mapping[str, Decision]) -> None:
        for name, decision in decisions.items():
            if decision.verdict is Verdict.STOP:
                self._enter([name])
                self._runner.stop(name, decision.reason)
        self._runner.pause([name for name, each in decisions.items() if each.verdict is Verdict.PAUSE])


def _failed(trial: TrialRecord, metrics: TrainingMetrics) -> TrialRecord:
    update: dict[str, Any] = {"phase": "failed", "reason": metrics.reason or "the trial diverged"}
    return trial.model_copy(update=update)


def _decided(trial: TrialRecord, rung: int, decision: Decision) -> TrialRecord:
    looks = tuple(
        look.model_copy(update={"decision": decision.verdict.value, "reason": decision.reason})
        if look.steps == rung
        else look
        for look in trial.looks
    )
    phase = {Verdict.CONTINUE: "proposed", Verdict.PAUSE: "paused", Verdict.STOP: "stopped"}[decision.verdict]
    return trial.model_copy(update={"looks": looks, "phase": phase})
