"""`legion ask`: a text through a slot."""

from __future__ import annotations

import click

from legion.cli.output import emit, format_option
from legion.foundation.canonical import short
from legion.foundation.settings import Settings

__all__ = ["command"]


@click.command("ask")
@click.argument("slot")
@click.argument("text")
@format_option
def command(slot: str, text: str, output_format: str) -> None:
    """Answer TEXT through SLOT and say which snapshot's digest answered."""
    from legion.core import LegionCore
    from legion.neuro_architecture.registry import ArchitectureRegistry

    settings = Settings.load()
    answer = LegionCore(settings, ArchitectureRegistry.of(settings)).ask(slot, text)

    def human() -> str:
        scores = "  ".join(f"{label} {share:.3f}" for label, share in answer.scores.items())
        by = f"snapshot {short(answer.snapshot)}" if answer.snapshot else "the bare base"
        return "\n".join(filter(None, [answer.text, scores, f"answered by {by} in {answer.latency_ms:.1f} ms"]))

    emit(output_format, answer.to_dict(), human, [answer.text])
