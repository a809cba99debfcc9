"""Patches under `orchestrator/patches/<id>/`: files that can be read, applied and reverted."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Final, final

from legion.foundation.canonical import digest_json
from legion.foundation.errors import IntegrityError, UnknownNameError, UsageError
from legion.foundation.files import confine, publish_folder, read_json, write_json, write_text
from legion.foundation.settings import Settings
from legion.neuro_architecture.integrator.readable import readme
from legion.neuro_architecture.integrator.status import Patch, PatchStatus, content_digest
from legion.neuro_architecture.spec.slot import PatchPlan

__all__ = ["PatchStore", "plan_id"]

FOLDER: Final = Path("orchestrator") / "patches"


def plan_id(plan: PatchPlan) -> str:
    """`<slot>-<12 hex>` from the digest of everything else in the plan."""
    content = {name: value for name, value in plan.to_dict().items() if name != "id"}
    return f"{plan.slot}-{digest_json(content).removeprefix('sha256:')[:12]}"


@final
class PatchStore:
    """Reads and writes the patches of one workspace. Writers hold the manifest's lock; readers need none.

    A patch's folder appears whole. `state.json` is its only file that changes.

    Args:
        settings: Says where the workspace is.
    """

    def __init__(self, settings: Settings) -> None:
        self.folder = settings.workspace / FOLDER

    def create(self, plan: PatchPlan, manifest: bytes | None, planned_at: str) -> Patch:
        """Writes a planned patch; `manifest` are the exact bytes that reverting brings back, None for no file."""
        status = PatchStatus(planned_at=planned_at)
        before = plan.before.to_dict() if plan.before else None

        def fill(folder: Path) -> None:
            write_json(folder / "plan.json", plan.to_dict())
            write_json(folder / "apply.json", {"slot": plan.slot, "entry": plan.after.to_dict()})
            write_json(
                folder / "revert.json",
                {
                    "slot": plan.slot,
                    "entry": before,
                    "manifest_digest": content_digest(manifest),
                    "manifest_text": None if manifest is None else manifest.decode("utf-8"),
                },
            )
            write_json(folder / "state.json", status.to_dict())
            write_text(folder / "README.md", readme(plan))

        publish_folder(confine(self.folder, plan.id), fill)
        return Patch(plan=plan, status=status)

    def ids(self) -> list[str]:
        """Ids of all patches, sorted."""
        return sorted(path.parent.name for path in self.folder.glob("[!.]*/plan.json"))

    def all(self) -> list[Patch]:
        """All patches, oldest first."""
        return sorted((self._read(name) for name in self.ids()), key=lambda item: (item.status.planned_at, item.id))

    def load(self, patch_id: str) -> Patch:
        """The patch with this id, or with this unique beginning of an id.

        Raises:
            UnknownNameError: none has it.
            UsageError: several begin with it.
            IntegrityError: its plan was changed by hand.
        """
        known = self.ids()
        found = [patch_id] if patch_id in known else [name for name in known if name.startswith(patch_id)]
        if not patch_id or not found:
            raise UnknownNameError.of("patch", patch_id, known, hint="list them: legion patch ls")
        if len(found) > 1:
            raise UsageError(f"patch {patch_id!r} is ambiguous", cause="it begins " + ", ".join(found))
        return self._read(found[0])

    def _read(self, name: str) -> Patch:
        folder = self.folder / name
        plan = PatchPlan.parse(read_json(folder / "plan.json"), what=str(folder / "plan.json"))
        if plan_id(plan) != name or plan.id != name:
            raise IntegrityError(
                f"{folder / 'plan.json'} is not the plan that was written", hint="plan anew: legion integrate --top 3"
            )
        path = folder / "state.json"
        return Patch(plan=plan, status=PatchStatus.parse(read_json(path), what=str(path)))

    def write_status(self, patch: Patch, status: PatchStatus) -> Patch:
        """Stores the patch's new status, durably, and returns the patch with it."""
        write_json(self.folder / patch.id / "state.json", status.to_dict())
        return Patch(plan=patch.plan, status=status)

    def manifest_before(self, patch: Patch) -> bytes | None:
        """The manifest's exact bytes at planning time, or None where there was no file.

        Raises:
            IntegrityError: `revert.json` was changed by hand.
        """
        path = self.folder / patch.id / "revert.json"
        data: dict[str, Any] = read_json(path)
        text = data.get("manifest_text")
        content = None if text is None else str(text).encode()
        if content_digest(content) != data.get("manifest_digest"):
            raise IntegrityError(f"{path} was changed: its text is not what its digest says")
        return content
