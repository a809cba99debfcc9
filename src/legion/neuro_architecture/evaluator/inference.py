"""Asking a model for labels or for text, in batches of like length."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Protocol, final

import torch
from torch import Tensor

from legion.neuro_architecture.data.encoding import TaskEncoder

__all__ = ["Answer", "Answerer", "Classifier", "Writer", "like_length_batches", "on_device", "probabilities"]

Answer = tuple[float, ...] | str
"""Probability of each label, or the text that was written."""


class Answerer(Protocol):
    """Whatever answers texts: a model with an adapter, a frozen probe, a bare causal model."""

    def answer(self, texts: Sequence[str]) -> list[Answer]:
        """One answer for each text, in order."""
        ...


def like_length_batches(lengths: Sequence[int], batch_size: int) -> Iterator[list[int]]:
    """Indices in batches, sorted by length, so that little is padded."""
    order = sorted(range(len(lengths)), key=lambda index: (lengths[index], index))
    for start in range(0, len(order), batch_size):
        yield order[start : start + batch_size]


def on_device(batch: dict[str, Tensor], device: torch.device) -> dict[str, Tensor]:
    """The batch without labels, on `device`."""
    return {name: tensor.to(device) for name, tensor in batch.items() if name != "labels"}


def probabilities(logits_NC: Tensor) -> list[Answer]:
    """The softmax of each row, in fp64."""
    return [tuple(row) for row in torch.softmax(logits_NC.double(), dim=-1).tolist()]


def _in_batches(
    texts: Sequence[str],
    encoder: TaskEncoder,
    batch_size: int,
    ask: Callable[[dict[str, Tensor]], Sequence[Answer]],
    device: torch.device,
) -> list[Answer]:
    distinct = list(dict.fromkeys(texts))
    prompts = encoder.encode_texts(distinct)
    answers: dict[str, Answer] = {}
    for batch in like_length_batches([len(prompt) for prompt in prompts], batch_size):
        inputs = on_device(encoder.collate_prompts([prompts[index] for index in batch]), device)
        with torch.inference_mode():
            for index, answer in zip(batch, ask(inputs), strict=True):
                answers[distinct[index]] = answer
    return [answers[text] for text in texts]


@final
@dataclass(frozen=True, slots=True)
class Classifier:
    """Probability of each label, by the softmax of a model's logits.

    Attributes:
        model: A sequence classifier in eval mode.
        encoder: Turns texts into its inputs.
        batch_size: Texts in a forward pass.
    """

    model: Any
    encoder: TaskEncoder
    batch_size: int

    def answer(self, texts: Sequence[str]) -> list[Answer]:
        def ask(inputs: dict[str, Tensor]) -> list[Answer]:
            return probabilities(self.model(**inputs).logits)

        return _in_batches(texts, self.encoder, self.batch_size, ask, self.model.device)


@final
@dataclass(frozen=True, slots=True)
class Writer:
    """The text that a causal model writes after a prompt, greedily, until its end token.

    Attributes:
        model: A causal model in eval mode.
        encoder: Turns texts into prompts, padded on the left.
        tokenizer: Turns tokens back into text; says which token ends one.
        batch_size: Prompts in a batch.
        max_new_tokens: Most tokens written.
        max_positions: Positions the model has; a prompt near it leaves less room to write.
    """

    model: Any
    encoder: TaskEncoder
    tokenizer: Any
    batch_size: int
    max_new_tokens: int
    max_positions: int

    def answer(self, texts: Sequence[str]) -> list[Answer]:
        return _in_batches(texts, self.encoder, self.batch_size, self._write, self.model.device)

    def _write(self, inputs: dict[str, Tensor]) -> list[Answer]:
        from transformers import GenerationConfig

        prompt_tokens = inputs["input_ids"].shape[1]
        room = min(self.max_new_tokens, self.max_positions - prompt_tokens)
        if room < 1:
            return [""] * len(inputs["input_ids"])
        written = self.model.generate(
            **inputs,
            generation_config=GenerationConfig(
                max_new_tokens=room,
                do_sample=False,
                pad_token_id=self.tokenizer.pad_token_id,
                eos_token_id=self.tokenizer.eos_token_id,
            ),
        )
        texts = self.tokenizer.batch_decode(written[:, prompt_tokens:], skip_special_tokens=True)
        return [text.strip() for text in texts]
