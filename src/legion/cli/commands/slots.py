"""`legion slots`: what LEGION Core serves now."""

from __future__ import annotations

import click

from legion.cli.output import emit, format_option, table
from legion.foundation.canonical import short
from legion.foundation.settings import Settings

__all__ = ["command"]


@click.command("slots")
@format_option
def command(output_format: str) -> None:
    """List the slots: what each does, its base model and the snapshot that answers."""
    from legion.neuro_architecture.records import SlotStore

    manifest = SlotStore(Settings.load()).read()
    rows = [
        [slot.name, slot.task_kind, slot.base.name, short(slot.snapshot) if slot.snapshot else "the bare base"]
        for slot in manifest.slots.values()
    ]
    emit(
        output_format,
        manifest.to_dict(),
        lambda: table(["slot", "kind", "base", "snapshot"], rows) if rows else "no slot yet: legion integrate --top 3",
        list(manifest.slots),
    )
