"""Registers winners, plans patches of slots, applies them behind the risk gate and reverts them exactly."""

from __future__ import annotations

from typing import final

import legion
from legion.foundation.clock import Clock, SystemClock, rfc3339
from legion.foundation.errors import IntegrityError, RefusedError
from legion.foundation.labels import plain_label
from legion.foundation.settings import Settings
from legion.neuro_architecture.integrator.patch_store import PatchStore
from legion.neuro_architecture.integrator.planning import draft_plan, filled_slot, same_plan
from legion.neuro_architecture.integrator.provenance import describe_code
from legion.neuro_architecture.integrator.refusals import (
    last_applied,
    refuse_covered,
    refuse_reverted,
    refuse_risk,
    refuse_unapplied,
)
from legion.neuro_architecture.integrator.status import Patch, content_digest
from legion.neuro_architecture.integrator.winners import (
    Winner,
    find_winners,
    registered_metrics,
    registered_provenance,
)
from legion.neuro_architecture.records import SlotStore
from legion.neuro_architecture.spec.evaluation import EvaluationSummary
from legion.neuro_architecture.spec.ports import RegistryPort
from legion.neuro_architecture.spec.slot import PatchPlan, SlotManifest
from legion.neuro_architecture.spec.snapshot import ArchitectureSnapshot

__all__ = ["Integrator"]


