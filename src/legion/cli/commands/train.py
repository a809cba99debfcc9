"""`legion train`: train one proposal as a proxy."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from legion.cli.output import emit, format_option, note, number
from legion.cli.progress import TerminalProgress, duration
from legion.foundation.errors import TrainingError
from legion.foundation.settings import Settings

if TYPE_CHECKING:
    from legion.neuro_architecture.spec.training import TrainingMetrics

__all__ = ["command"]


@click.command("train")
@click.option("--proposal", "proposal_id", required=True, help="Id of a stored proposal, or its unique beginning.")
@click.option("--data", required=True, help="Data folder with train, validation and test.")
@click.option("--steps", type=int, default=200, show_default=True, help="Optimiser steps.")
@click.option("--seed", type=int, default=0, show_default=True, help="Seed of initial weights and of the data order.")
@format_option
def command(proposal_id: str, data: str, steps: int, seed: int, output_format: str) -> None:
    """Train one proposal and write artifacts/proxy_runs/ID/metrics.json.

    A killed or interrupted training continues where its last checkpoint stands when the same line is run again.
    """
    from legion.neuro_architecture.records import ProposalStore
    from legion.neuro_architecture.spec.training import TrialState
    from legion.neuro_architecture.trainer import ProxyTrainer

    settings = Settings.load()
    full_id = ProposalStore(settings).load(proposal_id).id
    metrics = ProxyTrainer(full_id, settings=settings, seed=seed, progress=TerminalProgress()).train(data, steps)
    emit(output_format, metrics.to_flat(), lambda: _describe(metrics), [full_id])
    if metrics.state is TrialState.FAILED:
        raise TrainingError(
            f"trial {full_id} failed",
            cause=metrics.reason,
            hint=f"its record: artifacts/proxy_runs/{full_id}/metrics.json; try another proposal: legion proposals ls",
        )
    if output_format in {"auto", "human"}:
        note(f"next: legion evaluate --runs artifacts/proxy_runs/{full_id}")


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
