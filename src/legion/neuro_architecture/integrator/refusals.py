"""The gates of a patch: each says no with the reason and the next command."""

from __future__ import annotations

from legion.foundation.errors import RefusedError
from legion.neuro_architecture.integrator.readable import describe_risk
from legion.neuro_architecture.integrator.status import Patch
from legion.neuro_architecture.spec.slot import PatchPlan

__all__ = ["last_applied", "refuse_covered", "refuse_reverted", "refuse_risk", "refuse_unapplied"]


def refuse_risk(plan: PatchPlan, threshold: float, approver: str | None) -> None:
    """Raises RefusedError where the risk is above the threshold and nobody answers for it."""
    if plan.risk_score > threshold and approver is None:
        raise RefusedError(
            f"risk {plan.risk_score:.2f} of {plan.evidence.get('proposal')} is above the threshold {threshold:g}",
            cause="\n".join(describe_risk(plan)),
            hint=f"legion integrate --top {len(plan.registered)} --approve NAME",
        )


def refuse_reverted(patch: Patch) -> None:
    """Raises RefusedError where the patch was reverted: what it was planned for may be gone."""
    if patch.state == "reverted":
        raise RefusedError(
            f"patch {patch.id} was reverted at {patch.changed_at}", hint="plan anew: legion integrate --top 3"
        )


def last_applied(patches: list[Patch]) -> Patch:
    """The patch that was applied last.

    Raises:
        RefusedError: none is applied.
    """
    applied = [patch for patch in patches if patch.state == "applied"]
    if not applied:
        raise RefusedError("no patch is applied, so there is nothing to revert", hint="legion patch ls")
    return max(applied, key=lambda patch: patch.status.order or 0)


def refuse_unapplied(patch: Patch) -> None:
    """Raises RefusedError unless the patch is applied."""
    if patch.state != "applied":
        raise RefusedError(f"patch {patch.id} is {patch.state}, so there is nothing to revert", hint="legion patch ls")


def refuse_covered(patch: Patch, patches: list[Patch]) -> None:
    """Raises RefusedError, naming it, where a later patch of the same slot is applied."""
    later = [
        item
        for item in patches
        if item.state == "applied"
        and item.plan.slot == patch.plan.slot
        and (item.status.order or 0) > (patch.status.order or 0)
    ]
    if later:
        last = max(later, key=lambda item: item.status.order or 0)
        raise RefusedError(
            f"patch {patch.id} lies under {last.id}, which changed slot {patch.plan.slot!r} later",
            hint=f"legion patch revert {last.id}",
        )
