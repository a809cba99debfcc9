"""The Hugging Face Trainer as both baselines use it, and the data as it takes them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, final

from torch.utils.data import Sampler
from transformers import DataCollatorForSeq2Seq, DataCollatorWithPadding, EvalPrediction, Trainer

from legion.foundation.rng import RandomStream
from legion.neuro_architecture.adapters import auxiliary_loss
from legion.neuro_architecture.data.encoding import TaskEncoder, length_buckets
from legion.neuro_architecture.data.examples import Example
from legion.neuro_architecture.spec.task import TaskKind, TaskSpec

__all__ = ["BenchTrainer", "count_hits", "list_data"]


def list_data(rows: Sequence[Example], tokenizer: Any, spec: TaskSpec, max_tokens: int) -> list[dict[str, Any]]:
    """Tokenised once. A text to classify goes through the tokenizer; article and headline are framed as ours are."""
    if spec.kind == "classification":
        encoded = tokenizer([row.text for row in rows], truncation=True, max_length=max_tokens)
        classes = [spec.labels.index(row.target) for row in rows]
        return [
            {"input_ids": ids, "attention_mask": mask, "labels": label}
            for ids, mask, label in zip(encoded["input_ids"], encoded["attention_mask"], classes, strict=True)
        ]
    items = TaskEncoder(tokenizer, spec, max_tokens=max_tokens).encode_all(rows)
    return [
        {"input_ids": item.input_ids, "attention_mask": [1] * len(item.input_ids), "labels": item.labels}
        for item in items
    ]


def count_hits(prediction: EvalPrediction) -> dict[str, float]:
    """`compute_metrics` of a classification."""
    hits = prediction.predictions.argmax(axis=-1) == prediction.label_ids
    return {"accuracy": float(hits.mean())}


@final
class LengthBuckets(Sampler[int]):
    """Epochs of the batches of like length that the packed trainer takes from the same seed, as one row of indices."""

    def __init__(self, lengths: Sequence[int], batch_size: int) -> None:
        self._lengths = lengths
        self._batch_size = batch_size
        self._stream = RandomStream(0).child("trainer").child("batches")
        self._epoch = 0

    def __len__(self) -> int:
        return len(self._lengths)

    def __iter__(self) -> Iterator[int]:
        draw = self._stream.child(f"epoch-{self._epoch}").random()
        self._epoch += 1
        for batch in length_buckets(self._lengths, self._batch_size, draw):
            yield from batch


@final
class BenchTrainer(Trainer):
    """Trainer with padding to the batch's longest row, and the mixture's balance loss where a model has one.

    Args:
        kind: Of the task; decides the collator.
        is_bucketed: Whether batches are of like length.
        named: Trainer's own.
    """

    def __init__(self, *, kind: TaskKind, is_bucketed: bool, **named: Any) -> None:
        tokenizer = named["processing_class"]
        collator = DataCollatorWithPadding(tokenizer) if kind == "classification" else DataCollatorForSeq2Seq(tokenizer)
        super().__init__(data_collator=collator, **named)
        self._is_bucketed = is_bucketed

    def _get_train_sampler(self, train_dataset: Any = None) -> Any:
        if not self._is_bucketed:
            return super()._get_train_sampler(train_dataset)
        lengths = [len(row["input_ids"]) for row in self.train_dataset]
        return LengthBuckets(lengths, self.args.per_device_train_batch_size)

    def compute_loss(self, model: Any, inputs: Any, return_outputs: bool = False, **named: Any) -> Any:
        loss, outputs = super().compute_loss(model, inputs, return_outputs=True, **named)
        extra = auxiliary_loss(model) if model.training else None
        loss = loss if extra is None else loss + extra
        return (loss, outputs) if return_outputs else loss
