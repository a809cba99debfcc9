"""How well the trial does on examples it does not train on."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any, final

import torch
from torch import Tensor
from torch.nn.functional import cross_entropy

from legion.neuro_architecture.packed.group import Judged
from legion.neuro_architecture.packed.objective import target_logits
from legion.neuro_architecture.spec.task import TaskKind

__all__ = ["Validation", "Validator", "is_better", "validation_of"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Validation:
    """One look at the validation subset.

    Attributes:
        step: Finished steps.
        loss: Mean over the predictions, in nats.
        loss_error: Its standard error.
        accuracy: Share of predictions that are right. Classification: of examples. Summarization: of target tokens,
            each predicted with the true tokens before it given (teacher forcing).
        num_predictions: Predictions behind both.
        num_examples: Examples behind the predictions.
    """

    step: int
    loss: float
    loss_error: float
    accuracy: float
    num_predictions: int
    num_examples: int

    @property
    def accuracy_error(self) -> float:
        """sqrt(p (1 - p) / n): predictions taken as independent, which tokens of one summary are only roughly."""
        return math.sqrt(self.accuracy * (1.0 - self.accuracy) / self.num_predictions)

    def to_dict(self) -> dict[str, Any]:
        return asdict(self)


def is_better(candidate: Validation, best: Validation | None, kind: TaskKind) -> bool:
    """Classification: higher accuracy, ties by lower loss. Summarization: lower loss. The earlier wins a full tie."""
    if best is None:
        return True
    if kind == "classification" and candidate.accuracy != best.accuracy:
        return candidate.accuracy > best.accuracy
    return candidate.loss < best.loss


@final
class Validator:
    """Measures a model on one fixed list of batches. Leaves weights and random state alone.

    Args:
        batches: Collated batches on the CPU.
        device: Where the model is.
        has_positions: Whether the model takes `logits_to_keep`.
    """

    def __init__(self, batches: Sequence[dict[str, Tensor]], device: torch.device, *, has_positions: bool) -> None:
        self._batches = batches
        self._device = device
        self._has_positions = has_positions

    @torch.no_grad()
    def measure(self, model: Any, step: int) -> Validation:
        """The validation after `step` steps; sums are kept in fp64 and in a fixed order."""
        model.eval()
        losses, hits = [], 0
        for batch in self._batches:
            logits, targets = target_logits(model, batch, self._device, has_positions=self._has_positions)
            losses.append(cross_entropy(logits.float(), targets, reduction="none").double().cpu())
            hits += int((logits.argmax(dim=-1) == targets).sum())
        num_examples = sum(len(batch["labels"]) for batch in self._batches)
        return _summary(torch.cat(losses), hits, step, num_examples)


def validation_of(judged: Sequence[Judged], step: int, num_examples: int) -> Validation:
    """The validation in one member's predictions, batch by batch."""
    hits = sum(int(part.is_hit_N.sum()) for part in judged)
    return _summary(torch.cat([part.losses_N for part in judged]), hits, step, num_examples)


def _summary(losses_N: Tensor, hits: int, step: int, num_examples: int) -> Validation:
    count = losses_N.numel()
    spread = float(losses_N.std()) if count > 1 else 0.0
    return Validation(
        step=step,
        loss=float(losses_N.mean()),
        loss_error=spread / math.sqrt(count),
        accuracy=hits / count,
        num_predictions=count,
        num_examples=num_examples,
    )
