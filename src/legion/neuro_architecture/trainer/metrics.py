"""From what happened to `TrainingMetrics`: every number measured, every absence with its reason."""

from __future__ import annotations

import math
import statistics
from typing import Final

from legion.neuro_architecture.spec.measurement import Measurement
from legion.neuro_architecture.spec.training import METRIC_UNITS, TrainingMetrics, TrialState
from legion.neuro_architecture.trainer.state import TrialProgress

__all__ = ["metrics_of"]

_TAIL_SHARE: Final = 0.1


def metrics_of(
    proposal_id: str,
    state: TrialState,
    progress: TrialProgress,
    measured: dict[str, Measurement],
    *,
    reason: str | None = None,
) -> TrainingMetrics:
    """The metrics of a trial in `state`.

    Args:
        proposal_id: The trained proposal.
        state: How it stands.
        progress: How far it came.
        measured: What was measured beside the steps: latency, memory, sizes.
        reason: Why it failed or stopped; the reason of every number that is missing.
    """
    found = _of_steps(progress) | measured
    if state in (TrialState.COMPLETED, TrialState.PAUSED, TrialState.STOPPED):
        found |= _of_best(progress)
    why = reason or f"the trial is {state}"
    numbers = {name: found.get(name) or Measurement.absent(unit, why) for name, unit in METRIC_UNITS.items()}
    return TrainingMetrics(proposal_id=proposal_id, state=state, reason=reason, **numbers)


def _of_steps(progress: TrialProgress) -> dict[str, Measurement]:
    counts = {
        "steps_completed": Measurement.measured(progress.step, "steps"),
        "training_time_sec": Measurement.measured(progress.seconds, "s", n=progress.step),
        "tokens_seen": Measurement.measured(progress.tokens_seen, "tokens"),
        "examples_seen": Measurement.measured(progress.examples_seen, "examples"),
    }
    if not progress.losses or progress.seconds <= 0.0:
        return counts
    tail = progress.losses[-max(1, math.ceil(_TAIL_SHARE * progress.step)) :]
    error = statistics.stdev(tail) / math.sqrt(len(tail)) if len(tail) > 1 else None
    return counts | {
        "training_loss": Measurement.measured(statistics.fmean(tail), "nats", n=len(tail), error=error),
        "throughput_samples_sec": Measurement.measured(
            progress.examples_seen / progress.seconds, "examples/s", n=progress.step
        ),
    }


def _of_best(progress: TrialProgress) -> dict[str, Measurement]:
    best = progress.best
    if best is None:
        return {}
    count = best.num_predictions
    return {
        "eval_accuracy": Measurement.measured(best.accuracy, "share", n=count, error=best.accuracy_error),
        "validation_loss": Measurement.measured(best.loss, "nats", n=count, error=best.loss_error),
    }
