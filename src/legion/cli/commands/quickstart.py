"""`legion quickstart`: the whole loop on the embedded classification task."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

import click

from legion.cli.commands.evaluate import summary_table
from legion.cli.commands.generate import proposal_table
from legion.cli.commands.integrate import describe_plan
from legion.cli.commands.train import describe_population
from legion.cli.output import emit, format_option, note, number
from legion.cli.progress import TerminalProgress, duration
from legion.foundation.canonical import digest_bytes, short
from legion.foundation.clock import SystemClock
from legion.foundation.errors import IntegrityError
from legion.foundation.settings import Settings

if TYPE_CHECKING:
    from legion.neuro_architecture.integrator import Integrator
    from legion.neuro_architecture.spec.evaluation import EvaluationResult
    from legion.neuro_architecture.study import LoopOutcome

__all__ = ["command"]

# A first look wants to see what accuracy an adapter buys; `legion evaluate` has the specification's weights.
_WEIGHTS: Final = "accuracy:0.85,latency:0.05,cost:0.05,safety:0.03,robustness:0.02"
_SENTENCES: Final = (
    "A warm, witty and beautifully acted film that stays with you.",
    "Two hours of my life that nobody will give back.",
)


@click.command("quickstart")
@click.option("--n", "count", type=int, default=12, show_default=True, help="How many proposals.")
@click.option("--steps", type=int, default=15, show_default=True, help="Steps every proposal gets: the first rung.")
@click.option("--final-steps", type=int, default=150, show_default=True, help="Steps the finalists get in all.")
@click.option(
    "--examples", type=click.IntRange(min=0), default=600, show_default=True, help="Test examples; 0 for all."
)
@click.option("--weights", default=_WEIGHTS, show_default=True, help="Preference over objectives.")
@click.option("--seed", type=int, default=0, show_default=True, help="Seed of everything.")
@format_option
def command(
    count: int,
    steps: int,
    final_steps: int,
    examples: int,
    weights: str,
    seed: int,
    output_format: str,
) -> None:
    """Propose, train, measure, register, integrate, answer and undo, on the embedded model and data."""
    from legion.neuro_architecture.analysis import render_report
    from legion.neuro_architecture.data.prepare import prepare_data
    from legion.neuro_architecture.study import Loop, LoopConfig

    settings = Settings.load(eval_examples=examples)
    clock = SystemClock()
    began_s = clock.monotonic_s()
    note("quickstart: movie-review sentiment with MiniLM-L6, on this machine, from real data")
    prepare_data(settings, ["classification"])
    config = LoopConfig(
        task="classification",
        data="data/classification",
        num_proposals=count,
        proxy_steps=steps,
        final_steps=final_steps,
        weights=weights,
        seed=seed,
    )
    outcome = Loop(settings, progress=TerminalProgress(), say=note).run(config)
    report = settings.workspace / "artifacts" / "evals" / "report.html"
    render_report(outcome.summary, report)
    shipped = _ship(settings, outcome)
    took_s = clock.monotonic_s() - began_s
    data = _facts(outcome, shipped, took_s) | {"report": str(report)}
    emit(output_format, data, lambda: _human(settings, outcome, shipped, data), [_winner(outcome).proposal_id])


def _ship(settings: Settings, outcome: LoopOutcome) -> dict[str, Any]:
    """Integrates the winner, asks through it, undoes it, checks that nothing is left, and integrates it again."""
    from legion.core import LegionCore
    from legion.neuro_architecture.integrator import Integrator
    from legion.neuro_architecture.records import SlotStore
    from legion.neuro_architecture.registry import ArchitectureRegistry

    registry = ArchitectureRegistry.of(settings)
    integrator, slots = Integrator(settings, registry), SlotStore(settings)
    before = _manifest_digest(slots)
    plan = integrator.plan(outcome.summary, min(3, len(outcome.finalists)))
    # Nobody watches a quickstart: its own name stands as the approver of this local slot, in the record too.
    integrator.apply(plan.id, approve="quickstart")
    core = LegionCore(settings, registry)
    answers = [core.ask(plan.slot, sentence).to_dict() | {"asked": sentence} for sentence in _SENTENCES]
    integrator.revert(plan.id)
    after = _manifest_digest(slots)
    if after != before:
        raise IntegrityError(f"reverting {plan.id} left another manifest", cause=f"{before} became {after}")
    again = _apply_again(integrator, outcome)
    return {"plan": again, "answers": answers, "manifest_before": before, "manifest_after_revert": after}


def _apply_again(integrator: Integrator, outcome: LoopOutcome) -> Any:
    plan = integrator.plan(outcome.summary, min(3, len(outcome.finalists)))
    integrator.apply(plan.id, approve="quickstart")
    return plan


def _manifest_digest(slots: Any) -> str:
    return digest_bytes(slots.path.read_bytes()) if slots.path.is_file() else "no manifest"


def _facts(outcome: LoopOutcome, shipped: dict[str, Any], took_s: float) -> dict[str, Any]:
    return {
        "took_s": round(took_s, 1),
        "proposals": [proposal.id for proposal in outcome.proposals],
        "finalists": list(outcome.finalists),
        "final_steps": outcome.final_steps,
        "population": outcome.population,
        "summary": outcome.summary.to_dict(),
        "patch": shipped["plan"].to_dict(),
        "answers": shipped["answers"],
        "manifest_before": shipped["manifest_before"],
        "manifest_after_revert": shipped["manifest_after_revert"],
    }


def _human(settings: Settings, outcome: LoopOutcome, shipped: dict[str, Any], data: dict[str, Any]) -> str:
    winner = _winner(outcome)
    plan = shipped["plan"]
    lines = [
        "",
        "Proposed",
        proposal_table(outcome.proposals),
        "",
        "Trained together",
        *describe_population(outcome.population),
        "",
        f"Measured: what passed the first rung ({', '.join(outcome.finalists)} after {outcome.final_steps} steps)",
        summary_table(outcome.summary),
        "",
        "Winner",
        *_versus_baseline(winner, outcome),
        "",
        "Integrated, asked, undone, integrated again",
        describe_plan(plan, settings),
        *(f'  "{row["asked"]}"\n      {row["text"]} ({_by(row)})' for row in shipped["answers"]),
        f"  undone once: the slots were back to {_shown(shipped['manifest_after_revert'])}, exactly as before",
        "",
        f"took {duration(data['took_s'])}; report: {data['report']}",
        f'next: legion ask {plan.slot} "your own sentence"; undo: legion patch revert',
        f"serve it elsewhere: legion export {short(plan.registered[0])} --to hf -o export",
    ]
    return "\n".join(lines)


def _winner(outcome: LoopOutcome) -> EvaluationResult:
    """The best of those that trained to the end."""
    return next(row for row in outcome.summary.results if row.proposal_id in outcome.finalists)


def _versus_baseline(winner: EvaluationResult, outcome: LoopOutcome) -> list[str]:
    accuracy, base = winner.measurements["accuracy"], outcome.summary.baseline["accuracy"]
    gain = winner.measurements.get("accuracy_gain")
    lines = [
        f"  {winner.proposal_id} ({winner.strategy})",
        f"  test accuracy {number(accuracy.value)} ± {number(accuracy.error)} (n {accuracy.n})",
        f"  frozen base with logistic regression {number(base.value)} ± {number(base.error)}",
    ]
    if gain is not None and gain.value is not None:
        spread = f" ± {100 * gain.error:.1f}" if gain.error is not None else ""
        lines.append(f"  gain {100 * gain.value:+.1f}{spread} points, paired on the same test examples")
    return lines


def _by(row: dict[str, Any]) -> str:
    scores = ", ".join(f"{label} {share:.2f}" for label, share in row["scores"].items())
    return f"{scores}; snapshot {short(row['snapshot'])}, {row['latency_ms']:.0f} ms"


def _shown(digest: str) -> str:
    return digest if digest == "no manifest" else short(digest)
