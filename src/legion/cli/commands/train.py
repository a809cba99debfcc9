"""`legion train`: train one proposal as a proxy, or many together."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

import click

from legion.cli.output import emit, format_option, note, number, table
from legion.cli.progress import TerminalProgress, duration
from legion.foundation.errors import TrainingError, UsageError
from legion.foundation.settings import Settings

if TYPE_CHECKING:
    from legion.neuro_architecture.spec.training import TrainingMetrics
    from legion.neuro_architecture.trainer import PopulationReport

__all__ = ["command", "describe_population"]

_FORMS: Final = {
    "stacked": "as rows of batched products",
    "looped": "with layers of their own on their own rows",
    "whole": "as whole models beside the others",
}


@click.command("train")
@click.option(
    "--proposal",
    "proposal_ids",
    multiple=True,
    help="Id of a stored proposal, or its unique beginning. Several are trained together, over one frozen base.",
)
@click.option("--all", "is_all", is_flag=True, help="Every stored proposal.")
@click.option("--data", required=True, help="Data folder with train, validation and test.")
@click.option("--steps", type=int, default=200, show_default=True, help="Optimiser steps.")
@click.option("--first-rung", type=int, default=None, help="Compare after so many steps, and stop the worse.")
@click.option("--factor", type=float, default=3.0, show_default=True, help="One in so many goes on at a rung.")
@click.option("--places", type=click.IntRange(min=1), default=None, help="Most trials held at once; all if not given.")
@click.option("--seed", type=int, default=0, show_default=True, help="Seed of initial weights and dropout.")
@format_option
def command(
    proposal_ids: tuple[str, ...],
    is_all: bool,
    data: str,
    steps: int,
    first_rung: int | None,
    factor: float,
    places: int | None,
    seed: int,
    output_format: str,
) -> None:
    """Train proposals and write artifacts/proxy_runs/ID/metrics.json of each.

    A killed or interrupted training continues where its last checkpoint stands when the same line is run again.
    """
    from legion.neuro_architecture.records import ProposalStore
    from legion.neuro_architecture.spec.training import TrialState
    from legion.neuro_architecture.trainer import PopulationTrainer, Rungs

    settings = Settings.load()
    store = ProposalStore(settings)
    if bool(proposal_ids) == is_all:
        raise UsageError("name proposals with --proposal, or all of them with --all", hint="legion proposals ls")
    ids = store.ids() if is_all else [store.load(name).id for name in proposal_ids]
    rungs = None if first_rung is None else Rungs.geometric(first_rung, steps, factor=factor)
    trainer = PopulationTrainer(settings=settings, seed=seed, progress=TerminalProgress(), places=places)
    report = trainer.train(ids, data, steps, rungs=rungs)
    if len(ids) == 1:
        metrics = report.metrics[ids[0]]
        emit(output_format, metrics.to_flat(), lambda: _describe(metrics), ids)
    else:
        rows = {name: found.to_flat() for name, found in report.metrics.items()}
        emit(output_format, {"trials": rows, "population": report.record}, lambda: _describe_all(report), ids)
    failed = [name for name, found in report.metrics.items() if found.state is TrialState.FAILED]
    if len(failed) == len(ids):
        raise TrainingError(
            f"trial {failed[0]} failed" if len(ids) == 1 else f"all {len(ids)} trials failed",
            cause="\n".join(f"{name}: {report.metrics[name].reason}" for name in failed),
            hint=f"read artifacts/proxy_runs/{failed[0]}/metrics.json; try another proposal: legion proposals ls",
        )
    if output_format in {"auto", "human"}:
        runs = f"artifacts/proxy_runs/{ids[0]}" if len(ids) == 1 else "artifacts/proxy_runs/*"
        note(f"next: legion evaluate --runs {runs}")


def describe_population(record: dict[str, Any]) -> list[str]:
    """What a population's record says for a person: work done, work saved, memory."""
    if not record.get("trained_steps"):
        return ["  nothing was left to train"]
    lines = [f"  {record['trained_steps']} steps of all trials in {duration(record['seconds'])}"]
    if record["rungs"]:
        whole = record["trained_steps"] + record["spared_steps"]
        rungs = ", ".join(
            f"{item['trials']} to {len(item['continued'])} at {item['steps']}" for item in record["rungs"]
        )
        share = record["spared_steps"] / whole
        lines.append(f"  rungs saved {record['spared_steps']} of {whole} steps ({100 * share:.0f} %): {rungs}")
    passes = record["block_passes_below_adapters"]
    if passes["wanted"]:
        saved = passes["wanted"] - passes["computed"]
        lines.append(
            f"  frozen blocks below the adapters ran once for all: {saved} of {passes['wanted']} passes of an example "
            f"through a block saved ({100 * saved / passes['wanted']:.0f} %)"
        )
    forms = list(record["forms"].values())
    lines.append("  " + ", ".join(f"{forms.count(form)} {_FORMS[form]}" for form in dict.fromkeys(forms)))
    planned = record["memory"]["predicted_bytes"] / 1e6
    peak = record["peak_memory_mb"]
    lines.append(f"  memory: {planned:.0f} MB predicted beside base and process, {peak:.0f} MB peak in all")
    return lines


def _describe_all(report: PopulationReport) -> str:
    rows = [
        [
            name,
            str(found.state),
            number(found.steps_completed.value),
            number(found.validation_loss.value) if found.validation_loss.value is not None else "-",
            number(found.eval_accuracy.value) if found.eval_accuracy.value is not None else "-",
            found.reason or "",
        ]
        for name, found in report.metrics.items()
    ]
    head = ["proposal", "state", "steps", "validation loss", "metric", ""]
    return "\n".join([table(head, rows), "", *describe_population(report.record)])


def _describe(metrics: TrainingMetrics) -> str:
    accuracy = metrics.eval_accuracy
    spread = f" ± {number(accuracy.error)}" if accuracy.error is not None else ""
    shown = f"{number(accuracy.value)}{spread} (n {accuracy.n})" if accuracy.value is not None else accuracy.reason
    took = duration(metrics.training_time_sec.value or 0.0)
    lines = [
        f"{metrics.proposal_id}: {metrics.state}",
        f"  validation metric   {shown}",
        f"  training loss       {number(metrics.training_loss.value)}",
        f"  steps               {number(metrics.steps_completed.value)} in {took}",
        f"  latency, batch 1    {number(metrics.latency_ms.value, 2)} ms",
        f"  throughput          {number(metrics.throughput_samples_sec.value, 1)} examples/s",
    ]
    return "\n".join(lines)
