"""A batch as every member of a population reads it: tokens, the positions whose logits count, and their targets."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, Literal, final

import torch
from torch import Tensor
from torch.nn.functional import pad

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
        rows_N: Those of the B * R positions that count, row by row.
        targets_N: What is compared, in their order.
        num_targets: How many of them are compared; the rest is there to round their number up, and ignored.
        num_tokens: Tokens that are no padding.
    """

    batch: dict[str, Tensor]
    read_BR: Tensor
    rows_N: Tensor
    targets_N: Tensor
    num_targets: int
    num_tokens: int

    @property
    def mask(self) -> Tensor:
        """1 where a token is no padding."""
        return self.batch["attention_mask"]

    @property
    def num_examples(self) -> int:
        return len(self.read_BR)


def read_inputs(
    batch: dict[str, Tensor],
    reading: Reading,
    device: torch.device,
    *,
    pad_token_id: int | None,
    multiple: int = 1,
) -> Inputs:
    """The batch on `device`, with the positions that are read.

    Args:
        batch: On the CPU: input_ids and attention_mask [B, T]; labels [B], or [B, T] with -100 outside the target.
        reading: Where the head reads.
        device: Where the models are.
        pad_token_id: The base's padding; what a causal classifier of transformers looks for the last token by.
        multiple: T and, for each target read, R and N are rounded up to multiples of it: batches of few shapes.
    """
    if reading != "last" or pad_token_id is not None:  # without a padding token the last column is read
        batch = _lengthened(batch, pad_token_id, multiple)
    labels, mask = batch["labels"], batch["attention_mask"]
    if reading == "targets":
        read_BR, is_target_BR = _before_targets(labels)
        read_BR, is_target_BR = _widened_rows(read_BR, is_target_BR, multiple)
        targets_N = labels.gather(1, read_BR + 1)[is_target_BR]
        rows_N = is_target_BR.flatten().nonzero().flatten()
    else:
        read_BR = torch.zeros(len(labels), 1, dtype=torch.long) if reading == "first" else _last(batch, pad_token_id)
        rows_N, targets_N = torch.arange(len(labels)), labels
    num_targets = len(targets_N)
    missing = -num_targets % multiple if reading == "targets" else 0
    return Inputs(
        batch={name: tensor.to(device) for name, tensor in batch.items()},
        read_BR=read_BR.to(device),
        rows_N=pad(rows_N, (0, missing)).to(device),
        targets_N=pad(targets_N, (0, missing), value=IGNORED).to(device),
        num_targets=num_targets,
        num_tokens=int(mask.sum()),
    )


def _lengthened(batch: dict[str, Tensor], pad_token_id: int | None, multiple: int) -> dict[str, Tensor]:
    """The batch with more padding on the right."""
    missing = -batch["attention_mask"].shape[1] % multiple
    if not missing:
        return batch
    fillings = {"input_ids": pad_token_id or 0, "attention_mask": 0, "labels": IGNORED}
    return {
        name: pad(tensor, (0, missing), value=fillings[name]) if tensor.dim() == 2 else tensor
        for name, tensor in batch.items()
    }


def _last(batch: dict[str, Tensor], pad_token_id: int | None) -> Tensor:
    is_text = batch["input_ids"].ne(-1 if pad_token_id is None else pad_token_id)
    positions = torch.arange(is_text.shape[1])
    return (positions * is_text).argmax(dim=-1, keepdim=True)


def _widened_rows(read_BR: Tensor, is_target_BR: Tensor, multiple: int) -> tuple[Tensor, Tensor]:
    """R rounded up; what is added repeats each row's last position and is no target."""
    missing = -read_BR.shape[1] % multiple
    more = read_BR[:, -1:].expand(-1, missing)
    return torch.cat((read_BR, more), dim=1), pad(is_target_BR, (0, missing), value=False)


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
