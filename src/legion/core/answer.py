"""What a slot said, and who said it."""

from __future__ import annotations

from legion.neuro_architecture.spec._value import Value
from legion.neuro_architecture.spec.task import TaskKind

__all__ = ["Answer"]


class Answer(Value):
    """One answer of a slot.

    Attributes:
        slot: The slot that was asked.
        task_kind: What it does.
        text: The label, or the text that was written.
        label: The most probable class; None for a summarization.
        scores: Probability of each class, in the order of the labels; empty for a summarization.
        snapshot: Digest of the snapshot whose adapter answered, or None for the bare base.
        base: Name of the base model.
        base_digest: Digest of its weights.
        latency_ms: From the text to the answer, without loading the model.
    """

    slot: str
    task_kind: TaskKind
    text: str
    label: str | None
    scores: dict[str, float]
    snapshot: str | None
    base: str
    base_digest: str
    latency_ms: float
