"""What happens at which step, as pure functions of (step, steps): a resumed run needs no memory of its schedule."""

from __future__ import annotations

import math

from legion.neuro_architecture.spec.proposal import Schedule
from legion.neuro_architecture.trainer.config import TrainerConfig

__all__ = ["affordable_validations", "is_checkpoint_due", "learning_rate", "validation_points"]


def learning_rate(
    step: int, steps: int, *, peak: float, warmup_share: float, begin: int = 0, schedule: Schedule = "linear"
) -> float:
    """The rate of update `step`, counted from 0: linear warm-up, then decay towards zero.

    With w = round(warmup_share * steps) and s = (steps - step) / (steps - w), d(step) = peak while step < w, then
    peak s (linear) or peak (1 - cos(pi s)) / 2 (cosine). The rate is d(step) min(1, (step - begin + 1) / (w + 1)),
    above zero for every update.

    Args:
        step: Number of the update.
        steps: Updates in all.
        peak: Highest rate of an unextended schedule.
        warmup_share: Share of the steps spent warming up.
        begin: Update at which an extension begins. It warms up anew: the shorter schedule had decayed to nearly zero,
            and AdamW's small second moments turn a sudden high rate into a collapse.
        schedule: Form of the decay.
    """
    warmup = round(warmup_share * steps)
    if step < warmup:
        decayed = peak
    elif schedule == "linear":
        decayed = peak * (steps - step) / (steps - warmup)
    else:
        decayed = peak * (1.0 - math.cos(math.pi * (steps - step) / (steps - warmup))) / 2.0
    return decayed * min(1.0, (step - begin + 1) / (warmup + 1))


def affordable_validations(steps: int, *, batch_size: int, num_watched: int, config: TrainerConfig) -> int:
    """How often to validate on `num_watched` examples: `num_validations`, or as `validation_share` allows, 2 at least.

    Without this, a run of 60 steps of 16 spends nearly half its time on validation.
    """
    affordable = int(config.validation_share * steps * batch_size / num_watched)
    return min(config.num_validations, max(2, affordable))


def validation_points(steps: int, num_validations: int) -> tuple[int, ...]:
    """Numbers of finished steps after which validation is due, evenly spread; the last is `steps`."""
    return tuple(sorted({max(1, round(steps * part / num_validations)) for part in range(1, num_validations + 1)}))


def is_checkpoint_due(*, worked_s: float, num_steps: int, steps: int, config: TrainerConfig) -> bool:
    """Whether to save, `worked_s` seconds and `num_steps` steps after the last checkpoint."""
    if num_steps == 0:
        return False
    is_long = worked_s >= config.checkpoint_every_s and num_steps >= config.checkpoint_share * steps
    return is_long or worked_s >= config.checkpoint_within_s
