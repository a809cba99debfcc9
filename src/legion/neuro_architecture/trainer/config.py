"""The numbers of the stage that no proposal decides."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from legion.neuro_architecture.spec._value import Value
from legion.neuro_architecture.spec.task import TaskKind

__all__ = ["TrainerConfig"]

Count = Annotated[int, Field(ge=1)]
CountOrNone = Annotated[int, Field(ge=0)]
Seconds = Annotated[float, Field(ge=0.0)]


class TrainerConfig(Value):
    """How a trial is fed, watched and saved; written with every trial.

    Attributes:
        max_tokens: Most tokens read of one example, where the base reads as many.
        validation_examples: Most validation examples measured at each validation.
        validation_batch_size: Validation examples in one forward pass.
        num_validations: Most validations in a run, evenly spread; the last is at the last step.
        validation_share: A short run validates less often, so that it looks at no more than this many validation
            examples for each training example; but twice at least.
        latency_examples: Validation examples timed one by one after training; 0 leaves the latency unmeasured.
        latency_warmup: Examples run before the timing starts.
        checkpoint_every_s: A checkpoint is due after as many seconds of work,
        checkpoint_share: and this share of the steps, whichever comes later,
        checkpoint_within_s: but no later than this many seconds.
        explosion_factor: A trial has diverged when its mean loss exceeds this multiple of its first loss
        explosion_window: over as many steps.
        data_seed: Of the order of the examples and of the watched ones. The same for all trials that are compared.
    """

    max_tokens: Count = 256
    validation_examples: Count = 256
    validation_batch_size: Count = 32
    num_validations: Count = 5
    validation_share: Annotated[float, Field(gt=0.0)] = 0.5
    latency_examples: CountOrNone = 20
    latency_warmup: CountOrNone = 3
    checkpoint_every_s: Seconds = 10.0
    checkpoint_share: Annotated[float, Field(ge=0.0, le=1.0)] = 0.1
    checkpoint_within_s: Seconds = 60.0
    explosion_factor: Annotated[float, Field(gt=1.0)] = 4.0
    explosion_window: Count = 10
    data_seed: int = 0

    @classmethod
    def for_task(cls, kind: TaskKind) -> TrainerConfig:
        """The defaults for a kind of task: a summary has many target tokens, so fewer examples say as much."""
        if kind == "summarization":
            return cls(validation_examples=32, validation_batch_size=8, latency_examples=8, latency_warmup=1)
        return cls()
