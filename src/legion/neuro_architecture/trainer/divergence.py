"""When a trial has no future."""

from __future__ import annotations

import math
from collections.abc import Sequence
from statistics import fmean

from legion.neuro_architecture.trainer.config import TrainerConfig

__all__ = ["find_divergence"]

_SMALLEST_REFERENCE_NATS = 1.0


def find_divergence(losses: Sequence[float], loss: float, gradient_norm: float, config: TrainerConfig) -> str | None:
    """The reason to stop at the step whose loss is `loss`, after steps with `losses`; None where it may go on.

    The loss or the gradient's norm is not finite; or the mean of the last `explosion_window` losses exceeds
    `explosion_factor` * max(first loss, 1 nat). A fresh adapter changes no logit, so the first loss is the bare base's;
    the bound of 1 nat keeps a base that already solves the task from calling every fluctuation an explosion.
    """
    step = len(losses) + 1
    if not math.isfinite(loss):
        return f"the loss is {loss} at step {step}"
    if not math.isfinite(gradient_norm):
        return f"the gradient's norm is {gradient_norm} at step {step}"
    recent = [*losses[max(0, len(losses) - config.explosion_window + 1) :], loss]
    first = losses[0] if losses else loss
    bound = config.explosion_factor * max(first, _SMALLEST_REFERENCE_NATS)
    if len(recent) < config.explosion_window or fmean(recent) <= bound:
        return None
    return (
        f"the loss exploded: mean {fmean(recent):.3g} nats over the {len(recent)} steps to step {step}, "
        f"first loss {first:.3g}"
    )
