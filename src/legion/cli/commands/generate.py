"""`legion generate`: propose architectures and store them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

import click

from legion.cli.output import emit, format_option, note, number, table
from legion.foundation.settings import Settings

if TYPE_CHECKING:
    from collections.abc import Sequence

    from legion.neuro_architecture.spec.proposal import ArchitectureProposal

__all__ = ["command", "proposal_table"]

_SIZE_WORDS: Final = {"rank": "rank", "block_size": "block", "num_frequencies": "frequencies"}
_LORA_WORDS: Final = {
    "use_rslora": "rsLoRA",
    "use_dora": "DoRA",
    "rank_pattern": "rank pattern",
    "alpha_pattern": "alpha pattern",
}


@click.command("generate")
@click.option(
    "--task", required=True, help="Task to propose for: classification, summarization, or, with --data, any label."
)
@click.option("--n", "count", type=int, default=12, show_default=True, help="How many proposals.")
@click.option("--strategies", default="LoRA,MoE,Adapter", show_default=True, help="Comma-separated families.")
@click.option("--seed", type=int, default=0, show_default=True, help="The same seed gives the same proposals.")
@click.option("--base", default=None, help="Base model: embedded name, local folder or hub id.")
@click.option("--data", default=None, help="Data folder; its kind of task then decides, and --task is a label.")
@click.option(
    "--target", default=None, help="Propose only what this server can serve: vllm, llama.cpp, ollama, hf or peft."
)
@click.option("--learn", is_flag=True, help="Learn from this workspace's trials for the same task and base.")
@format_option
def command(
    task: str,
    count: int,
    strategies: str,
    seed: int,
    base: str | None,
    data: str | None,
    target: str | None,
    learn: bool,
    output_format: str,
) -> None:
    """Propose adapter architectures that fit the model at hand and store them in orchestrator/proposals/."""
    from legion.neuro_architecture.generator import ArchitectureGenerator
    from legion.neuro_architecture.portability.plan import check_target

    settings = Settings.load()
    names = [name.strip() for name in strategies.split(",") if name.strip()]
    proposals = ArchitectureGenerator(seed, settings=settings).generate(
        task=task,
        n=count,
        strategies=names,
        base=base,
        data=data,
        learn=learn,
        target=None if target is None else check_target(target),
    )
    emit(
        output_format,
        [proposal.to_dict() for proposal in proposals],
        lambda: proposal_table(proposals),
        [proposal.id for proposal in proposals],
    )
    if output_format in {"auto", "human"}:
        missing = sorted(set(names) - {proposal.strategy for proposal in proposals})
        if target is not None and missing and count >= len(names):
            note(f"none of {', '.join(missing)}: {target} cannot serve them on this base")
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
    plain = {key: value for key, value in proposal.architecture.to_dict().items() if value not in (None, {}, False)}
    layers = plain.get("layers")
    where = f" layers {','.join(map(str, layers))}" if layers else ""
    targets = f" on {'+'.join(plain['target_modules'])}" if "target_modules" in plain else ""
    match plain["strategy"]:
        case "LoRA":
            what = _describe_lora(plain)
        case "Adapter":
            what = _describe_bottleneck(plain)
        case "MoE" if plain["routing"] == "random":
            what = f"{plain['num_experts']} experts averaged, width {plain['bottleneck_size']}"
        case "MoE":
            what = f"{plain['num_experts']} experts, top {plain['top_k']}, width {plain['bottleneck_size']}"
        case "SplitLayer" | "SparseRouting":
            what = f"{plain['num_experts']} {plain['split']} experts, top {plain['top_k']}, r{plain['rank']}"
        case "PrefixTuning" | "PromptTuning":
            what = f"{plain['num_virtual_tokens']} virtual tokens"
        case "Combined":
            return _describe_combined(plain, targets)
        case strategy:
            what = " ".join([strategy, *(f"{word} {plain[key]}" for key, word in _SIZE_WORDS.items() if key in plain)])
    return f"{what}{targets}{where}"


def _describe_bottleneck(plain: dict[str, Any]) -> str:
    gated = "gated " if "is_gated" in plain else ""
    return f"{plain['placement']} {plain['bottleneck_size']} {gated}{plain['non_linearity']}"


def _describe_combined(plain: dict[str, Any], targets: str) -> str:
    first = f" from block {plain['first_layer']}" if "first_layer" in plain else ""
    below = f"{_describe_lora(plain)}{targets}{first} up to block {plain['boundary'] - 1}"
    return f"{below}, {_describe_bottleneck(plain)} above"


def _describe_lora(plain: dict[str, Any]) -> str:
    kinds = [word for key, word in _LORA_WORDS.items() if key in plain]
    return " ".join([f"r{plain['rank']} alpha {plain['alpha']:g}", *kinds])
