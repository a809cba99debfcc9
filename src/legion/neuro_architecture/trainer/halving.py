"""A population from rung to rung: waves that fit the places, the worse trials stopped, the others to the end."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, final

import torch

from legion.foundation.clock import Clock
from legion.foundation.errors import AdapterError
from legion.foundation.progress import Progress
from legion.neuro_architecture.spec.training import TrainingMetrics, TrialEvent, TrialState
from legion.neuro_architecture.trainer.checkpoint import Checkpoint, read_checkpoint
from legion.neuro_architecture.trainer.config import TrainerConfig
from legion.neuro_architecture.trainer.execution import Execution
from legion.neuro_architecture.trainer.feed import Feed
from legion.neuro_architecture.trainer.interrupts import hold_interrupts
from legion.neuro_architecture.trainer.measuring import measure_latency, measure_peak_memory
from legion.neuro_architecture.trainer.population import Population
from legion.neuro_architecture.trainer.rungs import Rungs

__all__ = ["Halving"]


@final
class Halving:
    """Takes trials from rung to rung. Used once.

    Args:
        population: Who steps them.
        feed: Examples for the latency.
        config: Sizes.
        clock: Source of durations.
        device: Where the models are.
        places: Most trials held at once, or None.
        listener: Is told of every step.
    """

    def __init__(
        self,
        population: Population,
        feed: Feed,
        config: TrainerConfig,
        *,
        clock: Clock,
        device: torch.device,
        places: int | None,
        listener: Progress,
    ) -> None:
        self._population = population
        self._feed = feed
        self._config = config
        self._clock = clock
        self._device = device
        self._places = places
        self._listener = listener
        self._trials: Sequence[Execution] = ()
        self._checkpoints: dict[str, Checkpoint | None] = {}
        self._trained_steps = 0
        self._spared_steps = 0
        self._began_s = clock.monotonic_s()
        self._rungs: list[dict[str, Any]] = []
        self.facts: dict[str, Any] = {}

    def run(
        self,
        trials: Sequence[tuple[Execution, Checkpoint | None]],
        rungs: Rungs | None,
        passed: Mapping[str, Mapping[int, float]],
    ) -> dict[str, TrainingMetrics]:
        """The metrics of every trial, as it ended.

        Args:
            trials: Those to be trained, and where they go on.
            rungs: Where the worse stop, or None.
            passed: Validation losses by step of trials that completed before: they count at the rungs they passed.
        """
        executions = [trial for trial, _ in trials]
        self._trials = executions
        self._checkpoints = {trial.proposal.id: checkpoint for trial, checkpoint in trials}
        steps = executions[0].steps
        label = f"train {executions[0].proposal.id}" if len(trials) == 1 else f"train {len(trials)} proposals"
        self._listener.start(label, _planned(len(trials), steps, rungs))
        before = sum(trial.progress.step for trial in executions)
        try:
            self._run(executions, steps, rungs, passed)
        except KeyboardInterrupt:
            with hold_interrupts():
                for trial in executions:
                    if trial.state is TrialState.RUNNING and self._population.holds(trial):
                        trial.end(TrialEvent.INTERRUPT, f"interrupted at step {trial.progress.step} of {steps}")
            raise
        finally:
            self._trained_steps = sum(trial.progress.step for trial in executions) - before
            for trial in executions:
                trial.close()
        self._listener.finish(_note(executions))
        return {trial.proposal.id: trial.metrics for trial in executions if trial.metrics is not None}

    def record(self) -> dict[str, Any]:
        """How the population was computed, for its report."""
        report = self._population.pool.report()
        peak = measure_peak_memory()
        return self.facts | {
            "trained_steps": self._trained_steps,
            "spared_steps": self._spared_steps,
            "rungs": self._rungs,
            "forms": {trial.proposal.id: trial.population["form"] for trial in self._trials if trial.population},
            "dispatch": report.dispatch.to_dict(),
            "block_passes_below_adapters": {
                "wanted": report.prefix.wanted,
                "computed": report.prefix.computed,
                "saved_share": report.prefix.saved_share,
            },
            "cache_memory_bytes": report.cache_memory_bytes,
            "cache_disk_bytes": report.cache_disk_bytes,
            "peak_memory_mb": peak.value,
            "seconds": self._clock.monotonic_s() - self._began_s,
        }

    def _run(
        self,
        active: Sequence[Execution],
        steps: int,
        rungs: Rungs | None,
        passed: Mapping[str, Mapping[int, float]],
    ) -> None:
        for rung in rungs.steps if rungs else ():
            if rungs is not None and rung < steps:
                active = self._to_rung(active, rung, rungs, passed)
        for wave in self._waves(active):
            self._advance(wave, steps)
            for trial in _running(wave):
                self._finish(trial)

    def _to_rung(
        self, active: Sequence[Execution], rung: int, rungs: Rungs, passed: Mapping[str, Mapping[int, float]]
    ) -> list[Execution]:
        waves = self._waves([trial for trial in active if trial.progress.step <= rung and not _is_seen(trial, rung)])
        is_crowded = len(self._waves(active)) > 1
        for wave in waves:
            self._advance(wave, rung)
            for trial in _running(wave) if is_crowded else ():
                self._pause(trial)
        alive = [trial for trial in active if trial.state is not TrialState.FAILED]
        seen = [trial for trial in alive if _is_seen(trial, rung)]  # one that went past it without rungs goes on
        losses = {trial.proposal.id: _loss_at(trial, rung) for trial in seen}
        losses |= {name: found[rung] for name, found in passed.items() if rung in found}
        kept = set(rungs.survivors(losses))
        stopped = [trial for trial in seen if trial.proposal.id not in kept]
        for trial in stopped:
            self._stop(trial, len(losses), len(kept))
        self._rungs.append({"steps": rung, "trials": len(losses), "continued": sorted(kept)})
        return [trial for trial in alive if trial not in stopped]

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

    def _stop(self, trial: Execution, num_trials: int, num_kept: int) -> None:
        at = trial.progress.step
        self._spared_steps += trial.steps - at
        if not self._population.holds(trial):
            if trial.metrics is not None and trial.metrics.state is TrialState.STOPPED:
                return
            if not trial.run.adapter_folder.is_dir():  # it was killed before it had left one
                self._enter(trial)
        if self._population.holds(trial):
            self._pause(trial)
        trial.end(
            TrialEvent.STOP, f"stopped at step {at} of {trial.steps}: not among the best {num_kept} of {num_trials}"
        )

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
        if is_timed and self._config.latency_examples:
            trial.measured["latency_ms"] = measure_latency(
                model,
                self._feed.single_batches(self._config.latency_examples),
                self._device,
                num_warmup=self._config.latency_warmup,
                clock=self._clock,
            )
        trial.publish(model)


def _planned(count: int, steps: int, rungs: Rungs | None) -> int:
    """Steps of all trials together, where none fails."""
    total, at = 0, 0
    for rung in rungs.steps if rungs else ():
        if rungs is not None and rung < steps:
            total, at = total + count * (rung - at), rung
            count = rungs.num_survivors(count)
    return total + count * (steps - at)


def _note(trials: Sequence[Execution]) -> str:
    if len(trials) == 1:
        reason = trials[0].metrics.reason if trials[0].metrics else None
        return f"{trials[0].state} at step {trials[0].progress.step}" + (f": {reason}" if reason else "")
    states = [str(trial.state) for trial in trials]
    return ", ".join(f"{states.count(state)} {state}" for state in dict.fromkeys(states))


def _running(trials: Sequence[Execution]) -> list[Execution]:
    return [trial for trial in trials if trial.state is TrialState.RUNNING]


def _is_seen(trial: Execution, rung: int) -> bool:
    return any(item.step == rung for item in trial.progress.validations)


def _loss_at(trial: Execution, rung: int) -> float:
    return next(item.loss for item in trial.progress.validations if item.step == rung)
