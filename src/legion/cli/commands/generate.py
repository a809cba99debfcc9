"""`legion generate`: propose architectures and store them."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from legion.cli.output import emit, format_option, note, number, table
from legion.foundation.settings import Settings

if TYPE_CHECKING:
    from collections.abc import Sequence

    from legion.neuro_architecture.spec.proposal import ArchitectureProposal

__all__ = ["command", "proposal_table"]


@click.command("generate")
@click.option(
    "--task", required=True, help="Task to propose for: classification, summarization, or, with --data, any label."
)
@click.option("--n", "count", type=int, default=12, show_default=True, help="How many proposals.")
@click.option("--strategies", default="LoRA,MoE,Adapter", show_default=True, help="Comma-separated families.")
@click.option("--seed", type=int, default=0, show_default=True, help="The same seed gives the same proposals.")
@click.option("--base", default=None, help="Base model: embedded name, local folder or hub id.")
@click.option("--data", default=None, help="Data folder; its kind of task then decides, and --task is a label.")
@format_option
def command(
    task: str, count: int, strategies: str, seed: int, base: str | None, data: str | None, output_format: str
) -> None:
    """Propose adapter architectures that fit the model at hand and store them in orchestrator/proposals/."""
    from legion.neuro_architecture.generator import ArchitectureGenerator

    settings = Settings.load()
    names = [name.strip() for name in strategies.split(",") if name.strip()]
    proposals = ArchitectureGenerator(seed, settings=settings).generate(
        task=task, n=count, strategies=names, base=base, data=data
    )
    emit(
        output_format,
        [proposal.to_dict() for proposal in proposals],
        lambda: proposal_table(proposals),
        [proposal.id for proposal in proposals],
    )
    if output_format in {"auto", "human"}:
        note(f"stored in {settings.workspace / 'orchestrator' / 'proposals'}")
        note(f"next: legion train --proposal {proposals[0].id} --data DIR --steps 200")


def proposal_table(proposals: Sequence[ArchitectureProposal]) -> str:
    """The proposals, a line each, with what is known before training."""
    return table(
        ["proposal", "architecture", "trainable", "GFLOP/example", "ms (estimate)", "risk"],
        [
            [
                proposal.id,
                _describe(proposal),
                f"{proposal.trainable_parameters:,}",
                f"{proposal.expected_flops / 1e9:.2f}",
                f"{proposal.expected_latency_ms:.2f}",
                number(proposal.risk_score, 2),
            ]
            for proposal in proposals
        ],
    )


def _describe(proposal: ArchitectureProposal) -> str:
    plain = {key: value for key, value in proposal.architecture.to_dict().items() if value is not None}
    layers = plain.get("layers")
    where = f" layers {','.join(map(str, layers))}" if layers else ""
    match plain["strategy"]:
        case "LoRA":
            return f"r{plain['rank']} alpha {plain['alpha']:g} on {'+'.join(plain['target_modules'])}{where}"
        case "Adapter":
            return f"{plain['placement']} {plain['bottleneck_size']} {plain['non_linearity']}{where}"
        case _:
            return f"{plain['num_experts']} experts, top {plain['top_k']}, width {plain['bottleneck_size']}{where}"
