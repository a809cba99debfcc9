"""One execution of a proposal, from the run folder it finds to the metrics it leaves."""

from __future__ import annotations

from pathlib import Path
from typing import Any, final

import torch

from legion.foundation.clock import Clock, rfc3339
from legion.foundation.errors import TrainingError
from legion.foundation.files import publish_folder
from legion.foundation.progress import Progress
from legion.foundation.settings import Settings
from legion.neuro_architecture.adapters import save_adapter
from legion.neuro_architecture.data.base_models import BaseModel
from legion.neuro_architecture.data.datasets import DataSet
from legion.neuro_architecture.records import RunFolder
from legion.neuro_architecture.spec.measurement import Measurement
from legion.neuro_architecture.spec.proposal import ArchitectureProposal
from legion.neuro_architecture.spec.training import TrainingMetrics, TrialEvent, TrialState, transition
from legion.neuro_architecture.trainer.checkpoint import Checkpoint
from legion.neuro_architecture.trainer.config import TrainerConfig
from legion.neuro_architecture.trainer.curve import Curve
from legion.neuro_architecture.trainer.environment import describe_place, library_versions
from legion.neuro_architecture.trainer.interrupts import hold_interrupts
from legion.neuro_architecture.trainer.loop import TrainingLoop
from legion.neuro_architecture.trainer.measuring import (
    measure_gpu_memory,
    measure_latency,
    measure_peak_memory,
    reset_peaks,
)
from legion.neuro_architecture.trainer.metrics import metrics_of
from legion.neuro_architecture.trainer.session import TrainingSession
from legion.neuro_architecture.trainer.state import TrialHistory, TrialProgress

__all__ = ["Trial", "identity_of"]

WEIGHTS_FILE = "adapter_model.safetensors"


def identity_of(proposal: ArchitectureProposal, data: DataSet, seed: int, config: TrainerConfig) -> dict[str, Any]:
    """What decides a trial's numbers besides the number of steps (the proposal's id covers base and recipe)."""
    return {"proposal_id": proposal.id, "data_digest": data.digest, "seed": seed, "config": config.to_dict()}


