"""`legion patch`: the changes to slots, as files that can be read, applied and reverted."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from legion.cli.commands.integrate import describe_plan
from legion.cli.output import emit, format_option, table
from legion.foundation.canonical import short
from legion.foundation.settings import Settings

if TYPE_CHECKING:
    from legion.neuro_architecture.integrator import Integrator

__all__ = ["command"]


@click.group("patch")
def command() -> None:
    """List, show, apply and revert patches (orchestrator/patches/)."""


def _integrator(settings: Settings) -> Integrator:
    from legion.neuro_architecture.integrator import Integrator
    from legion.neuro_architecture.registry import ArchitectureRegistry

    return Integrator(settings, ArchitectureRegistry.of(settings))


@command.command("ls")
@format_option
def ls(output_format: str) -> None:
    """List all patches, oldest first."""
    patches = _integrator(Settings.load()).patches()
    rows = [
        [patch.plan.id, patch.state, patch.plan.slot, short(patch.plan.after.snapshot or ""), patch.changed_at]
        for patch in patches
    ]
    emit(
        output_format,
        [patch.to_dict() for patch in patches],
        lambda: table(["patch", "state", "slot", "snapshot", "since"], rows) if rows else "no patch yet",
        [patch.plan.id for patch in patches],
    )


@command.command("show")
@click.argument("patch_id")
@format_option
def show(patch_id: str, output_format: str) -> None:
    """Show one patch: its plan, its risk and its state."""
    settings = Settings.load()
    patch = _integrator(settings).patch(patch_id)
    emit(
        output_format,
        patch.to_dict(),
        lambda: f"{describe_plan(patch.plan, settings)}\n  state      {patch.state} since {patch.changed_at}",
        [patch.plan.id],
    )


@command.command("apply")
@click.argument("patch_id")
@click.option("--approve", default=None, metavar="NAME", help="Who answers for a risk above the threshold.")
@format_option
def apply(patch_id: str, approve: str | None, output_format: str) -> None:
    """Apply a planned patch."""
    patch = _integrator(Settings.load()).apply(patch_id, approve=approve)
    emit(output_format, patch.to_dict(), lambda: f"applied {patch.plan.id} to slot {patch.plan.slot}", [patch.plan.id])


@command.command("revert")
@click.argument("patch_id", required=False)
@format_option
def revert(patch_id: str | None, output_format: str) -> None:
    """Bring back exactly what was before a patch (the last applied one by default)."""
    patch = _integrator(Settings.load()).revert(patch_id)
    before = patch.plan.before

    def human() -> str:
        was = "no slot" if before is None else short(before.snapshot) if before.snapshot else "the bare base"
        return f"reverted {patch.plan.id}: slot {patch.plan.slot} is back to {was}"

    emit(output_format, patch.to_dict(), human, [patch.plan.id])
