"""What proposals are made for: a task, a base model, and how long an example is."""

from __future__ import annotations

import statistics
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from legion.foundation.errors import InvalidValueError
from legion.foundation.settings import Settings
from legion.neuro_architecture.anatomy import ModelAnatomy
from legion.neuro_architecture.data.base_models import BaseModel, resolve_base
from legion.neuro_architecture.data.datasets import DataSet, read_data
from legion.neuro_architecture.data.encoding import TaskEncoder
from legion.neuro_architecture.portability.base_facts import BaseFacts, read_base_facts
from legion.neuro_architecture.spec.proposal import BaseReference
from legion.neuro_architecture.spec.task import EMBEDDED_TASKS, TaskKind, embedded_task

__all__ = ["Problem", "pose_problem"]

# Tokens of an example where no data set is at hand: movie-review sentences, news articles with their headline.
_TYPICAL_TOKENS: Final[dict[TaskKind, int]] = {"classification": 32, "summarization": 256}
_NUM_CLASSES: Final = 2
_MOST_TOKENS: Final = 256  # training cuts examples here, too
_SAMPLED_EXAMPLES: Final = 200


@dataclass(frozen=True, slots=True, kw_only=True)
class Problem:
    """One task on one base model.

    Attributes:
        task: Name that the proposals carry.
        kind: Kind of the task.
        base: The base model.
        facts: What of it decides how it can be served, its structure with the head of this task among it.
        sequence_length: Tokens of a typical example.
    """

    task: str
    kind: TaskKind
    base: BaseReference
    facts: BaseFacts
    sequence_length: int

    @property
    def anatomy(self) -> ModelAnatomy:
        """The base model's structure, with the head of this task."""
        return self.facts.anatomy


def pose_problem(task: str, *, base: str | None, data: Path | str | None, settings: Settings) -> Problem:
    """Resolves names to a base model and reads its structure from its config, without weights.

    With `data`, the data set says the kind of task, the labels and the typical length, and `task` is a free label.

    Raises:
        UnknownNameError: without `data`, `task` is no embedded task; or nothing is called `base`.
        InvalidValueError: `task` is empty.
        DataError: the data set is broken.
        ModelError: the base model cannot do the task, or its structure is not understood.
    """
    if not task.strip():
        raise InvalidValueError("task is empty", hint="name one: legion generate --task classification")
    data_set = None if data is None else read_data(settings.workspace / data)
    kind = embedded_task(task).kind if data_set is None else data_set.spec.kind
    model = resolve_base(base or settings.base or _default_base(kind), settings)
    num_labels = len(data_set.spec.labels) if data_set and data_set.spec.labels else _NUM_CLASSES
    longest = min(model.max_tokens, _MOST_TOKENS)
    length = _TYPICAL_TOKENS[kind] if data_set is None else _median_tokens(data_set, model, longest)
    return Problem(
        task=task,
        kind=kind,
        base=model.reference,
        facts=read_base_facts(model, kind, num_labels=num_labels),
        sequence_length=min(length, longest),
    )


def _default_base(kind: TaskKind) -> str:
    return next(task.base for task in EMBEDDED_TASKS if task.kind == kind)


def _median_tokens(data_set: DataSet, model: BaseModel, longest: int) -> int:
    """Median length of training examples as they are trained on, over an even sample of them."""
    stride = -(-len(data_set.train) // _SAMPLED_EXAMPLES)
    encoder = TaskEncoder(model.tokenizer(), data_set.spec, max_tokens=longest)
    encoded = encoder.encode_all(data_set.train[::stride])
    return statistics.median_low([len(item.input_ids) for item in encoded])
