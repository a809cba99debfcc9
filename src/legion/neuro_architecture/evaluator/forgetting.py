"""How much worse a causal model has become at plain language modelling than the bare base is."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, Final

import torch
from torch.nn.functional import cross_entropy

from legion.neuro_architecture.data.encoding import TaskEncoder
from legion.neuro_architecture.evaluator.inference import like_length_batches
from legion.neuro_architecture.evaluator.outcome import mean_with_error
from legion.neuro_architecture.spec.measurement import Measurement

__all__ = ["forgetting", "plain_losses"]

_MOST_LOGITS: Final = 1 << 26  # in one forward pass: 256 MiB in fp32


def plain_losses(model: Any, encoder: TaskEncoder, texts: Sequence[str], *, batch_size: int) -> tuple[float, ...]:
    """Mean loss of each text in nats a token, every token but the first foretold from those before it.

    Texts of a single token foretell nothing and are left out, whatever the model.

    Args:
        model: A causal model in eval mode.
        encoder: Of a causal task.
        texts: Plain texts.
        batch_size: Most texts in a forward pass; fewer where their logits would take more than 256 MiB.
    """
    items = [item for item in encoder.encode_plain(texts) if len(item.input_ids) > 1]
    lengths = [len(item.input_ids) for item in items]
    widest = max(lengths, default=1) * model.config.get_text_config().vocab_size
    rows = max(1, min(batch_size, _MOST_LOGITS // widest))
    found = [0.0] * len(items)
    for places in like_length_batches(lengths, rows):
        batch = encoder.collate([items[place] for place in places])
        labels_BT = batch.pop("labels").to(model.device)
        with torch.inference_mode():
            logits_BTV = model(**{name: tensor.to(model.device) for name, tensor in batch.items()}).logits
            for place, logits_TV, labels_T in zip(places, logits_BTV, labels_BT, strict=True):
                found[place] = float(cross_entropy(logits_TV[:-1].float(), labels_T[1:]))
    return tuple(found)


def forgetting(adapted: Sequence[float], bare: Sequence[float]) -> Measurement:
    """The adapted model's losses less the bare base's on the same texts, nats a token: mean and paired standard error.

    Below zero where the adapted model foretells plain text better; absent where its losses are not finite.
    """
    if not all(map(math.isfinite, adapted)):
        return Measurement.absent("nats", "the adapted model's loss on plain text is not finite")
    return mean_with_error([one - other for one, other in zip(adapted, bare, strict=True)], "nats")
