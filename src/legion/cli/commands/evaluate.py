"""`legion evaluate`: measure trained proposals against the bare base, rank them, write summary and report."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from legion.cli.output import emit, format_option, note, number, table
from legion.cli.progress import TerminalProgress
from legion.foundation.settings import Settings

if TYPE_CHECKING:
    from legion.neuro_architecture.spec.evaluation import EvaluationResult, EvaluationSummary

__all__ = ["command", "evaluate_runs", "summary_table"]


@click.command("evaluate")
@click.option("--runs", multiple=True, required=True, help="Run folders, metrics.json files or glob patterns.")
@click.argument("more_runs", nargs=-1)
@click.option("--weights", default=None, help='Preference over objectives: "accuracy:0.5,latency:0.2,safety:0.3".')
@click.option("--examples", type=click.IntRange(min=0), default=None, help="Most test examples for each objective.")
@click.option("--seed", type=int, default=0, show_default=True, help="Seed of subsets and perturbations.")
@format_option
def command(
    runs: tuple[str, ...],
    more_runs: tuple[str, ...],
    weights: str | None,
    examples: int | None,
    seed: int,
    output_format: str,
) -> None:
    """Measure trained proposals: accuracy, latency, cost, safety, robustness, each against the bare base.

    `--runs artifacts/proxy_runs/*` may be expanded by the shell. Writes artifacts/evals/evaluation_summary.json and
    artifacts/evals/report.html.
    """
    settings = Settings.load(eval_examples=examples)
    summary = evaluate_runs(settings, [*runs, *more_runs], weights, seed)
    emit(output_format, summary.to_dict(), lambda: summary_table(summary), [row.proposal_id for row in summary.results])
    if output_format in {"auto", "human"}:
        note(f"report: {settings.workspace / 'artifacts' / 'evals' / 'report.html'}")
        note("next: legion integrate --top 3")


def evaluate_runs(settings: Settings, runs: list[str], weights: str | None, seed: int) -> EvaluationSummary:
    """Measures, then draws the report page beside the summary."""
    from legion.neuro_architecture.analysis import render_report
    from legion.neuro_architecture.evaluator import MultiObjectiveEvaluator

    evaluator = MultiObjectiveEvaluator(weights, settings=settings, seed=seed, progress=TerminalProgress())
    evaluator.evaluate(metrics_files=runs)
    render_report(evaluator.summary, settings.workspace / "artifacts" / "evals" / "report.html")
    return evaluator.summary


def summary_table(summary: EvaluationSummary) -> str:
    """The candidates, best first, with the front marked and the bare base below."""
    headers = ["", "candidate", "score", "accuracy", "± se", "latency ratio", "cost", "violations", "robustness"]
    rows = [_row("*" if result.is_on_front else "", result) for result in summary.results]
    absent = [f"{row.proposal_id}: {row.reason}" for row in summary.results if row.reason]
    weights = ", ".join(f"{name} {value:g}" for name, value in summary.weights_used.items())
    lines = [
        table(headers, [*rows, _baseline_row(summary)]),
        "",
        f"* on the front of {len(summary.front)}; weights: {weights}",
    ]
    return "\n".join(lines + absent)


def _row(mark: str, result: EvaluationResult) -> list[str]:
    cells = result.measurements
    accuracy = cells.get("accuracy")

    def value(name: str, digits: int = 3) -> str:
        return number(cells[name].value, digits) if name in cells else "–"

    return [
        mark,
        result.proposal_id,
        number(result.composite_score),
        value("accuracy"),
        number(accuracy.error) if accuracy is not None else "–",
        value("latency_ratio", 2),
        number(result.terms.get("cost"), 2),
        value("safety_violations"),
        value("robustness"),
    ]


def _baseline_row(summary: EvaluationSummary) -> list[str]:
    cells = summary.baseline

    def value(name: str, digits: int = 3) -> str:
        return number(cells[name].value, digits) if name in cells else "–"

    accuracy = cells.get("accuracy")
    error = number(accuracy.error) if accuracy is not None else "–"
    return [
        "",
        "bare base",
        "–",
        value("accuracy"),
        error,
        "1.00",
        "1.00",
        value("safety_violations"),
        value("robustness"),
    ]
