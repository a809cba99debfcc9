"""What one trial measured while it trained."""

from __future__ import annotations

from enum import StrEnum
from typing import Any, Final

from legion.foundation.errors import UsageError
from legion.neuro_architecture.spec._value import Value
from legion.neuro_architecture.spec.measurement import Measurement

__all__ = ["METRIC_UNITS", "TrainingMetrics", "TrialEvent", "TrialState", "transition"]


class TrialState(StrEnum):
    r"""Life of a trial.

    ```
    running --finish--> completed --extend--> running
       | | \--interrupt--> interrupted --resume--> running
       | \--pause--> paused --resume--> running
       |               \--stop--> stopped --resume--> running
       \--diverge--> failed
    ```

    Paused: at a rung, until its neighbours have come as far. Stopped: they did better; its numbers at the rung stand.
    """

    RUNNING = "running"
    INTERRUPTED = "interrupted"
    COMPLETED = "completed"
    FAILED = "failed"
    PAUSED = "paused"
    STOPPED = "stopped"


class TrialEvent(StrEnum):
    """What may happen to a trial."""

    FINISH = "finish"
    INTERRUPT = "interrupt"
    RESUME = "resume"
    EXTEND = "extend"
    DIVERGE = "diverge"
    REFUSE = "refuse"
    PAUSE = "pause"
    STOP = "stop"


_MOVES: Final = {
    (TrialState.RUNNING, TrialEvent.FINISH): TrialState.COMPLETED,
    (TrialState.RUNNING, TrialEvent.INTERRUPT): TrialState.INTERRUPTED,
    (TrialState.RUNNING, TrialEvent.RESUME): TrialState.RUNNING,  # killed without a word, found running
    (TrialState.RUNNING, TrialEvent.DIVERGE): TrialState.FAILED,
    (TrialState.RUNNING, TrialEvent.REFUSE): TrialState.FAILED,  # its architecture does not fit the base
    (TrialState.PAUSED, TrialEvent.REFUSE): TrialState.FAILED,
    (TrialState.INTERRUPTED, TrialEvent.RESUME): TrialState.RUNNING,
    (TrialState.COMPLETED, TrialEvent.EXTEND): TrialState.RUNNING,
    (TrialState.RUNNING, TrialEvent.PAUSE): TrialState.PAUSED,
    (TrialState.PAUSED, TrialEvent.RESUME): TrialState.RUNNING,
    (TrialState.PAUSED, TrialEvent.STOP): TrialState.STOPPED,
    (TrialState.STOPPED, TrialEvent.RESUME): TrialState.RUNNING,
}


def transition(state: TrialState, event: TrialEvent) -> TrialState:
    """The state after `event`.

    Raises:
        UsageError: the event cannot happen in this state.
    """
    try:
        return _MOVES[state, event]
    except KeyError as error:
        raise UsageError(f"a trial that is {state} cannot {event}") from error


METRIC_UNITS: Final[dict[str, str]] = {
    "training_loss": "nats",
    "eval_accuracy": "share",
    "latency_ms": "ms",
    "throughput_samples_sec": "examples/s",
    "gpu_memory_mb": "MB",
    "training_time_sec": "s",
    "steps_completed": "steps",
    "validation_loss": "nats",
    "peak_memory_mb": "MB",
    "trainable_parameters": "parameters",
    "adapter_size_bytes": "bytes",
    "tokens_seen": "tokens",
    "examples_seen": "examples",
}


class TrainingMetrics(Value):
    """The measurements of one trial, each in the unit of `METRIC_UNITS`.

    The first seven carry the names of the specification's prototype and hold numbers here that were measured.

    Attributes:
        proposal_id: The trained proposal.
        state: How the trial ended.
        reason: Why it failed or stopped, or None.
        training_loss: Mean loss over the last tenth of the steps.
        eval_accuracy: The task's metric on the validation split, at the best checkpoint.
        latency_ms: Median time of one forward pass over one validation example, adapter on.
        throughput_samples_sec: Training examples a second.
        gpu_memory_mb: Peak memory on the accelerator.
        training_time_sec: Seconds spent in training steps, over all attempts.
        steps_completed: Optimiser steps done.
        validation_loss: Mean loss on the validation split at the best checkpoint.
        peak_memory_mb: Peak resident memory of the process.
        trainable_parameters: Adapter and head weights that were trained.
        adapter_size_bytes: Size of the saved adapter weights.
        tokens_seen: Non-padding tokens trained on.
        examples_seen: Examples trained on.
    """

    proposal_id: str
    state: TrialState
    reason: str | None = None
    training_loss: Measurement
    eval_accuracy: Measurement
    latency_ms: Measurement
    throughput_samples_sec: Measurement
    gpu_memory_mb: Measurement
    training_time_sec: Measurement
    steps_completed: Measurement
    validation_loss: Measurement
    peak_memory_mb: Measurement
    trainable_parameters: Measurement
    adapter_size_bytes: Measurement
    tokens_seen: Measurement
    examples_seen: Measurement

    def to_flat(self) -> dict[str, Any]:
        """The content of `metrics.json`: bare numbers or null, then `units`, `errors`, `counts`, `absent`."""
        measured = {name: getattr(self, name) for name in METRIC_UNITS}
        return {
            "proposal_id": self.proposal_id,
            "state": self.state.value,
            "reason": self.reason,
            **{name: item.value for name, item in measured.items()},
            "units": {name: item.unit for name, item in measured.items()},
            "errors": {name: item.error for name, item in measured.items() if item.error is not None},
            "counts": {name: item.n for name, item in measured.items() if item.n is not None},
            "absent": {name: item.reason for name, item in measured.items() if item.value is None},
        }

    @classmethod
    def from_flat(cls, data: dict[str, Any]) -> TrainingMetrics:
        """The inverse of `to_flat`; keys beyond its own (the record of the run) are left to their readers.

        Raises:
            InvalidValueError: a number has neither value nor reason, or a field is missing.
        """
        measured = {
            name: {
                "value": data.get(name),
                "unit": data.get("units", {}).get(name, unit),
                "n": data.get("counts", {}).get(name),
                "error": data.get("errors", {}).get(name),
                "reason": data.get("absent", {}).get(name),
            }
            for name, unit in METRIC_UNITS.items()
        }
        head = {key: data.get(key) for key in ("proposal_id", "state", "reason")}
        return cls.parse(head | measured, what="metrics.json")
