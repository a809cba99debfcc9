"""From an evaluation's best candidates to what the registry is told of them."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, final

from legion.foundation.canonical import digest_file
from legion.foundation.errors import IntegrityError, InvalidValueError, RefusedError, UsageError
from legion.foundation.settings import Settings
from legion.neuro_architecture.records import ProposalStore, RunFolder
from legion.neuro_architecture.spec.evaluation import EvaluationResult, EvaluationSummary
from legion.neuro_architecture.spec.measurement import Measurement
from legion.neuro_architecture.spec.proposal import ArchitectureProposal
from legion.neuro_architecture.spec.standing import Standing
from legion.neuro_architecture.spec.training import TrialState

__all__ = [
    "ADAPTER_FILES",
    "Winner",
    "evidence",
    "find_winners",
    "labels_of",
    "registered_metrics",
    "registered_provenance",
    "slot_name",
]

WEIGHTS_FILE: Final = "adapter_model.safetensors"
ADAPTER_FILES: Final = ("adapter_config.json", WEIGHTS_FILE, "legion_adapter.json")
MAX_SLOT_CHARACTERS: Final = 64
_AGAIN: Final = "legion evaluate --runs artifacts/proxy_runs/*"
_ODD: Final = re.compile(r"[^A-Za-z0-9._-]+")


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class Winner:
    """A candidate that is to be registered, with all that is known of it.

    Attributes:
        result: Its evaluation.
        proposal: What it is.
        run: Where it was trained.
        record: What the run says of itself.
    """

    result: EvaluationResult
    proposal: ArchitectureProposal
    run: RunFolder
    record: dict[str, Any]

    @property
    def files(self) -> dict[str, Path]:
        """The adapter's files by name."""
        return {name: self.run.adapter_folder / name for name in ADAPTER_FILES}


def slot_name(task: str) -> str:
    """The slot of a task: its name, every run of odd characters as one dash, at most 64 characters.

    Raises:
        InvalidValueError: nothing is left of it.
    """
    name = _ODD.sub("-", task).strip("-.")[:MAX_SLOT_CHARACTERS].rstrip("-.")
    if not name:
        raise InvalidValueError(f"task {task!r} gives no slot name", hint="name the task in its task.toml")
    return name


def find_winners(settings: Settings, summary: EvaluationSummary, top: int) -> list[Winner]:
    """The `top` best candidates that have a score, in the summary's order; trials stopped at a rung are passed over.

    Raises:
        InvalidValueError: top is below 1, above the number evaluated, or above the number that may win.
        UnknownNameError: a candidate's proposal is not stored.
        UsageError: a run is missing, is another proposal's, or did not complete.
        RefusedError: a run was trained again after it was evaluated.
    """
    if isinstance(top, bool) or top < 1:
        raise InvalidValueError(f"top is {top}; at least one winner is needed")
    if top > len(summary.results):
        raise InvalidValueError(f"top {top} is more than the {len(summary.results)} evaluated candidates")
    reasons = {result.proposal_id: _reason_against(settings, result) for result in summary.results}
    eligible = [result for result in summary.results if reasons[result.proposal_id] is None]
    if top > len(eligible):
        raise InvalidValueError(
            f"top {top} is more than the {len(eligible)} candidates with a score that trained to the end",
            cause="\n".join(f"{name}: {reason}" for name, reason in reasons.items() if reason),
            hint=f"legion integrate --top {len(eligible)}" if eligible else _AGAIN,
        )
    store = ProposalStore(settings)
    return [_winner(settings, store, summary, result) for result in eligible[:top]]


def _reason_against(settings: Settings, result: EvaluationResult) -> str | None:
    """Why a candidate may not win whatever its place, or None. Its numbers as a stopped proxy say too little."""
    if result.composite_score is None:
        return result.reason
    run = RunFolder(settings.workspace / result.run)
    metrics = run.read_metrics()[0] if run.metrics_path.is_file() else None
    return metrics.reason if metrics is not None and metrics.state is TrialState.STOPPED else None


def _winner(settings: Settings, store: ProposalStore, summary: EvaluationSummary, result: EvaluationResult) -> Winner:
    run = RunFolder(settings.workspace / result.run)
    metrics, record = run.read_metrics()
    if metrics.proposal_id != result.proposal_id:
        raise UsageError(f"{run.path} is a run of {metrics.proposal_id}, not of {result.proposal_id}", hint=_AGAIN)
    if metrics.state is not TrialState.COMPLETED:
        raise UsageError(f"the trial of {result.proposal_id} is {metrics.state}, not completed", hint=_AGAIN)
    missing = [name for name in ADAPTER_FILES if not (run.adapter_folder / name).is_file()]
    if missing:
        raise UsageError(
            f"the run of {result.proposal_id} has no {', '.join(missing)}",
            cause=f"expected in {run.adapter_folder}",
            hint=f"legion train --proposal {result.proposal_id} --data DIR --steps N",
        )
    winner = Winner(result=result, proposal=store.load(result.proposal_id), run=run, record=record)
    _refuse_other_weights(winner, summary)
    return winner


