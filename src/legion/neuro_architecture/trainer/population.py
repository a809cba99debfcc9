"""Trials that advance together: steps, validations and checkpoints of each in its order."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from typing import Final, final

import torch

from legion.foundation.errors import TrainingError
from legion.foundation.progress import Progress
from legion.foundation.rng import RandomStream
from legion.neuro_architecture.packed import Inputs, Member, Pool
from legion.neuro_architecture.packed.group import Judged, Turn
from legion.neuro_architecture.spec.training import TrialEvent, TrialState
from legion.neuro_architecture.trainer.checkpoint import Checkpoint
from legion.neuro_architecture.trainer.config import TrainerConfig
from legion.neuro_architecture.trainer.execution import Execution
from legion.neuro_architecture.trainer.feed import TRAIN, WATCHED, Feed
from legion.neuro_architecture.trainer.interrupts import hold_interrupts
from legion.neuro_architecture.trainer.schedule import affordable_validations, validation_points
from legion.neuro_architecture.trainer.validation import validation_of

__all__ = ["Population"]

_METRIC: Final = {"classification": "accuracy", "summarization": "token_accuracy"}


@final
class Population:
    """Executions over one pool. For one thread; Ctrl-C leaves every trial between two of its steps.

    A trial's numbers are its own: it may enter late, pause, go on elsewhere or fail, and its neighbours end with the
    same weights.

    Args:
        pool: The frozen base with its members.
        feed: Batches and watched examples.
        config: Sizes and intervals.
        listener: Is told of every step.
    """

    def __init__(self, pool: Pool, feed: Feed, config: TrainerConfig, listener: Progress) -> None:
        self.pool = pool
        self._feed = feed
        self._config = config
        self._listener = listener
        self._members: dict[str, Member] = {}
        self._seen: dict[str, Execution] = {}
        self._watched: list[tuple[list[int], Inputs]] | None = None

    def member(self, trial: Execution) -> Member:
        """The pool's member of a trial that has entered."""
        return self._members[trial.run.path.name]

    def holds(self, trial: Execution) -> bool:
        """Whether a trial has a place."""
        return trial.run.path.name in self._members

    def enter(self, trial: Execution, checkpoint: Checkpoint | None) -> None:
        """Gives a trial a place in the pool, fresh or from its checkpoint.

        Raises:
            AdapterError: its architecture does not fit the base.
        """
        stream = RandomStream(trial.seed).child("trainer")
        proposal = trial.proposal
        member = self.pool.add(trial.run.path.name, proposal.architecture, proposal.training, stream)
        if checkpoint is not None:
            member.set_weights(checkpoint.weights)
            member.optimizer.set_moments(checkpoint.moments)
            trial.progress.best_weights = checkpoint.progress.best_weights
        self._members[trial.run.path.name] = member
        self._seen[trial.run.path.name] = trial
        trial.population |= self._place_of(member)
        trial.begin(member)

    def leave(self, trial: Execution) -> None:
        """Takes a trial out of the pool; its memory is returned."""
        name = trial.run.path.name
        self.pool.drop([name])
        self._members.pop(name, None)
        trial.progress.best_weights = {}  # the checkpoint has them
        trial.close()

    def advance(self, trials: Sequence[Execution], until: int) -> None:
        """Trains all to `until` finished steps, with their validations and checkpoints; diverged ones end as failed.

        Raises:
            KeyboardInterrupt: Ctrl-C; every trial's state between two steps is saved.
        """
        points = {id(trial): self._points(trial, until) for trial in trials}
        try:
            while True:
                self._validate([trial for trial in trials if _is_validation_due(trial, points[id(trial)])], until)
                waiting = [
                    trial for trial in trials if trial.state is TrialState.RUNNING and trial.progress.step < until
                ]
                if not waiting:
                    return
                self._save([trial for trial in waiting if trial.is_save_due()])
                with hold_interrupts():
                    cohort = self._step(waiting)
                self._report(trials, cohort)
        except KeyboardInterrupt:
            with hold_interrupts():
                for trial in trials:
                    if trial.state is TrialState.RUNNING:
                        trial.save(self.member(trial))
            raise

    def save(self, trial: Execution) -> None:
        """Writes the trial's checkpoint as it stands."""
        self._save([trial])

    def _points(self, trial: Execution, until: int) -> frozenset[int]:
        count = affordable_validations(
            trial.steps,
            batch_size=trial.proposal.training.batch_size,
            num_watched=self._feed.num_watched,
            config=self._config,
        )
        return frozenset((*validation_points(trial.steps, count), until))

    def _save(self, trials: Sequence[Execution]) -> None:
        for trial in trials:
            with hold_interrupts():
                trial.save(self.member(trial))

    def _step(self, waiting: Sequence[Execution]) -> list[Execution]:
        """One update of the trials that are furthest behind and share a batch; which these were."""
        step = min(trial.progress.step for trial in waiting)
        behind = [trial for trial in waiting if trial.progress.step == step]
        batch_size = behind[0].proposal.training.batch_size
        cohort = [trial for trial in behind if trial.proposal.training.batch_size == batch_size]
        examples, batch = self._feed.batch(batch_size, step)
        turns = {trial.run.path.name: Turn(step=step, rate=trial.rate) for trial in cohort}
        self._keep(TRAIN, batch_size * max(trial.steps for trial in cohort) > self._feed.num_train)
        for trial in cohort:
            trial.keep_best(self.member(trial))
        outcomes = self.pool.step(TRAIN, examples, self.pool.read(batch), turns)
        for trial in cohort:
            try:
                trial.note_step(outcomes[trial.run.path.name])
            except TrainingError as error:
                self._fail(trial, error)
        return cohort

    def _keep(self, split: str, is_read_again: bool) -> None:
        if is_read_again and self.pool.prefix is not None and not self.pool.prefix.keeps(split):
            self.pool.prefix.keep(split, self._feed.kept(split, self.pool.read))

    def _validate(self, trials: Sequence[Execution], rung: int) -> None:
        if not trials:
            return
        if self._watched is None:
            self._watched = [(examples, self.pool.read(batch)) for examples, batch in self._feed.watched_batches()]
        self._keep(WATCHED, is_read_again=True)
        names = [trial.run.path.name for trial in trials]
        judged: dict[str, list[Judged]] = {name: [] for name in names}
        for examples, inputs in self._watched:
            for name, part in self.pool.measure(WATCHED, examples, inputs, names).items():
                judged[name].append(part)
        with hold_interrupts():
            for trial in trials:
                name = trial.run.path.name
                found = validation_of(judged[name], trial.progress.step, self._feed.num_watched)
                try:
                    if found.step == rung:
                        trial.note_standing(found, judged[name])
                    trial.note_validation(found)
                except TrainingError as error:
                    self._fail(trial, error)

    def _fail(self, trial: Execution, error: TrainingError) -> None:
        self.leave(trial)
        trial.end(TrialEvent.DIVERGE, error.cause or error.message)

    def _report(self, trials: Sequence[Execution], cohort: Sequence[Execution]) -> None:
        """One trial: its own step, loss and metric; several: steps and the median loss of those that stepped."""
        metric = _METRIC[trials[0].proposal.task_kind]
        if len(self._seen) == 1:
            progress = trials[0].progress
            last = progress.validations[-1] if progress.validations else None
            if progress.losses:
                self._listener.advance(
                    progress.step, loss=progress.losses[-1], **{metric: last.accuracy if last else None}
                )
            return
        losses = [trial.progress.losses[-1] for trial in cohort if trial.progress.losses]
        done = sum(trial.progress.step for trial in self._seen.values())
        running = sum(trial.state is TrialState.RUNNING for trial in trials)
        self._listener.advance(done, trials=running, loss=statistics.median(losses) if losses else None)

    def _place_of(self, member: Member) -> dict[str, object]:
        """Which part of the trial's passes the population shares."""
        return {
            "form": member.form,
            "precision": self.pool.precision,
            "frozen_blocks": round(member.cut.passes, 2),
            "num_blocks": self.pool.num_blocks,
            "frozen_share": round(member.cut.passes / self.pool.num_blocks, 4),
            "threads": torch.get_num_threads(),
        }


def _is_validation_due(trial: Execution, points: frozenset[int]) -> bool:
    progress = trial.progress
    return trial.state is TrialState.RUNNING and progress.step in points and not progress.is_validated
