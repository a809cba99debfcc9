"""`legion integrate`: register the winners, plan the patch, show it, apply it behind the risk gate."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from legion.cli.output import emit, format_option, note, number
from legion.foundation.canonical import short
from legion.foundation.errors import UsageError
from legion.foundation.files import read_json
from legion.foundation.settings import Settings

if TYPE_CHECKING:
    from legion.neuro_architecture.spec.evaluation import EvaluationSummary
    from legion.neuro_architecture.spec.slot import PatchPlan

__all__ = ["command", "describe_plan", "read_summary"]


@click.command("integrate")
@click.option(
    "--top", type=int, default=3, show_default=True, help="How many winners to register; the first is integrated."
)
@click.option("--approve", default=None, metavar="NAME", help="Who answers for a risk above the threshold.")
@click.option("--dry-run", is_flag=True, help="Register and plan, change no slot.")
@format_option
def command(top: int, approve: str | None, dry_run: bool, output_format: str) -> None:
    """Register the best candidates of the last evaluation and put the winner into its task's slot."""
    from legion.neuro_architecture.integrator import Integrator
    from legion.neuro_architecture.registry import ArchitectureRegistry

    settings = Settings.load()
    summary = read_summary(settings)
    integrator = Integrator(settings, ArchitectureRegistry.of(settings))
    plan = integrator.plan(summary, top)
    emit(output_format, plan.to_dict(), lambda: describe_plan(plan, settings), [plan.id])
    if dry_run:
        note(f"dry run: no slot was changed. Apply: legion patch apply {plan.id}")
        return
    integrator.apply(plan.id, approve=approve)
    if output_format in {"auto", "human"}:
        note(f"applied {plan.id}: slot {plan.slot} now answers with snapshot {short(plan.after.snapshot or '')}")
        note(f'next: legion ask {plan.slot} "some text"; undo: legion patch revert')


def read_summary(settings: Settings) -> EvaluationSummary:
    """The last evaluation of this workspace.

    Raises:
        UsageError: nothing was evaluated yet.
    """
    from legion.neuro_architecture.spec.evaluation import EvaluationSummary

    path = settings.workspace / "artifacts" / "evals" / "evaluation_summary.json"
    if not path.is_file():
        raise UsageError(
            "nothing was evaluated yet", cause=f"no {path}", hint="legion evaluate --runs artifacts/proxy_runs/*"
        )
    return EvaluationSummary.parse(read_json(path), what=str(path))


def describe_plan(plan: PatchPlan, settings: Settings) -> str:
    """The plan as a person reads it before it happens."""
    before = plan.before.snapshot if plan.before else None
    lines = [
        f"patch {plan.id}",
        f"  slot       {plan.slot} ({plan.after.task_kind}, base {plan.after.base.name})",
        f"  before     {'no slot' if plan.before is None else short(before) if before else 'the bare base'}",
        f"  after      snapshot {short(plan.after.snapshot or '')}",
        f"  risk       {number(plan.risk_score, 2)} (threshold {settings.risk_threshold:g})",
    ]
    for factor in plan.risk_factors:
        share = float(factor["share"]) * float(factor["weight"])
        lines.append(f"    {share:.2f}  {factor['name']}: {factor['explanation']}")
    lines.append(f"  registered {len(plan.registered)}: {', '.join(short(digest) for digest in plan.registered)}")
    return "\n".join(lines)
