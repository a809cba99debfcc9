"""One execution of a proposal: how far it is, what it has written, and how it ends."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final, final

import torch

from legion.foundation.clock import Clock, rfc3339
from legion.foundation.errors import TrainingError
from legion.foundation.files import publish_folder
from legion.foundation.settings import Settings
from legion.neuro_architecture.adapters import save_adapter
from legion.neuro_architecture.data.base_models import BaseModel
from legion.neuro_architecture.data.datasets import DataSet
from legion.neuro_architecture.packed import Member, StepOutcome
from legion.neuro_architecture.packed.group import Judged
from legion.neuro_architecture.records import RunFolder
from legion.neuro_architecture.spec.measurement import Measurement
from legion.neuro_architecture.spec.proposal import ArchitectureProposal
from legion.neuro_architecture.spec.standing import Standing
from legion.neuro_architecture.spec.training import TrainingMetrics, TrialEvent, TrialState, transition
from legion.neuro_architecture.trainer.checkpoint import Checkpoint, write_checkpoint
from legion.neuro_architecture.trainer.config import TrainerConfig
from legion.neuro_architecture.trainer.curve import Curve
from legion.neuro_architecture.trainer.divergence import find_divergence
from legion.neuro_architecture.trainer.environment import describe_place, library_versions
from legion.neuro_architecture.trainer.measuring import measure_gpu_memory, measure_peak_memory
from legion.neuro_architecture.trainer.metrics import metrics_of
from legion.neuro_architecture.trainer.schedule import is_checkpoint_due, learning_rate
from legion.neuro_architecture.trainer.state import TrialHistory, TrialProgress
from legion.neuro_architecture.trainer.validation import Validation, is_better

__all__ = ["Execution", "identity_of"]

_WEIGHTS: Final = "adapter_model.safetensors"


def identity_of(proposal: ArchitectureProposal, data: DataSet, seed: int, config: TrainerConfig) -> dict[str, Any]:
    """What decides a trial's numbers besides the number of steps (the proposal's id covers base and recipe)."""
    return {"proposal_id": proposal.id, "data_digest": data.digest, "seed": seed, "config": config.to_dict()}


@final
class Execution:
    """The book-keeping of one trial in a population. Writes `metrics.json` at every change of state.

    Used once, by one thread, under the run's lock.

    Args:
        proposal: What is trained.
        base: Its base model.
        data: The data set.
        run: The run folder.
        settings: Recorded.
        seed: Seed of everything random that is the trial's own.
        steps: Steps in all.
        config: Sizes and intervals.
        device: Where it trains.
        clock: Source of times and durations.
        checkpoint: Where it goes on, or None.
        found: What its run folder says of it by now, or None.
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
        clock: Clock,
        checkpoint: Checkpoint | None,
        found: tuple[TrainingMetrics, dict[str, Any]] | None = None,
    ) -> None:
        self.proposal = proposal
        self.run = run
        self.seed = seed
        self.steps = steps
        self._base = base
        self._data = data
        self._settings = settings
        self._config = config
        self._device = device
        self._clock = clock
        self.state = TrialState.PAUSED if checkpoint else TrialState.RUNNING
        self.progress = checkpoint.progress if checkpoint else TrialProgress()
        self.metrics: TrainingMetrics | None = found[0] if found else None
        record = found[1] if found else {}
        self.measured = _kept(self.metrics) if checkpoint else {}
        self.population: dict[str, Any] = {}
        self._history = checkpoint.history if checkpoint else TrialHistory(started_at=rfc3339(clock.now()))
        if checkpoint and checkpoint.steps != steps:
            self._history.extended_from.append(checkpoint.progress.step)
        self._adapter_digest: str | None = record.get("adapter_digest") if checkpoint else None
        self._curve: Curve | None = None
        self._curve_bytes = checkpoint.curve_bytes if checkpoint else 0
        self._saved_step = self.progress.step
        self._saved_at_s = clock.monotonic_s()

    def begin(self, member: Member) -> None:
        """The attempt starts: its curve is open, its state on disk."""
        if self.state is TrialState.PAUSED:
            self.state = transition(self.state, TrialEvent.RESUME)
        self._history.attempts.append(
            {
                "started_at": rfc3339(self._clock.now()),
                "from_step": self.progress.step,
                "steps": self.steps,
                "threads": torch.get_num_threads(),
                "device": self._device.type,
            }
        )
        self.measured["trainable_parameters"] = Measurement.measured(member.num_parameters, "parameters")
        self.write(None)
        self._curve = Curve(self.run.curve_path, self._curve_bytes)

    @property
    def rate(self) -> float:
        """The learning rate of the next update."""
        recipe = self.proposal.training
        begin = self._history.extended_from[-1] if self._history.extended_from else 0
        return learning_rate(
            self.progress.step,
            self.steps,
            peak=recipe.learning_rate,
            warmup_share=recipe.warmup_share,
            begin=begin,
            schedule=recipe.schedule,
        )

    def note_step(self, outcome: StepOutcome) -> None:
        """Takes note of an update.

        Raises:
            TrainingError: the trial diverged; the last checkpoint stays as it was.
        """
        progress = self.progress
        reason = find_divergence(progress.losses, outcome.loss, outcome.gradient_norm, self._config)
        if reason:
            raise TrainingError("the trial diverged", cause=reason, hint="propose a smaller learning rate")
        progress.step += 1
        progress.losses.append(outcome.loss)
        progress.seconds += outcome.seconds
        progress.tokens_seen += outcome.num_tokens
        progress.examples_seen += outcome.num_examples
        self._open_curve.append(
            "train",
            step=progress.step,
            loss=outcome.loss,
            auxiliary_loss=outcome.auxiliary_loss,
            gradient_norm=outcome.gradient_norm,
            learning_rate=outcome.learning_rate,
            seconds=round(outcome.seconds, 6),
        )

    def keep_best(self, member: Member) -> None:
        """Before an update: a copy of the weights that it changes, where they are the best so far."""
        if self.progress.is_best and not self.progress.best_weights:
            self.progress.best_weights = member.weights()

    def note_validation(self, found: Validation) -> None:
        """Takes note of a look at the watched examples.

        Raises:
            TrainingError: its loss is not finite.
        """
        progress = self.progress
        if not math.isfinite(found.loss):
            raise TrainingError("the trial diverged", cause=f"validation loss {found.loss} at step {progress.step}")
        if is_better(found, progress.best, self.proposal.task_kind):
            progress.best = found
            progress.best_weights = {}
        progress.validations.append(found)
        self._open_curve.append("validation", **found.to_dict())

    def note_standing(self, found: Validation, judged: Sequence[Judged]) -> None:
        """Writes down how the trial stands at a rung, prediction by prediction, before any checkpoint says that it was
        there.
        """
        if not math.isfinite(found.loss):
            return  # `note_validation` has the word
        losses = [float(f"{loss:.7g}") for part in judged for loss in part.losses_N.tolist()]
        hits = "".join("1" if hit else "0" for part in judged for hit in part.is_hit_N.tolist())
        logits = [part.logits_NC for part in judged if part.logits_NC is not None]
        sure = [each for part in logits for each in part.float().softmax(dim=-1).amax(dim=-1).tolist()]
        self.run.write_standing(
            Standing(
                step=found.step,
                loss=found.loss,
                accuracy=found.accuracy,
                losses=tuple(losses),
                hits=hits,
                confidences=tuple(round(each, 4) for each in sure),
                seconds=self.progress.seconds,
            )
        )

    @property
    def is_saved(self) -> bool:
        """Whether the checkpoint holds the last step."""
        return self._saved_step == self.progress.step > 0

    def is_save_due(self) -> bool:
        """Whether a checkpoint is due before the next step."""
        return is_checkpoint_due(
            worked_s=self._clock.monotonic_s() - self._saved_at_s,
            num_steps=self.progress.step - self._saved_step,
            steps=self.steps,
            config=self._config,
        )

    def save(self, member: Member) -> None:
        """Replaces the checkpoint."""
        checkpoint = Checkpoint(
            identity=identity_of(self.proposal, self._data, self.seed, self._config),
            steps=self.steps,
            curve_bytes=self._open_curve.sync(),
            history=self._history,
            progress=self.progress,
            weights=member.weights(),
            moments=member.optimizer.moments(),
        )
        write_checkpoint(self.run.checkpoint_folder, checkpoint)
        self._saved_step, self._saved_at_s = self.progress.step, self._clock.monotonic_s()

    def publish(self, model: Any) -> None:
        """Stores the adapter of `model`, which holds the best validated weights, as the trial's own."""

        def fill(folder: Path) -> None:
            self._adapter_digest = save_adapter(model, folder, base=self._base.reference)

        publish_folder(self.run.adapter_folder, fill)
        size = (self.run.adapter_folder / _WEIGHTS).stat().st_size
        self.measured["adapter_size_bytes"] = Measurement.measured(size, "bytes")

    def end(self, event: TrialEvent, reason: str | None) -> TrainingMetrics:
        """The attempt is over."""
        self.state = transition(self.state, event)
        self.close()
        self.measured["peak_memory_mb"] = measure_peak_memory()
        self.measured["gpu_memory_mb"] = measure_gpu_memory(self._device)
        return self.write(reason)

    def close(self) -> None:
        """Lets go of the curve's file."""
        if self._curve is not None:
            self._curve.close()
            self._curve = None

    def write(self, reason: str | None) -> TrainingMetrics:
        """Writes `metrics.json` as things stand."""
        metrics = metrics_of(self.proposal.id, self.state, self.progress, self.measured, reason=reason)
        self.run.write_metrics(metrics, self._record())
        self.metrics = metrics
        return metrics

    @property
    def _open_curve(self) -> Curve:
        if self._curve is None:
            raise RuntimeError(f"the trial of {self.proposal.id} has not begun")
        return self._curve

    def _record(self) -> dict[str, Any]:
        proposal, spec, best = self.proposal, self._data.spec, self.progress.best
        return {
            "identity": identity_of(proposal, self._data, self.seed, self._config),
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
            "seed": self.seed,
            "steps": self.steps,
            "settings": self._settings.to_dict(),
            "config": self._config.to_dict(),
            "machine": describe_place(self._device),
            "versions": library_versions(),
            "curve": self.run.curve_path.name,
            "adapter": self.run.adapter_folder.name if self._adapter_digest else None,
            "adapter_digest": self._adapter_digest,
            "best_step": best.step if best else None,
            "validations": [item.to_dict() for item in self.progress.validations],
            "population": self.population,
            "written_at": rfc3339(self._clock.now()),
            **self._history.to_dict(),
        }


def _kept(metrics: TrainingMetrics | None) -> dict[str, Measurement]:
    """What holds on where an attempt goes on: sizes, and not times."""
    if metrics is None:
        return {}
    sizes = {"trainable_parameters": metrics.trainable_parameters, "adapter_size_bytes": metrics.adapter_size_bytes}
    return {name: item for name, item in sizes.items() if item.value is not None}


def _below(path: Path, root: Path) -> Path:
    """`path` relative to the workspace where it lies inside, so that a moved workspace keeps its records true."""
    resolved = path.resolve()
    return resolved.relative_to(root) if resolved.is_relative_to(root) else resolved
