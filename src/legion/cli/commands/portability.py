"""`legion portability`: what each target can serve of each strategy, before anything is trained."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from legion.cli.output import emit, format_option, table
from legion.foundation.settings import Settings

if TYPE_CHECKING:
    from legion.neuro_architecture.portability import BaseFacts
    from legion.neuro_architecture.portability.matrix import MatrixRow

__all__ = ["command"]


@click.command("portability")
@click.option("--base", default=None, help="Base model; by default one of each proven family (llama, gpt2, bert).")
@click.option("--reasons", is_flag=True, help="Say why what is impossible is so.")
@click.option("--markdown", is_flag=True, help="Print Markdown with the reasons: the matrix of docs/portability.md.")
@format_option
def command(base: str | None, reasons: bool, markdown: bool, output_format: str) -> None:
    """Print the matrix of strategies and targets: the stock form where it is exact, a dash where it is impossible."""
    from legion.neuro_architecture.portability.matrix import FAMILIES, family_facts, portability_matrix

    chosen = [_facts_of(base)] if base else [family_facts(family) for family in FAMILIES]
    matrices = [(facts, portability_matrix(facts)) for facts in chosen]
    emit(
        output_format,
        [
            {
                "base": facts.name,
                "variant": row.label,
                "architecture": row.architecture.to_dict(),
                "plan": plan.to_dict(),
            }
            for facts, rows in matrices
            for row in rows
            for plan in row.plans.values()
        ],
        lambda: (
            _markdown(matrices)
            if markdown
            else "\n\n".join(_text(facts, rows, reasons=reasons) for facts, rows in matrices)
        ),
        [
            f"{facts.name} {row.label} {target}"
            for facts, rows in matrices
            for row in rows
            for target, plan in row.plans.items()
            if plan.is_possible
        ],
    )


def _facts_of(base: str) -> BaseFacts:
    from legion.neuro_architecture.data.base_models import resolve_base
    from legion.neuro_architecture.portability import read_base_facts
    from legion.neuro_architecture.portability.base_facts import natural_kind

    model = resolve_base(base, Settings.load())
    return read_base_facts(model, natural_kind(model))


def _markdown(matrices: list[tuple[BaseFacts, list[MatrixRow]]]) -> str:
    from legion.neuro_architecture.portability.matrix import render_matrix

    return "\n".join(render_matrix(facts, rows) for facts, rows in matrices).rstrip("\n")


def _text(facts: BaseFacts, rows: list[MatrixRow], *, reasons: bool) -> str:
    from legion.neuro_architecture.portability import TARGETS

    cells = [[row.label, *(row.plans[target].form or "–" for target in TARGETS)] for row in rows]
    lines = [f"{facts.name} ({facts.kind})", table(["strategy", *TARGETS], cells)]
    if reasons:
        told: dict[str, list[str]] = {}
        for row in rows:
            for target, plan in row.plans.items():
                if not plan.is_possible:
                    told.setdefault(plan.reason, []).append(f"{row.label} at {target}")
        lines += [f"  – {reason}: {', '.join(where)}" for reason, where in told.items()]
    return "\n".join(lines)
