"""A batch as every member of a population reads it: tokens, the positions whose logits count, and their targets."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, Literal, final

import torch
from torch import Tensor

__all__ = ["IGNORED", "Inputs", "Reading", "read_inputs"]

IGNORED: Final = -100
# Where a head reads: the first token (BERT), the last that is no padding (causal classifiers), or before each target.
Reading = Literal["first", "last", "targets"]


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class Inputs:
    """One batch.

    Attributes:
        batch: As it was collated, on the device: what a model that runs as a whole is given.
        read_BR: Positions that the head reads, each row padded with its last.
        is_target_BR: Which of them count.
        targets_N: What is compared, in the order of `is_target_BR`'s true entries.
    """

    batch: dict[str, Tensor]
    read_BR: Tensor
    is_target_BR: Tensor
    targets_N: Tensor

    @property
    def mask(self) -> Tensor:
        """1 where a token is no padding."""
        return self.batch["attention_mask"]

    @property
    def num_tokens(self) -> int:
        return int(self.mask.sum())

    @property
    def num_examples(self) -> int:
        return len(self.read_BR)


def read_inputs(
    batch: dict[str, Tensor], reading: Reading, device: torch.device, *, pad_token_id: int | None
) -> Inputs:
    """The batch on `device`, with the positions that are read.

    Args:
        batch: input_ids and attention_mask [B, T]; labels [B], or [B, T] with -100 outside the target.
        reading: Where the head reads.
        device: Where the models are.
        pad_token_id: The base's padding; what a causal classifier of transformers looks for the last token by.
    """
    moved = {name: tensor.to(device, non_blocking=True) for name, tensor in batch.items()}
    labels = moved["labels"]
    if reading == "targets":
        read_BR, is_target_BR = _before_targets(labels)
        targets_N = labels.gather(1, read_BR + 1)[is_target_BR]
        return Inputs(batch=moved, read_BR=read_BR, is_target_BR=is_target_BR, targets_N=targets_N)
    if reading == "first":
        read_BR = torch.zeros(len(labels), 1, dtype=torch.long, device=device)
    else:
        is_text = moved["input_ids"].ne(-1 if pad_token_id is None else pad_token_id)
        positions = torch.arange(is_text.shape[1], device=device)
        read_BR = (positions * is_text).argmax(dim=-1, keepdim=True)
    return Inputs(
        batch=moved, read_BR=read_BR, is_target_BR=torch.ones_like(read_BR, dtype=torch.bool), targets_N=labels
    )


def _before_targets(labels_BT: Tensor) -> tuple[Tensor, Tensor]:
    """For each row the positions before its targets, padded to as many as the row with most; position 0 is no target,
    since nothing stands before it.
    """
    is_target = labels_BT[:, 1:] != IGNORED
    counts_B = is_target.sum(dim=1)
    most = int(counts_B.max())
    # a stable sort that brings the targets to the front keeps their order
    order_BR = (~is_target).long().sort(dim=1, stable=True).indices[:, :most]
    column_R = torch.arange(most, device=labels_BT.device)
    is_target_BR = column_R < counts_B.unsqueeze(1)
    last_B1 = order_BR.gather(1, (counts_B - 1).clamp(min=0).unsqueeze(1))
    return torch.where(is_target_BR, order_BR, last_B1), is_target_BR
