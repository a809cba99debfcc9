"""How far a patch has come, and what a killed step means."""

from __future__ import annotations

from typing import Any, Final, Literal

from legion.foundation.canonical import digest_bytes
from legion.foundation.errors import RefusedError
from legion.neuro_architecture.spec._value import Value
from legion.neuro_architecture.spec.slot import PatchPlan, PatchState

__all__ = ["ABSENT", "Intent", "Patch", "PatchStatus", "content_digest"]

ABSENT: Final = "absent"
Intent = Literal["apply", "revert"]
_MOVES: Final[dict[tuple[PatchState, Intent], PatchState]] = {
    ("planned", "apply"): "applied",
    ("applied", "revert"): "reverted",
}


def content_digest(content: bytes | None) -> str:
    """Digest of the manifest's bytes, or `absent` where there is no file."""
    return ABSENT if content is None else digest_bytes(content)


class PatchStatus(Value):
    """Life of a patch, as stored in its `state.json`.

    ```
    planned --apply--> applied --revert--> reverted
    ```

    A step writes its intent here with the digest of the manifest that it will leave, then the manifest, then the new
    state. Killed in between, `settled` tells from the manifest alone whether the step happened.

    Attributes:
        state: Where the patch is.
        planned_at: RFC 3339, as are the others.
        applied_at: When it was applied.
        reverted_at: When it was reverted.
        approved_by: Who answered for it, where someone did.
        order: 1, 2, ... among the applications in this workspace.
        manifest_after: Digest of the manifest that its application left.
        intent: The step that was begun and is not known to have ended.
        intent_at: When it was begun.
        intent_manifest: Digest of the manifest that it leaves, or `absent`.
    """

    state: PatchState = "planned"
    planned_at: str
    applied_at: str | None = None
    reverted_at: str | None = None
    approved_by: str | None = None
    order: int | None = None
    manifest_after: str | None = None
    intent: Intent | None = None
    intent_at: str | None = None
    intent_manifest: str | None = None

    def begin(self, intent: Intent, *, at: str, manifest: str, **changes: Any) -> PatchStatus:
        """The status with a step begun.

        Raises:
            RefusedError: the step cannot follow this state.
        """
        if (self.state, intent) not in _MOVES:
            raise RefusedError(f"a patch that is {self.state} cannot be asked to {intent}")
        return self.model_copy(
            update={"intent": intent, "intent_at": at, "intent_manifest": manifest} | changes,
        )

    def end(self) -> PatchStatus:
        """The status after the step that was begun has happened."""
        if self.intent is None:
            return self
        times = (
            {"applied_at": self.intent_at, "manifest_after": self.intent_manifest}
            if self.intent == "apply"
            else {"reverted_at": self.intent_at}
        )
        cleared = {"intent": None, "intent_at": None, "intent_manifest": None}
        return self.model_copy(update={"state": _MOVES[self.state, self.intent]} | times | cleared)

    def settled(self, manifest: str) -> PatchStatus:
        """What is true when the manifest has this digest: the step that was begun happened, or it never did."""
        if self.intent is None:
            return self
        if self.intent_manifest == manifest:
            return self.end()
        undone = {"approved_by": None, "order": None} if self.intent == "apply" else {}
        return self.model_copy(update={"intent": None, "intent_at": None, "intent_manifest": None} | undone)


class Patch(Value):
    """A patch and how far it has come."""

    plan: PatchPlan
    status: PatchStatus

    @property
    def id(self) -> str:
        return self.plan.id

    @property
    def state(self) -> PatchState:
        return self.status.state

    @property
    def changed_at(self) -> str:
        """When it came into its state."""
        moments = {
            "planned": self.status.planned_at,
            "applied": self.status.applied_at,
            "reverted": self.status.reverted_at,
        }
        return moments[self.state] or self.status.planned_at
