"""What all trials on a data set are fed with: the same batches in the same order, the same watched examples."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Final, final

import torch
from torch import Tensor

from legion.foundation.canonical import digest_json
from legion.foundation.errors import DataError
from legion.foundation.rng import RandomStream
from legion.neuro_architecture.data.base_models import BaseModel
from legion.neuro_architecture.data.datasets import DataSet, Example
from legion.neuro_architecture.data.encoding import Encoded, TaskEncoder
from legion.neuro_architecture.packed.inputs import IGNORED, Inputs
from legion.neuro_architecture.packed.prefix import KeptSplit
from legion.neuro_architecture.trainer.batches import BatchStream
from legion.neuro_architecture.trainer.config import TrainerConfig
from legion.neuro_architecture.trainer.validation import Validator

__all__ = ["TRAIN", "WATCHED", "Batch", "Feed"]

TRAIN: Final = "train"
WATCHED: Final = "watched"

# The examples of a batch as numbers within their split, and what the model reads of them.
Batch = tuple[list[int], dict[str, Tensor]]


@final
class Feed:
    """Batches of encoded examples; a pure function of data, base, `config.data_seed` and the numbers asked for.

    Common random numbers: every trial sees the same examples in the same order, so that differences between trials are
    the trials' own.

    Args:
        base: Whose tokenizer reads.
        data: The data set.
        config: Sizes, and the seed of the order.

    Raises:
        DataError: an example has no target token left to train on.
    """

    def __init__(self, base: BaseModel, data: DataSet, config: TrainerConfig) -> None:
        self._stream = RandomStream(config.data_seed).child("trainer")
        self._config = config
        self._encoder = TaskEncoder(base.tokenizer(), data.spec, max_tokens=min(base.max_tokens, config.max_tokens))
        self._train = _encode(self._encoder, data.train)
        self._watched = _encode(self._encoder, watched_examples(data, config))
        self._orders: dict[int, BatchStream] = {}
        self._digests: dict[str, str] = {}

    @property
    def num_watched(self) -> int:
        """Validation examples that are looked at."""
        return len(self._watched)

    @property
    def num_train(self) -> int:
        return len(self._train)

    @property
    def num_train_tokens(self) -> int:
        """Tokens of all training examples."""
        return sum(len(item.input_ids) for item in self._train)

    @property
    def longest(self) -> int:
        """Tokens of the longest example."""
        return max(len(item.input_ids) for item in (*self._train, *self._watched))

    def batch(self, batch_size: int, step: int) -> Batch:
        """The batch of step `step`, counted from 0."""
        if batch_size not in self._orders:
            lengths = [len(item.input_ids) for item in self._train]
            self._orders[batch_size] = BatchStream(lengths, batch_size, self._stream.child("batches"))
        examples = self._orders[batch_size].batch(step)
        return examples, self._encoder.collate([self._train[example] for example in examples])

    def watched_batches(self) -> list[Batch]:
        """The validation examples in batches of like length."""
        order = sorted(range(len(self._watched)), key=lambda example: len(self._watched[example].input_ids))
        size = self._config.validation_batch_size
        parts = [order[start : start + size] for start in range(0, len(order), size)]
        return [(part, self._encoder.collate([self._watched[example] for example in part])) for part in parts]

    def single_batches(self, count: int) -> list[dict[str, Tensor]]:
        """The first `count` watched examples, each a batch of its own."""
        return [self._encoder.collate([item]) for item in self._watched[:count]]

    def validator(self, device: torch.device, *, has_positions: bool) -> Validator:
        """Measures any model on the watched examples."""
        return Validator([batch for _, batch in self.watched_batches()], device, has_positions=has_positions)

    def kept(self, split: str, read: Callable[[dict[str, Tensor]], Inputs]) -> KeptSplit:
        """A split as the cache of frozen states knows it; `read` says what the base's head reads of a batch."""
        items = self._train if split == TRAIN else self._watched
        if split not in self._digests:
            self._digests[split] = digest_json([item.input_ids for item in items])

        def fetch(examples: Sequence[int]) -> Inputs:
            return read(self._encoder.collate([items[example] for example in examples]))

        return KeptSplit(self._digests[split], [len(item.input_ids) for item in items], fetch)


def watched_examples(data: DataSet, config: TrainerConfig) -> Sequence[Example]:
    """The validation examples that every trial of a comparison is looked at on: all, or a seeded sample."""
    examples = data.validation
    if len(examples) <= config.validation_examples:
        return examples
    stream = RandomStream(config.data_seed).child("trainer").child("validation")
    return stream.random().sample(examples, config.validation_examples)


def _encode(encoder: TaskEncoder, examples: Sequence[Example]) -> list[Encoded]:
    encoded = encoder.encode_all(examples)
    for example, item in zip(examples, encoded, strict=True):
        if not isinstance(item.labels, int) and all(label == IGNORED for label in item.labels[1:]):
            raise DataError(f"example {example.id} has no target token left to train on", hint="shorten its text")
    return encoded
