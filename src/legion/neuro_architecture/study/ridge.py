"""How much a linear head alone reads off the frozen states between the base's blocks."""

from __future__ import annotations

from typing import Final

import torch
from torch import Tensor

from legion.neuro_architecture.data.base_models import BaseModel
from legion.neuro_architecture.data.datasets import DataSet, Example
from legion.neuro_architecture.data.encoding import TaskEncoder

__all__ = ["block_of", "ridge_accuracies"]

_TRAIN: Final = 512
_VALIDATION: Final = 256
_BATCH: Final = 64
# Penalty as a share of the mean feature's sum of squares.
_PENALTY: Final = 0.1


@torch.inference_mode()
def ridge_accuracies(base: BaseModel, data: DataSet, *, max_tokens: int) -> list[float]:
    """Validation accuracy of a ridge head on the mean state that enters each block, and on what leaves the last.

    One forward pass over 512 training and 256 validation examples gives the states of all blocks; each head is the
    closed form (X'X + lambda I)^-1 X'Y with labels as one-hot rows, on centred features. An adapter that begins at
    block b can change nothing of what entry b says.

    Args:
        base: The base model.
        data: A classification data set.
        max_tokens: Most tokens read of one example.

    Returns:
        One share for each block, and one more: [num_blocks + 1].
    """
    encoder = TaskEncoder(base.tokenizer(), data.spec, max_tokens=min(base.max_tokens, max_tokens))
    model = base.load(data.spec).eval()
    train, watched = data.train[:_TRAIN], data.validation[:_VALIDATION]
    states_LND = _states(model, encoder, [*train, *watched])
    labels = torch.tensor([data.spec.labels.index(example.target) for example in (*train, *watched)])
    count = len(train)
    return [_accuracy(x_ND[:count], labels[:count], x_ND[count:], labels[count:]) for x_ND in states_LND]


def block_of(layers: object) -> int:
    """The lowest block of a trait `layers`: 0 of `all`, 3 of `3-5` and of `3,5`."""
    text = str(layers)
    return 0 if text == "all" else int(text.split("-", maxsplit=1)[0].split(",", maxsplit=1)[0])


def _states(model: object, encoder: TaskEncoder, examples: list[Example]) -> Tensor:
    """Mean state over each example's tokens at every block, [blocks + 1, examples, width], in fp64."""
    parts: list[Tensor] = []
    for start in range(0, len(examples), _BATCH):
        batch = encoder.collate(encoder.encode_all(examples[start : start + _BATCH]))
        mask_BT1 = batch["attention_mask"].unsqueeze(-1).float()
        output = model(  # type: ignore[operator]
            input_ids=batch["input_ids"], attention_mask=batch["attention_mask"], output_hidden_states=True
        )
        means = [(x_BTD.float() * mask_BT1).sum(1) / mask_BT1.sum(1) for x_BTD in output.hidden_states]
        parts.append(torch.stack(means).double())
    return torch.cat(parts, dim=1)


def _accuracy(x_ND: Tensor, labels_N: Tensor, asked_MD: Tensor, expected_M: Tensor) -> float:
    middle_D = x_ND.mean(0)
    x_ND, asked_MD = x_ND - middle_D, asked_MD - middle_D
    y_NC = torch.nn.functional.one_hot(labels_N, int(max(labels_N.max(), expected_M.max())) + 1).double()
    offset_C = y_NC.mean(0)
    gram_DD = x_ND.T @ x_ND
    penalty = _PENALTY * gram_DD.diagonal().mean()
    gram_DD += penalty.clamp_min(1e-12) * torch.eye(len(gram_DD), dtype=gram_DD.dtype)
    weights_DC = torch.linalg.solve(gram_DD, x_ND.T @ (y_NC - offset_C))
    found_M = (asked_MD @ weights_DC + offset_C).argmax(dim=-1)
    return float((found_M == expected_M).double().mean())
