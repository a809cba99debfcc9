"""What a trial has done so far; all of it is in every checkpoint."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from typing import Any

from torch import Tensor

from legion.neuro_architecture.trainer.validation import Validation

__all__ = ["TrialHistory", "TrialProgress"]


@dataclass(slots=True, kw_only=True)
class TrialProgress:
    """Counts and losses up to the last finished step. Owned by one training loop; mutable on purpose.

    Attributes:
        step: Finished steps.
        losses: Task loss of each finished step, in nats, without the auxiliary loss.
        seconds: Time spent in those steps.
        tokens_seen: Non-padding tokens in their batches.
        examples_seen: Examples in their batches.
        validations: All validations, in order.
        best: The best of them, or None before the first.
        best_weights: Trainable tensors at the best validation, on the CPU; none while the weights as they stand are
            these.
    """

    step: int = 0
    losses: list[float] = field(default_factory=list)
    seconds: float = 0.0
    tokens_seen: int = 0
    examples_seen: int = 0
    validations: list[Validation] = field(default_factory=list)
    best: Validation | None = None
    best_weights: dict[str, Tensor] = field(default_factory=dict)

    @property
    def is_best(self) -> bool:
        """Whether the weights as they stand are those of the best validation."""
        return self.best is not None and self.best.step == self.step

    @property
    def is_validated(self) -> bool:
        """Whether the weights as they stand have been validated."""
        return bool(self.validations) and self.validations[-1].step == self.step


@dataclass(slots=True, kw_only=True)
class TrialHistory:
    """How a trial came to be where it is.

    Attributes:
        started_at: When the first attempt began, RFC 3339.
        attempts: One entry an attempt: when, from which step, on how many threads and which device.
        extended_from: Steps at which an earlier, shorter schedule ended.
    """

    started_at: str
    attempts: list[dict[str, Any]] = field(default_factory=list)
    extended_from: list[int] = field(default_factory=list)

    def to_dict(self) -> dict[str, Any]:
        return asdict(self)
