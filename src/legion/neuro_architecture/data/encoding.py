"""From examples to tensors: prompts, truncation, padding, and batches of like length."""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, final

from legion.foundation.errors import InvalidValueError
from legion.neuro_architecture.data.examples import Example
from legion.neuro_architecture.data.prompts import Frame, make_frame
from legion.neuro_architecture.spec.task import TaskSpec

if TYPE_CHECKING:
    from torch import Tensor

__all__ = ["Encoded", "TaskEncoder", "length_buckets"]

IGNORED: Final = -100
_ANSWER_ROOM: Final = 48
_POOL: Final = 32


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class Encoded:
    """An example as numbers.

    Attributes:
        input_ids: Token ids.
        labels: The class index; or, for a summarization, as many ids as `input_ids`, -100 outside the target.
    """

    input_ids: list[int]
    labels: list[int] | int


@final
class TaskEncoder:
    """Turns the examples of one task into inputs of one model.

    Classification: the text as the tokenizer frames it, cut at `max_tokens`.

    Summarization: prompt, target, end token; the loss counts the target and the end token only. The prompt is the
    tokenizer's chat template where it has one. What is too long is cut at the end of the article: it makes room for
    the whole target, and for 48 tokens of answer where the target is shorter, so that a prompt reads the same in
    training and in use. A target is cut only beyond half of what the bare prompt leaves, and keeps its end token.

    Control tokens spelled out in a text are read as plain text, so no article can end its own prompt.

    Args:
        tokenizer: The base model's, with a padding token.
        spec: The task.
        max_tokens: Longest sequence, prompt and target together.

    Raises:
        InvalidValueError: `max_tokens` has no room for the bare prompt.
    """

    def __init__(self, tokenizer: Any, spec: TaskSpec, *, max_tokens: int) -> None:
        self._tokenizer = tokenizer
        self._is_causal = spec.kind == "summarization"
        self._classes = {label: index for index, label in enumerate(spec.labels)}
        self._max_tokens = max_tokens
        self._frame = make_frame(tokenizer, spec) if self._is_causal else Frame((), (), "")
        room = max_tokens - self._frame.num_tokens
        if room < 4:
            raise InvalidValueError(
                f"{max_tokens} tokens are too few for this task",
                cause=f"the prompt alone takes {self._frame.num_tokens} and 4 more are needed",
            )
        self._most_target = room // 2
        self._answer_room = min(_ANSWER_ROOM, room // 2)

    def encode(self, example: Example) -> Encoded:
        """One example with its label or target.

        Raises:
            InvalidValueError: the label is none of the task's, or the text is blank.
        """
        return self.encode_all([example])[0]

    def encode_all(self, examples: Sequence[Example]) -> list[Encoded]:
        """As `encode` for each example, in about half the time: the tokenizer is asked once for all.

        Raises:
            InvalidValueError: as `encode`.
        """
        if not examples:
            return []
        texts = self._texts([example.text for example in examples])
        if not self._is_causal:
            labels = [self._class_of(example) for example in examples]
            return [Encoded(input_ids=ids, labels=label) for ids, label in zip(texts, labels, strict=True)]
        targets = self._tokens([self._frame.lead + example.target for example in examples], is_framed=False)
        return [self._join(text, target) for text, target in zip(texts, targets, strict=True)]

    def encode_text(self, text: str) -> list[int]:
        """A text to classify, or the prompt up to where the answer begins.

        Raises:
            InvalidValueError: the text is blank.
        """
        return self.encode_texts([text])[0]

    def encode_texts(self, texts: Sequence[str]) -> list[list[int]]:
        """As `encode_text` for each text, in about half the time.

        Raises:
            InvalidValueError: a text is blank.
        """
        encoded = self._texts(texts) if texts else []
        return [self._prompt(ids, self._answer_room) for ids in encoded] if self._is_causal else encoded

    def encode_plain(self, texts: Sequence[str]) -> list[Encoded]:
        """Each text as it is, with neither prompt nor target; every token but the first is to be foretold.

        Raises:
            InvalidValueError: the task is no causal model's, or a text is blank.
        """
        if not self._is_causal:
            raise InvalidValueError("plain text is foretold by causal models", cause="the task is to classify")
        if not all(text.strip() for text in texts):
            raise InvalidValueError("the text is blank", hint="give at least one word")
        rows = self._tokens(texts, is_framed=True) if texts else []
        return [Encoded(input_ids=ids, labels=[IGNORED, *ids[1:]]) for ids in rows]

    def collate(self, items: Sequence[Encoded]) -> dict[str, Tensor]:
        """A batch: input_ids [B, T], attention_mask [B, T], labels [B] or [B, T]; padded right to the longest."""
        import torch

        batch = self._pad([item.input_ids for item in items], is_left=False)
        rows = [item.labels for item in items]
        if self._is_causal:
            width = batch["input_ids"].shape[1]
            rows = [[*row, *[IGNORED] * (width - len(row))] for row in rows if isinstance(row, list)]
        return batch | {"labels": torch.tensor(rows, dtype=torch.long)}

    def collate_prompts(self, prompts: Sequence[list[int]]) -> dict[str, Tensor]:
        """A batch without labels: input_ids and attention_mask [B, T]; padded left for a causal model, which goes on
        writing at the right end.
        """
        return self._pad(prompts, is_left=self._is_causal)

    def _class_of(self, example: Example) -> int:
        if example.target not in self._classes:
            raise InvalidValueError(
                f"example {example.id!r} has the unknown label {example.target!r}",
                cause="known: " + ", ".join(self._classes),
            )
        return self._classes[example.target]

    def _join(self, text: list[int], target: list[int]) -> Encoded:
        answer = [*target[: self._most_target - 1], self._tokenizer.eos_token_id]
        prompt = self._prompt(text, max(len(answer), self._answer_room))
        return Encoded(input_ids=prompt + answer, labels=[IGNORED] * len(prompt) + answer)

    def _prompt(self, text: list[int], answer_tokens: int) -> list[int]:
        room = self._max_tokens - self._frame.num_tokens - answer_tokens
        return [*self._frame.before, *text[:room], *self._frame.after]

    def _texts(self, texts: Sequence[str]) -> list[list[int]]:
        if not all(text.strip() for text in texts):
            raise InvalidValueError("the text is blank", hint="give at least one word")
        return self._tokens(texts, is_framed=not self._is_causal)

    def _tokens(self, texts: Sequence[str], *, is_framed: bool) -> list[list[int]]:
        encoded = self._tokenizer(
            list(texts),
            add_special_tokens=is_framed,
            split_special_tokens=True,
            truncation=True,
            max_length=self._max_tokens,
        )
        return [list(ids) for ids in encoded["input_ids"]]

    def _pad(self, rows: Sequence[list[int]], *, is_left: bool) -> dict[str, Tensor]:
        import torch

        width = max(map(len, rows))
        place: Callable[[list[int], list[int]], list[int]] = (
            (lambda row, fill: [*fill, *row]) if is_left else (lambda row, fill: [*row, *fill])
        )
        padding = self._tokenizer.pad_token_id
        ids = [place(row, [padding] * (width - len(row))) for row in rows]
        mask = [place([1] * len(row), [0] * (width - len(row))) for row in rows]
        return {"input_ids": torch.tensor(ids), "attention_mask": torch.tensor(mask)}


def length_buckets(lengths: Sequence[int], batch_size: int, draw: random.Random) -> list[list[int]]:
    """One epoch of batches of like length: every index once, in an order that only `draw` decides.

    Indices are shuffled, sorted by length inside pools of 32 batches, cut into batches, and the batches shuffled. On
    a CPU this saves about half the time of a step, since little is spent on padding.

    Raises:
        InvalidValueError: `batch_size` is below 1.
    """
    if batch_size < 1:
        raise InvalidValueError(f"batch_size is {batch_size}", hint="give 1 or more")
    order = list(range(len(lengths)))
    draw.shuffle(order)
    batches = []
    for start in range(0, len(order), batch_size * _POOL):
        pool = sorted(order[start : start + batch_size * _POOL], key=lengths.__getitem__)
        batches += [pool[first : first + batch_size] for first in range(0, len(pool), batch_size)]
    draw.shuffle(batches)
    return batches