@final
class Integrator:
    """Changes LEGION Core's slots by patches, and by nothing else.

    Safe for threads and processes: whatever reads and then writes the manifest holds its lock. Each step of a patch
    is intent, manifest, state, each durable before the next. After kill -9 at any instant the same call again brings
    the step to its end, and the opposite call undoes it:

    | killed | found | `apply` again | `revert` |
    |---|---|---|---|
    | before the intent | planned | applies | refuses: not applied |
    | between intent and manifest | planned | applies | refuses: not applied |
    | between manifest and state | applied | notes that it is | reverts |

    Args:
        settings: The workspace and the risk threshold.
        registry: Where winners are registered and their files kept.
        clock: Where the times in records come from.
    """

    def __init__(self, settings: Settings, registry: RegistryPort, *, clock: Clock | None = None) -> None:
        self._settings = settings
        self._registry = registry
        self._clock = clock or SystemClock()
        self._slots = SlotStore(settings)
        self._patches = PatchStore(settings)

    def register_winners(self, summary: EvaluationSummary, top: int) -> list[ArchitectureSnapshot]:
        """Registers the `top` best scored candidates with their evidence and adapters, best first.

        Raises:
            InvalidValueError: top is below 1, or above what was evaluated or has a score.
            UsageError: a proposal or run is missing or not complete.
            RefusedError: a run was trained again after it was evaluated.
        """
        return [snapshot for _, snapshot in self._register(summary, top)]

    def plan(self, summary: EvaluationSummary, top: int) -> PatchPlan:
        """Registers the winners and plans to put the best one into its task's slot; changes no slot.

        An equal plan that still waits, or the applied one whose outcome still stands, is given again.

        Raises:
            InvalidValueError, UsageError, RefusedError: as `register_winners`; also where the slot does another task.
        """
        registered = self._register(summary, top)
        winner, snapshot = registered[0]
        digests = tuple(item.digest for _, item in registered)
        after = filled_slot(winner, snapshot, summary)
        with self._slots.locked():
            patches = self._settle()
            content, manifest = self._slots.content(), self._slots.read()
            plan = draft_plan(winner, summary, after, manifest, registered=digests, at=rfc3339(self._clock.now()))
            standing = same_plan(plan, [patch for patch in patches if self._is_current(patch, content)])
            return standing or self._patches.create(plan, content, plan.created_at).plan

    def _is_current(self, patch: Patch, content: bytes | None) -> bool:
        """Whether the patch does not wait for a manifest that is gone."""
        return patch.state != "planned" or self._patches.manifest_before(patch) == content

    def apply(self, plan: PatchPlan | str, approve: str | None = None) -> Patch:
        """Puts the planned snapshot into its slot; an applied patch stays as it is.

        Args:
            plan: The plan or its id.
            approve: Name of who answers for it; needed above the risk threshold, recorded in any case.

        Raises:
            InvalidValueError: the approver's name is empty, too long or not printable.
            UnknownNameError: there is no such patch.
            RefusedError: the risk needs an approval, the manifest changed since planning, or the patch was reverted.
            IntegrityError: the snapshot is not registered, or its files are not what was registered.
        """
        approver = None if approve is None else plain_label(approve, "approver")
        with self._slots.locked():
            self._settle()
            patch = self._patches.load(plan if isinstance(plan, str) else plan.id)
            if isinstance(plan, PatchPlan) and plan != patch.plan:
                raise RefusedError(f"the plan given is not patch {patch.id} as it is stored")
            if patch.state == "applied":
                return patch
            self._check_gate(patch, approver)
            return self._apply(patch, approver)

    def _apply(self, patch: Patch, approver: str | None) -> Patch:
        after = patch.plan.after
        manifest = self._slots.read()
        content = SlotStore.bytes_of(SlotManifest(slots=manifest.slots | {after.name: after}))
        status = patch.status.begin(
            "apply",
            at=rfc3339(self._clock.now()),
            manifest=content_digest(content),
            approved_by=approver,
            order=1 + max((item.status.order or 0 for item in self._patches.all()), default=0),
        )
        patch = self._patches.write_status(patch, status)
        self._slots.write(content)
        return self._patches.write_status(patch, status.end())

    def revert(self, patch_id: str | None = None) -> Patch:
        """Brings back what was before a patch: the last applied one, or the one named; a reverted one stays as it is.

        Where nothing else changed since, the manifest comes back byte for byte, its absence included. Where a patch of
        another slot was applied since, this slot's entry comes back and the other slot keeps its own.

        Raises:
            UnknownNameError: there is no such patch.
            RefusedError: nothing is applied, a later patch of the same slot is applied, or the slot was changed by
                other means.
        """
        with self._slots.locked():
            interrupted = {patch.id for patch in self._patches.all() if patch.status.intent == "revert"}
            patches = self._settle()
            if patch_id is None:
                finished = [patch for patch in patches if patch.id in interrupted and patch.state == "reverted"]
                patch = finished[0] if finished else last_applied(patches)
            else:
                patch = self._patches.load(patch_id)
            if patch.state == "reverted":
                return patch
            refuse_unapplied(patch)
            refuse_covered(patch, patches)
            return self._revert(patch)

    def _revert(self, patch: Patch) -> Patch:
        target = self._content_before(patch)
        status = patch.status.begin("revert", at=rfc3339(self._clock.now()), manifest=content_digest(target))
        patch = self._patches.write_status(patch, status)
        self._slots.write(target)
        return self._patches.write_status(patch, status.end())

    def _content_before(self, patch: Patch) -> bytes | None:
        if content_digest(self._slots.content()) == patch.status.manifest_after:
            return self._patches.manifest_before(patch)
        plan = patch.plan
        slots = dict(self._slots.read().slots)
        if slots.pop(plan.slot, None) != plan.after:
            raise RefusedError(
                f"slot {plan.slot!r} is no longer as patch {patch.id} left it",
                cause=f"{self._slots.path} was changed by other means",
                hint="legion slots",
            )
        return SlotStore.bytes_of(SlotManifest(slots=slots | ({plan.slot: plan.before} if plan.before else {})))

    def patches(self) -> list[Patch]:
        """All patches, oldest first."""
        manifest = content_digest(self._slots.content())
        return [patch.model_copy(update={"status": patch.status.settled(manifest)}) for patch in self._patches.all()]

    def patch(self, patch_id: str) -> Patch:
        """The patch with this id, or with this unique beginning of an id.

        Raises:
            UnknownNameError: there is none.
        """
        patch = self._patches.load(patch_id)
        return patch.model_copy(update={"status": patch.status.settled(content_digest(self._slots.content()))})

    def _register(self, summary: EvaluationSummary, top: int) -> list[tuple[Winner, ArchitectureSnapshot]]:
        winners = find_winners(self._settings, summary, top)
        code = describe_code(self._settings.workspace)
        return [
            (
                winner,
                self._registry.register(
                    version=legion.__version__,
                    config=winner.proposal.architecture.to_dict(),
                    metrics=registered_metrics(winner, summary),
                    provenance=registered_provenance(winner, summary, code),
                    tags=[summary.task, winner.proposal.strategy.lower(), "candidate"],
                    files=winner.files,
                ),
            )
            for winner in winners
        ]

    def _check_gate(self, patch: Patch, approver: str | None) -> None:
        plan = patch.plan
        refuse_reverted(patch)
        refuse_risk(plan, self._settings.risk_threshold, approver)
        if content_digest(self._slots.content()) != content_digest(self._patches.manifest_before(patch)):
            raise RefusedError(
                f"{self._slots.path} changed since patch {plan.id} was planned",
                cause=f"planned for {plan.manifest_digest}, found {self._slots.read().digest}",
                hint=f"plan anew: legion integrate --top {len(plan.registered)}",
            )
        snapshot = self._registry.get(plan.after.snapshot or "")
        if snapshot is None:
            raise IntegrityError(f"snapshot {plan.after.snapshot} of patch {plan.id} is not registered")
        self._registry.verify_files(snapshot)

    def _settle(self) -> list[Patch]:
        """Ends or forgets steps that a kill interrupted; all patches as they then are. Call it under the lock."""
        manifest = content_digest(self._slots.content())
        settled = []
        for patch in self._patches.all():
            status = patch.status.settled(manifest)
            settled.append(patch if status == patch.status else self._patches.write_status(patch, status))
        return settled
