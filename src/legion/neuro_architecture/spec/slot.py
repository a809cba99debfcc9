"""Slots of LEGION Core: named model positions that agents call, and the patch that changes one."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Field

from legion.foundation.canonical import digest_json
from legion.neuro_architecture.spec._value import Value
from legion.neuro_architecture.spec.proposal import BaseReference
from legion.neuro_architecture.spec.task import TaskKind

__all__ = ["PatchPlan", "PatchState", "Slot", "SlotManifest"]

PatchState = Literal["planned", "applied", "reverted"]


class Slot(Value):
    """One named model position: a base model, and the snapshot whose adapter answers there.

    Attributes:
        name: What agents call.
        task_kind: What the slot does with a text.
        base: The base model.
        snapshot: Digest of the registered snapshot, or None for the bare base.
        labels: Class names, for a classification slot.
        target_column: What the training data called the answer; a summarization's prompt asks for it by that name.
        max_tokens: Most tokens read of one text, as in training.
    """

    name: str
    task_kind: TaskKind
    base: BaseReference
    snapshot: str | None = None
    labels: tuple[str, ...] = ()
    target_column: str = "label"
    max_tokens: Annotated[int, Field(ge=1)] = 256


class SlotManifest(Value):
    """All slots by name, as stored in `core/slots.json`."""

    slots: dict[str, Slot] = Field(default_factory=dict)

    @property
    def digest(self) -> str:
        """Content name of the whole manifest."""
        return digest_json(self.to_dict())


class PatchPlan(Value):
    """The change that integrates a snapshot into LEGION Core, complete in itself: it can be read, applied, reverted.

    Attributes:
        id: `<slot>-<12 hex>`.
        slot: Name of the slot.
        before: The slot as it stood, or None where it did not exist.
        after: The slot as it will stand.
        manifest_digest: The manifest this plan was made for; applying to another one is refused.
        risk_score: Risk of the proposal behind it.
        risk_factors: The factors behind the score, as plain values.
        evidence: The measurements the decision rests on.
        registered: Digests of all winners registered with it.
        created_at: RFC 3339.
    """

    id: str
    slot: str
    before: Slot | None
    after: Slot
    manifest_digest: str
    risk_score: float
    risk_factors: tuple[dict[str, Any], ...]
    evidence: dict[str, Any]
    registered: tuple[str, ...]
    created_at: str
