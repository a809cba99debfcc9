"""`legion proposals`: what was proposed."""

from __future__ import annotations

import json

import click

from legion.cli.commands.generate import proposal_table
from legion.cli.output import emit, format_option
from legion.foundation.settings import Settings

__all__ = ["command"]


@click.group("proposals")
def command() -> None:
    """List and show proposals (orchestrator/proposals/)."""


@command.command("ls")
@format_option
def ls(output_format: str) -> None:
    """List all stored proposals."""
    from legion.neuro_architecture.records import ProposalStore

    proposals = ProposalStore(Settings.load()).all()
    emit(
        output_format,
        [proposal.to_dict() for proposal in proposals],
        lambda: proposal_table(proposals) if proposals else "none yet: legion generate --task classification --n 8",
        [proposal.id for proposal in proposals],
    )


@command.command("show")
@click.argument("proposal_id")
@format_option
def show(proposal_id: str, output_format: str) -> None:
    """Show one proposal whole: architecture, recipe, estimate, risk factors."""
    from legion.neuro_architecture.records import ProposalStore

    proposal = ProposalStore(Settings.load()).load(proposal_id)
    plain = proposal.to_dict() | {"semantic_hash": proposal.semantic_hash}
    emit(output_format, plain, lambda: json.dumps(plain, indent=2, ensure_ascii=False), [proposal.id])