def _refuse_other_weights(winner: Winner, summary: EvaluationSummary) -> None:
    """The measurements must be of these weights, and these weights of this proposal."""
    written_at, name = str(winner.record.get("written_at", "")), winner.proposal.id
    if written_at > summary.created_at:
        raise RefusedError(
            f"{name} was trained again after it was evaluated",
            cause=f"trained until {written_at}, evaluated at {summary.created_at}",
            hint=_AGAIN,
        )
    told, found = winner.record.get("adapter_digest"), digest_file(winner.files[WEIGHTS_FILE])
    if told != found:
        raise IntegrityError(
            f"the adapter of {name} is not the one that was trained",
            cause=f"the run's record says {told}, {winner.files[WEIGHTS_FILE]} is {found}",
            hint=f"legion train --proposal {name} --data DIR --steps N",
        )


def labels_of(winner: Winner) -> tuple[str, ...]:
    """Class names in the order of the model's outputs; none for summarization.

    Raises:
        UsageError: a classifier's run does not say.
    """
    labels = tuple(str(label) for label in winner.record.get("labels") or ())
    if winner.proposal.task_kind == "classification" and len(labels) < 2:
        raise UsageError(f"the run of {winner.proposal.id} does not say which labels it learned")
    return labels


def evidence(winner: Winner, summary: EvaluationSummary) -> dict[str, Any]:
    """What the decision rests on, as the patch keeps it."""
    return {
        "proposal": winner.proposal.id,
        "run": winner.result.run,
        "strategy": winner.proposal.strategy,
        "semantic_hash": winner.proposal.semantic_hash,
        "score": winner.result.composite_score,
        "baseline_score": summary.baseline_score,
        "weights": summary.weights_used,
        "rank": winner.result.rank,
        "is_on_front": winner.result.is_on_front,
        "measurements": {name: item.to_dict() for name, item in winner.result.measurements.items()},
        "baseline": {name: item.to_dict() for name, item in summary.baseline.items()},
        "violations": len(winner.result.violations),
        "data_digest": summary.data_digest,
        "evaluated_at": summary.created_at,
        "total_evaluated": summary.total_evaluated,
    }


def registered_metrics(winner: Winner, summary: EvaluationSummary) -> dict[str, Any]:
    """Bare numbers by name, then `units`, `counts`, `errors`, `absent`, and what the score is made of."""
    result = winner.result
    return {
        **_flat(result.measurements),
        "score": result.composite_score,
        "terms": result.terms,
        "weights": summary.weights_used,
        "rank": result.rank,
        "is_on_front": result.is_on_front,
        "baseline": {name: item.value for name, item in summary.baseline.items()},
    }


def _flat(measured: Mapping[str, Measurement]) -> dict[str, Any]:
    return {
        **{name: item.value for name, item in measured.items()},
        "units": {name: item.unit for name, item in measured.items()},
        "counts": {name: item.n for name, item in measured.items() if item.n is not None},
        "errors": {name: item.error for name, item in measured.items() if item.error is not None},
        "absent": {name: item.reason for name, item in measured.items() if item.value is None},
    }


def registered_provenance(winner: Winner, summary: EvaluationSummary, code: Mapping[str, Any]) -> dict[str, Any]:
    """Where a winner comes from: code, base, data, proposal, run, and the machine that measured it.

    With the proposal whole, the rungs that it was looked at on, and how its evaluation drew the examples, a snapshot
    can be trained and measured anew (`legion replay`).
    """
    return {
        **code,
        "base": winner.proposal.base.to_dict(),
        "task": summary.task,
        "task_kind": winner.proposal.task_kind,
        "data_digest": summary.data_digest,
        "proposal": winner.proposal.id,
        "proposal_record": winner.proposal.to_dict(),
        "run": winner.result.run,
        "training": winner.proposal.training.to_dict(),
        "training_record": {name: value for name, value in winner.record.items() if name != "validations"},
        "rung_history": [_rung(standing) for standing in winner.run.standings()],
        "evaluation": {"config": summary.config, "seed": summary.seed, "metric": summary.metric},
        "evaluated_at": summary.created_at,
        "machine": summary.machine,
    }


def _rung(standing: Standing) -> dict[str, Any]:
    """How a trial stood at a rung, without its single predictions."""
    return {
        "steps": standing.step,
        "loss": standing.loss,
        "accuracy": standing.accuracy,
        "num_predictions": len(standing.losses),
        "seconds": standing.seconds,
    }