@final
class Trial:
    """Trains, measures, and writes `metrics.json` at every change of state. Used once, under the run's lock.

    Args:
        proposal: What is trained.
        base: Its base model.
        data: The data set.
        run: The run folder.
        settings: Recorded.
        seed: Seed of everything random.
        steps: Steps in all.
        config: Sizes and intervals.
        device: Where to train.
        listener: Is told of every step.
        clock: Source of times and durations.
    """

    def __init__(
        self,
        proposal: ArchitectureProposal,
        base: BaseModel,
        data: DataSet,
        *,
        run: RunFolder,
        settings: Settings,
        seed: int,
        steps: int,
        config: TrainerConfig,
        device: torch.device,
        listener: Progress,
        clock: Clock,
    ) -> None:
        self._proposal = proposal
        self._base = base
        self._data = data
        self._run = run
        self._settings = settings
        self._seed = seed
        self._steps = steps
        self._config = config
        self._device = device
        self._listener = listener
        self._clock = clock
        self._state = TrialState.RUNNING
        self._progress = TrialProgress()
        self._history = TrialHistory(started_at=rfc3339(clock.now()))
        self._measured: dict[str, Measurement] = {}
        self._adapter_digest: str | None = None
        self._is_peak_of_trial = reset_peaks(device)

    def execute(self, checkpoint: Checkpoint | None) -> TrainingMetrics:
        """Trains from `checkpoint` (or from nothing) to the end, to a divergence or to a Ctrl-C."""
        session = TrainingSession(
            self._proposal, self._base, self._data, seed=self._seed, config=self._config, device=self._device
        )
        curve_bytes = self._restore(session, checkpoint) if checkpoint else 0
        self._history.attempts.append(
            {
                "started_at": rfc3339(self._clock.now()),
                "from_step": self._progress.step,
                "steps": self._steps,
                "threads": torch.get_num_threads(),
                "device": self._device.type,
            }
        )
        self._measured["trainable_parameters"] = Measurement.measured(session.num_parameters, "parameters")
        self._write(None)
        with Curve(self._run.curve_path, curve_bytes) as curve:
            loop = self._loop(session, curve)
            return self._train(session, loop)

    def _restore(self, session: TrainingSession, checkpoint: Checkpoint) -> int:
        session.set_weights(checkpoint.weights)
        session.set_moments(checkpoint.moments)
        self._progress = checkpoint.progress
        self._history = checkpoint.history
        if checkpoint.steps != self._steps:
            self._history.extended_from.append(checkpoint.progress.step)
        return checkpoint.curve_bytes

    def _loop(self, session: TrainingSession, curve: Curve) -> TrainingLoop:
        return TrainingLoop(
            session,
            self._progress,
            self._history,
            identity=identity_of(self._proposal, self._data, self._seed, self._config),
            steps=self._steps,
            kind=self._proposal.task_kind,
            config=self._config,
            curve=curve,
            checkpoint_folder=self._run.checkpoint_folder,
            listener=self._listener,
            clock=self._clock,
        )

    def _train(self, session: TrainingSession, loop: TrainingLoop) -> TrainingMetrics:
        self._listener.start(f"train {self._proposal.id}", self._steps)
        try:
            loop.run()
            self._keep_best(session)
        except TrainingError as error:
            return self._end(TrialEvent.DIVERGE, error.cause or error.message)
        except KeyboardInterrupt:
            with hold_interrupts():
                self._end(TrialEvent.INTERRUPT, f"interrupted at step {self._progress.step} of {self._steps}")
            raise
        with hold_interrupts():
            return self._end(TrialEvent.FINISH, None)

    def _keep_best(self, session: TrainingSession) -> None:
        """Saves the best validated weights as the trial's adapter, and times the model with them."""
        model = session.use(self._progress.best_weights)

        def fill(folder: Path) -> None:
            self._adapter_digest = save_adapter(model, folder, base=self._base.reference)

        self._measured["latency_ms"] = measure_latency(
            model,
            session.single_batches(self._config.latency_examples),
            self._device,
            num_warmup=self._config.latency_warmup,
            clock=self._clock,
        )
        publish_folder(self._run.adapter_folder, fill)
        size = (self._run.adapter_folder / WEIGHTS_FILE).stat().st_size
        self._measured["adapter_size_bytes"] = Measurement.measured(size, "bytes")

    def _end(self, event: TrialEvent, reason: str | None) -> TrainingMetrics:
        self._state = transition(self._state, event)
        self._measured["peak_memory_mb"] = measure_peak_memory()
        self._measured["gpu_memory_mb"] = measure_gpu_memory(self._device)
        metrics = self._write(reason)
        self._listener.finish(f"{self._state} at step {self._progress.step}" + (f": {reason}" if reason else ""))
        return metrics

    def _write(self, reason: str | None) -> TrainingMetrics:
        metrics = metrics_of(self._proposal.id, self._state, self._progress, self._measured, reason=reason)
        self._run.write_metrics(metrics, self._record())
        return metrics

    def _record(self) -> dict[str, Any]:
        proposal, spec, best = self._proposal, self._data.spec, self._progress.best
        return {
            "identity": identity_of(proposal, self._data, self._seed, self._config),
            "proposal_id": proposal.id,
            "strategy": proposal.strategy,
            "architecture": proposal.architecture.to_dict(),
            "base": proposal.base.to_dict(),
            "recipe": proposal.training.to_dict(),
            "data_path": str(_below(self._data.folder, self._settings.workspace)),
            "data_digest": self._data.digest,
            "data_warnings": list(self._data.warnings),
            "task": spec.name,
            "task_kind": spec.kind,
            "labels": list(spec.labels),
            "target_column": spec.target_column,
            "split_sizes": {
                "train": len(self._data.train),
                "validation": len(self._data.validation),
                "test": len(self._data.test),
            },
            "seed": self._seed,
            "steps": self._steps,
            "settings": self._settings.to_dict(),
            "config": self._config.to_dict(),
            "machine": describe_place(self._device),
            "versions": library_versions(),
            "curve": self._run.curve_path.name,
            "adapter": self._run.adapter_folder.name if self._adapter_digest else None,
            "adapter_digest": self._adapter_digest,
            "best_step": best.step if best else None,
            "validations": [item.to_dict() for item in self._progress.validations],
            "peak_memory_scope": "trial" if self._is_peak_of_trial else "process",
            "written_at": rfc3339(self._clock.now()),
            **self._history.to_dict(),
        }


def _below(path: Path, root: Path) -> Path:
    """`path` relative to the workspace where it lies inside, so that a moved workspace keeps its records true."""
    resolved = path.resolve()
    return resolved.relative_to(root) if resolved.is_relative_to(root) else resolved
