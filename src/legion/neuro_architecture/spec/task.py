"""A task and its data set, as `task.toml` describes them."""

from __future__ import annotations

from typing import Final, Literal

from legion.foundation.errors import UnknownNameError
from legion.neuro_architecture.spec._value import Value

__all__ = ["EMBEDDED_TASKS", "EmbeddedTask", "Metric", "Split", "TaskKind", "TaskSpec", "embedded_task"]

TaskKind = Literal["classification", "summarization"]
Metric = Literal["accuracy", "rouge_l"]
Split = Literal["train", "validation", "test"]


class TaskSpec(Value):
    """What a data set is for.

    Attributes:
        name: Name of the task, usually its folder's.
        kind: `classification` (text to label) or `summarization` (text to shorter text, by a causal model).
        text_column: Column with the input text.
        target_column: Column with the label or the target text.
        group_column: Column whose equal values may not be split apart, or None.
        labels: Class names in the order of the model's outputs; empty for summarization.
        metric: The task's own metric: `accuracy`, or ROUGE-L F1.
        licence: Licence of the data.
        source: Where the data comes from.
        digest: sha256 over the rows of all splits, or None where the folder does not state one.
        is_conventional: True when no `task.toml` was there and the values were read by convention.
    """

    name: str
    kind: TaskKind
    text_column: str = "text"
    target_column: str = "label"
    group_column: str | None = None
    labels: tuple[str, ...] = ()
    metric: Metric = "accuracy"
    licence: str = "unknown"
    source: str = "unknown"
    digest: str | None = None
    is_conventional: bool = False


class EmbeddedTask(Value):
    """A task name that works without any set-up of one's own: which kind, which base, which data by default."""

    name: str
    kind: TaskKind
    base: str
    data: str


EMBEDDED_TASKS: Final[tuple[EmbeddedTask, ...]] = (
    EmbeddedTask(name="classification", kind="classification", base="minilm-l6", data="data/classification"),
    EmbeddedTask(name="summarization", kind="summarization", base="smollm2-135m", data="data/task_small"),
)


def embedded_task(name: str) -> EmbeddedTask:
    """The embedded task called `name`.

    Raises:
        UnknownNameError: there is none.
    """
    for task in EMBEDDED_TASKS:
        if task.name == name:
            return task
    raise UnknownNameError.of(
        "task",
        name,
        [task.name for task in EMBEDDED_TASKS],
        hint="or name a data folder: legion generate --task NAME --data data/NAME/",
    )
