"""Steps, validations and checkpoints in their order."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any, final

from legion.foundation.clock import Clock
from legion.foundation.errors import TrainingError
from legion.foundation.progress import Progress
from legion.neuro_architecture.spec.task import TaskKind
from legion.neuro_architecture.trainer.checkpoint import Checkpoint, write_checkpoint
from legion.neuro_architecture.trainer.config import TrainerConfig
from legion.neuro_architecture.trainer.curve import Curve
from legion.neuro_architecture.trainer.divergence import find_divergence
from legion.neuro_architecture.trainer.interrupts import hold_interrupts
from legion.neuro_architecture.trainer.schedule import is_checkpoint_due
from legion.neuro_architecture.trainer.session import TrainingSession
from legion.neuro_architecture.trainer.state import TrialHistory, TrialProgress
from legion.neuro_architecture.trainer.validation import Validation, is_better

__all__ = ["TrainingLoop"]


@final
class TrainingLoop:
    """Takes a session from where `progress` stands to `steps`. For one thread; Ctrl-C leaves a state between two steps.

    Args:
        session: What is trained.
        progress: Where it stands; changed in place.
        history: Written into each checkpoint.
        identity: Written into each checkpoint.
        steps: Steps of the schedule.
        kind: Decides which validation is better.
        config: When to validate and to save.
        curve: Where the learning curve goes.
        checkpoint_folder: Where checkpoints go.
        listener: Is told of every step.
        clock: Source of the durations.
    """

    def __init__(
        self,
        session: TrainingSession,
        progress: TrialProgress,
        history: TrialHistory,
        *,
        identity: dict[str, Any],
        steps: int,
        kind: TaskKind,
        config: TrainerConfig,
        curve: Curve,
        checkpoint_folder: Path,
        listener: Progress,
        clock: Clock,
    ) -> None:
        self._session = session
        self._progress = progress
        self._history = history
        self._identity = identity
        self._steps = steps
        self._kind = kind
        self._config = config
        self._curve = curve
        self._folder = checkpoint_folder
        self._listener = listener
        self._clock = clock
        self._points = frozenset(session.validation_points(steps))
        self._saved_step = progress.step
        self._saved_at_s = clock.monotonic_s()

    def run(self) -> None:
        """Trains to the end and saves.

        Raises:
            TrainingError: the trial diverged; the last checkpoint stays as it was.
            KeyboardInterrupt: Ctrl-C; the state between two steps is saved.
        """
        try:
            self._run()
        except KeyboardInterrupt:
            self._save()
            raise

    def _run(self) -> None:
        progress = self._progress
        while True:
            if progress.step in self._points and not progress.is_validated:
                self._validate()
            if progress.step == self._steps:
                break
            if self._is_save_due():
                self._save()
            with hold_interrupts():
                self._advance()
            self._report()
        self._save()

    def _save(self) -> None:
        with hold_interrupts():
            checkpoint = Checkpoint(
                identity=self._identity,
                steps=self._steps,
                curve_bytes=self._curve.sync(),
                history=self._history,
                progress=self._progress,
                weights=self._session.weights(),
                moments=self._session.moments(),
            )
            write_checkpoint(self._folder, checkpoint)
            self._saved_step, self._saved_at_s = self._progress.step, self._clock.monotonic_s()

    def _is_save_due(self) -> bool:
        return is_checkpoint_due(
            worked_s=self._clock.monotonic_s() - self._saved_at_s,
            num_steps=self._progress.step - self._saved_step,
            steps=self._steps,
            config=self._config,
        )

    def _advance(self) -> None:
        progress = self._progress
        began_s = self._clock.monotonic_s()
        begin = self._history.extended_from[-1] if self._history.extended_from else 0
        outcome = self._session.train_step(progress.step, self._steps, begin=begin)
        seconds = self._clock.monotonic_s() - began_s
        reason = find_divergence(progress.losses, outcome.loss, outcome.gradient_norm, self._config)
        if reason:
            raise TrainingError("the trial diverged", cause=reason, hint="propose a smaller learning rate")
        progress.step += 1
        progress.losses.append(outcome.loss)
        progress.seconds += seconds
        progress.tokens_seen += outcome.num_tokens
        progress.examples_seen += outcome.num_examples
        self._curve.append(
            "train",
            step=progress.step,
            loss=outcome.loss,
            auxiliary_loss=outcome.auxiliary_loss,
            gradient_norm=outcome.gradient_norm,
            learning_rate=outcome.learning_rate,
            seconds=round(seconds, 6),
        )

    def _validate(self) -> None:
        progress = self._progress
        found = self._session.validator.measure(self._session.model, progress.step)
        if not math.isfinite(found.loss):
            raise TrainingError("the trial diverged", cause=f"validation loss {found.loss} at step {progress.step}")
        with hold_interrupts():
            if is_better(found, progress.best, self._kind):
                progress.best = found
                progress.best_weights = self._session.weights()
            progress.validations.append(found)
            self._curve.append("validation", **found.to_dict())

    def _report(self) -> None:
        progress = self._progress
        last: Validation | None = progress.validations[-1] if progress.validations else None
        name = "accuracy" if self._kind == "classification" else "token_accuracy"
        self._listener.advance(progress.step, loss=progress.losses[-1], **{name: last.accuracy if last else None})
