"""Trials over one base that is loaded once: they enter, advance, pause, stop and finish as somebody else decides."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Self, final

import torch

from legion.foundation.clock import Clock
from legion.foundation.errors import AdapterError, WorldError
from legion.foundation.progress import Progress
from legion.neuro_architecture.spec.standing import Standing
from legion.neuro_architecture.spec.training import TrainingMetrics, TrialEvent, TrialState
from legion.neuro_architecture.trainer.admission import Admission
from legion.neuro_architecture.trainer.checkpoint import Checkpoint, read_checkpoint
from legion.neuro_architecture.trainer.execution import Execution
from legion.neuro_architecture.trainer.interrupts import hold_interrupts
from legion.neuro_architecture.trainer.measuring import measure_latency, measure_peak_memory
from legion.neuro_architecture.trainer.population import Population

__all__ = ["PopulationSession"]


@final
class PopulationSession:
    """Takes trials wherever they are sent; decides nothing itself. For one thread, as a context manager.

    What it is asked for twice it does once: a trial that was there before a kill is found where it stood, and numbers
    that are on disk are read. Ctrl-C leaves every trial saved between two of its steps.

    Args:
        admission: Lets trials in: their locks, their run folders, the base that they stand on.
        clock: Source of durations.
        places: Most trials held at once, or None.
        listener: Is told of every step.
    """

    def __init__(
        self,
        admission: Admission,
        *,
        clock: Clock,
        places: int | None,
        listener: Progress,
    ) -> None:
        self._admission = admission
        self._ground = admission.ground
        self._clock = clock
        self._places = places
        self._listener = listener
        self._trials: dict[str, Execution] = {}
        self._checkpoints: dict[str, Checkpoint | None] = {}
        self._began_s = clock.monotonic_s()
        self._first_steps: dict[str, int] = {}
        self._spared_steps = 0
        self.stored: dict[str, TrainingMetrics] = {}
        self.passed: dict[str, dict[int, float]] = {}

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, _trace: object) -> None:
        try:
            if kind is KeyboardInterrupt:
                self._interrupt()
        finally:
            for trial in self._trials.values():
                trial.close()
            self._admission.close()
        if isinstance(error, torch.OutOfMemoryError):
            raise WorldError(
                f"the accelerator has too little memory for {len(self._trials)} trials at once",
                cause=str(error),
                hint="hold fewer at once (places), or train on the processor: LEGION_DEVICE=cpu",
            ) from error

    @property
    def steps(self) -> int:
        """Of the whole schedule."""
        return self._admission.steps

    @property
    def _population(self) -> Population:
        return self._ground.population

    def add(self, proposal_ids: Sequence[str]) -> None:
        """Lets stored proposals in; those that ended before are in `stored`.

        Raises:
            InvalidValueError, UnknownNameError, ModelError, IntegrityError, WorldError: as `PopulationTrainer.train`.
        """
        held = [trial.proposal for trial in self._trials.values() if self._population.holds(trial)]
        admitted = self._admission.admit(proposal_ids, held=held)
        self.stored |= admitted.stored
        self.passed |= admitted.passed
        for trial, checkpoint in admitted.trials:
            name = trial.proposal.id
            self._trials[name] = trial
            self._checkpoints[name] = checkpoint
            self._first_steps[name] = trial.progress.step

    @property
    def names(self) -> list[str]:
        """Of the trials that were let in and had not ended before."""
        return list(self._trials)

    def announce(self, label: str, total_steps: int) -> None:
        """Tells the listener what begins."""
        self._listener.start(label, total_steps)

    def conclude(self) -> None:
        """Tells the listener how the trials stand."""
        trials = list(self._trials.values())
        states = [str(trial.state) for trial in trials]
        note = ", ".join(f"{states.count(state)} {state}" for state in dict.fromkeys(states))
        if len(trials) == 1:
            reason = trials[0].metrics.reason if trials[0].metrics else None
            note = f"{trials[0].state} at step {trials[0].progress.step}" + (f": {reason}" if reason else "")
        self._listener.finish(note)

    def is_alive(self, name: str) -> bool:
        """Whether the trial may go on: it has neither failed nor ended before."""
        return name in self._trials and self._trials[name].state is not TrialState.FAILED

    def step_of(self, name: str) -> int:
        """Finished steps of a trial that was let in; 0 of one that had ended before."""
        return self._trials[name].progress.step if name in self._trials else 0

    def advance(self, names: Sequence[str], until: int) -> None:
        """Trains each trial to `until` finished steps and looks at the watched examples there; some may fail.

        Where not all have a place at once, each wave pauses there for the next.
        """
        alive = [self._trials[name] for name in names if self.is_alive(name)]
        waiting = [trial for trial in alive if trial.progress.step <= until and not _is_seen(trial, until)]
        is_crowded = len(self._waves(alive)) > 1
        for wave in self._waves(waiting):
            self._advance(wave, until)
            for trial in _running(wave) if is_crowded else ():
                self._pause(trial)

    def loss_at(self, name: str, step: int) -> float | None:
        """Mean loss on the watched examples at a rung; None where the trial did not stop to look there."""
        if name in self.passed and step in self.passed[name]:
            return self.passed[name][step]
        trial = self._trials.get(name)
        return next((item.loss for item in trial.progress.validations if item.step == step), None) if trial else None

    def standing(self, name: str, step: int) -> Standing | None:
        """How a trial stood at a rung, prediction by prediction; None where it did not stop to look there."""
        return self._admission.run_of(name).read_standing(step)

    def pause(self, names: Sequence[str]) -> None:
        """Saves trials and frees their places; they may go on later, exactly."""
        for name in names:
            if self.is_alive(name) and self._population.holds(self._trials[name]):
                self._pause(self._trials[name])

    def stop(self, name: str, reason: str) -> None:
        """Ends a trial where it stands, with its adapter and its numbers there."""
        trial = self._trials[name]
        self._spared_steps += trial.steps - trial.progress.step
        if not self._population.holds(trial):
            if trial.metrics is not None and trial.metrics.state is TrialState.STOPPED:
                return
            if not trial.run.adapter_folder.is_dir():  # it was killed before it had left one
                self._enter(trial)
        if self._population.holds(trial):
            self._pause(trial)
        trial.end(TrialEvent.STOP, f"stopped at step {trial.progress.step} of {trial.steps}: {reason}")

    def finish(self, names: Sequence[str]) -> None:
        """Trains trials to the end of their schedule."""
        for wave in self._waves([self._trials[name] for name in names if self.is_alive(name)]):
            self._advance(wave, self.steps)
            for trial in _running(wave):
                self._finish(trial)

    def metrics(self) -> dict[str, TrainingMetrics]:
        """Of every trial, as it stands."""
        found = {name: trial.metrics for name, trial in self._trials.items() if trial.metrics is not None}
        return self.stored | found

    def record(self) -> dict[str, Any]:
        """How the trials were computed, for the report."""
        report = self._population.pool.report()
        trained = sum(trial.progress.step - self._first_steps[name] for name, trial in self._trials.items())
        return {
            **self._admission.facts,
            "trained_steps": trained,
            "spared_steps": self._spared_steps,
            "forms": {name: trial.population["form"] for name, trial in self._trials.items() if trial.population},
            "dispatch": report.dispatch.to_dict(),
            "block_passes_below_adapters": {
                "wanted": report.prefix.wanted,
                "computed": report.prefix.computed,
                "saved_share": report.prefix.saved_share,
            },
            "cache_memory_bytes": report.cache_memory_bytes,
            "cache_disk_bytes": report.cache_disk_bytes,
            "peak_memory_mb": measure_peak_memory().value,
            "seconds": self._clock.monotonic_s() - self._began_s,
        }

    def _interrupt(self) -> None:
        with hold_interrupts():
            for trial in self._trials.values():
                if trial.state is TrialState.RUNNING and self._population.holds(trial):
                    if not trial.is_saved:  # once it is, its weights may be the best ones, set to be published
                        trial.save(self._population.member(trial))
                    trial.end(TrialEvent.INTERRUPT, f"interrupted at step {trial.progress.step} of {trial.steps}")

    def _waves(self, trials: Sequence[Execution]) -> list[list[Execution]]:
        size = self._places or max(1, len(trials))
        return [list(trials[start : start + size]) for start in range(0, len(trials), size)]

    def _advance(self, wave: Sequence[Execution], until: int) -> None:
        for trial in wave:
            self._enter(trial)
        self._population.advance(wave, until)

    def _enter(self, trial: Execution) -> None:
        """Gives the trial a place; one that does not fit the base ends as failed, and its neighbours go on.

        Raises:
            AdapterError: it is the only one.
        """
        if self._population.holds(trial):
            return
        held = self._checkpoints.pop(trial.proposal.id, None) or read_checkpoint(trial.run.checkpoint_folder)
        try:
            self._population.enter(trial, held)
        except AdapterError as error:
            if len(self._trials) == 1:
                raise
            trial.end(TrialEvent.REFUSE, ": ".join(filter(None, (error.message, error.cause))))

    def _pause(self, trial: Execution) -> None:
        with hold_interrupts():
            self._population.save(trial)
            self._publish(trial)
            trial.end(TrialEvent.PAUSE, f"paused at step {trial.progress.step} of {trial.steps}")
            self._population.leave(trial)

    def _finish(self, trial: Execution) -> None:
        self._population.save(trial)
        self._publish(trial, is_timed=True)
        with hold_interrupts():
            self._population.leave(trial)
            trial.end(TrialEvent.FINISH, None)

    def _publish(self, trial: Execution, *, is_timed: bool = False) -> None:
        member = self._population.member(trial)
        if trial.progress.best_weights:
            member.set_weights(trial.progress.best_weights)
        model = member.model.eval()
        config = self._ground.config
        if is_timed and config.latency_examples:
            trial.measured["latency_ms"] = measure_latency(
                model,
                self._ground.feed.single_batches(config.latency_examples),
                self._ground.device,
                num_warmup=config.latency_warmup,
                clock=self._clock,
            )
        trial.publish(model)


def _running(trials: Sequence[Execution]) -> list[Execution]:
    return [trial for trial in trials if trial.state is TrialState.RUNNING]


def _is_seen(trial: Execution, rung: int) -> bool:
    return any(item.step == rung for item in trial.progress.validations)
