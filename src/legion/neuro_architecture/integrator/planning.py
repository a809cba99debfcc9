"""What a patch will say, before anything is written."""

from __future__ import annotations

from legion.foundation.errors import RefusedError
from legion.neuro_architecture.integrator.patch_store import plan_id
from legion.neuro_architecture.integrator.status import Patch
from legion.neuro_architecture.integrator.winners import Winner, evidence, labels_of, slot_name
from legion.neuro_architecture.spec.evaluation import EvaluationSummary
from legion.neuro_architecture.spec.slot import PatchPlan, Slot, SlotManifest
from legion.neuro_architecture.spec.snapshot import ArchitectureSnapshot

__all__ = ["draft_plan", "filled_slot", "same_plan"]


def filled_slot(winner: Winner, snapshot: ArchitectureSnapshot, summary: EvaluationSummary) -> Slot:
    """The task's slot with the winner's snapshot in it."""
    plain = {
        "name": slot_name(summary.task),
        "task_kind": winner.proposal.task_kind,
        "base": winner.proposal.base,
        "snapshot": snapshot.digest,
        "labels": labels_of(winner),
        "target_column": winner.record.get("target_column"),
        "max_tokens": (winner.record.get("config") or {}).get("max_tokens"),
    }
    known = {name: value for name, value in plain.items() if value is not None}
    return Slot.parse(known, what=f"the slot that the run of {winner.proposal.id} asks for")


def draft_plan(
    winner: Winner,
    summary: EvaluationSummary,
    after: Slot,
    manifest: SlotManifest,
    *,
    registered: tuple[str, ...],
    at: str,
) -> PatchPlan:
    """The plan that puts `after` into the manifest.

    Raises:
        RefusedError: the slot does another kind of task now.
    """
    before = manifest.slots.get(after.name)
    if before is not None and before.task_kind != after.task_kind:
        raise RefusedError(
            f"slot {after.name!r} does {before.task_kind}, the winner does {after.task_kind}",
            cause="whoever calls the slot expects what it does now",
            hint="give the task another name in its task.toml",
        )
    draft = PatchPlan(
        id="",
        slot=after.name,
        before=before,
        after=after,
        manifest_digest=manifest.digest,
        risk_score=winner.proposal.risk_score,
        risk_factors=tuple(factor.to_dict() for factor in winner.proposal.risk.factors),
        evidence=evidence(winner, summary),
        registered=registered,
        created_at=at,
    )
    return draft.model_copy(update={"id": plan_id(draft)})


def same_plan(plan: PatchPlan, patches: list[Patch]) -> PatchPlan | None:
    """The waiting plan that says the same, or the applied patch whose outcome the plan would only repeat."""
    if plan.before == plan.after:
        applied = [item for item in patches if item.state == "applied" and item.plan.after == plan.after]
        if applied:
            return max(applied, key=lambda item: item.status.order or 0).plan
    for patch in patches:
        same = patch.plan.model_copy(update={"id": plan.id, "created_at": plan.created_at})
        if patch.state == "planned" and same == plan:
            return patch.plan
    return None
