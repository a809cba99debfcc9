"""The logits that are trained and the targets they are compared with, of a model that runs as a whole."""

from __future__ import annotations

import inspect
from typing import Any

import torch
from torch import Tensor

from legion.neuro_architecture.packed.inputs import IGNORED

__all__ = ["accepts_positions", "target_logits"]


def accepts_positions(model: Any) -> bool:
    """Whether the model can leave out logits that nobody compares (`logits_to_keep`)."""
    return "logits_to_keep" in inspect.signature(model.forward).parameters


def target_logits(
    model: Any, batch: dict[str, Tensor], device: torch.device, *, has_positions: bool
) -> tuple[Tensor, Tensor]:
    """Runs the model and gives logits [N, C] and targets [N].

    Classification (labels [B]): one target an example. Causal (labels [B, T], -100 outside the target): one for each
    target token, predicted from the position before it; with `has_positions`, logits before the batch's first target
    are never computed, which saves most of the language-model head.

    Args:
        model: Takes `input_ids` and `attention_mask`, gives `.logits`.
        batch: A collated batch, on any device.
        device: Where the model is.
        has_positions: Whether the model takes `logits_to_keep`.
    """
    labels = batch["labels"]
    inputs = {name: tensor.to(device, non_blocking=True) for name, tensor in batch.items() if name != "labels"}
    if labels.dim() == 1:
        return model(**inputs).logits, labels.to(device)
    first = _first_target(labels)
    if has_positions:
        kept = torch.arange(first - 1, labels.shape[1] - 1, device=device)
        logits = model(**inputs, logits_to_keep=kept).logits
    else:
        logits = model(**inputs).logits[:, first - 1 : -1]
    targets = labels[:, first:].to(device)
    is_target = targets != IGNORED
    return logits[is_target], targets[is_target]


def _first_target(labels_BT: Tensor) -> int:
    """The first position after 0 that is a target in any row: position 0 has nothing before it to be predicted from."""
    is_target = (labels_BT[:, 1:] != IGNORED).any(dim=0)
    return 1 + int(is_target.int().argmax())
