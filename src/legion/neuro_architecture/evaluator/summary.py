"""Results, their order, their front and the summary that is written."""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from legion.foundation.machine import describe_machine
from legion.neuro_architecture.evaluator.candidates import Candidate
from legion.neuro_architecture.evaluator.terms import NORMALISATION, baseline_score, composite_score, normalise
from legion.neuro_architecture.spec.dominance import non_domination_ranks
from legion.neuro_architecture.spec.evaluation import OBJECTIVES, EvaluationResult, EvaluationSummary
from legion.neuro_architecture.spec.measurement import Measurement

if TYPE_CHECKING:
    from legion.neuro_architecture.evaluator.latency import Timings
    from legion.neuro_architecture.evaluator.workbench import Measured, Workbench

__all__ = ["rank_results", "scored_result", "summarise", "unscored_result"]

_TOP = 3


def unscored_result(candidate: Candidate, reason: str) -> EvaluationResult:
    """A candidate that was not measured, and why."""
    return EvaluationResult(
        proposal_id=candidate.proposal_id,
        run=candidate.run,
        strategy=candidate.strategy,
        composite_score=None,
        measurements={},
        terms={},
        is_on_front=False,
        rank=None,
        reason=reason,
    )


def scored_result(candidate: Candidate, measured: Measured, weights: Mapping[str, float]) -> EvaluationResult:
    """A measured candidate with its terms and score; the rank comes once all are known."""
    terms, reasons = normalise(measured.measurements)
    missing = [f"{name} ({reasons[name]})" for name in _weighted(weights) if name in reasons]
    return EvaluationResult(
        proposal_id=candidate.proposal_id,
        run=candidate.run,
        strategy=candidate.strategy,
        composite_score=composite_score(terms, weights),
        measurements=measured.measurements,
        terms=terms,
        is_on_front=False,
        rank=None,
        violations=measured.outcome.violations,
        per_group=measured.per_group,
        reason="no score without " + ", ".join(missing) if missing else None,
    )


def _weighted(weights: Mapping[str, float]) -> list[str]:
    return [objective.name for objective in OBJECTIVES if weights.get(objective.name, 0.0) > 0.0]


def rank_results(results: Sequence[EvaluationResult], weights: Mapping[str, float]) -> list[EvaluationResult]:
    """The results best first, with non-domination ranks over the terms of the weighted objectives.

    Results that lack such a term have no rank; those without a score come last. Equal scores keep the order of ids.
    """
    names = _weighted(weights)
    signs = [objective.sign for objective in OBJECTIVES if objective.name in names]
    is_ranked = [bool(result.terms) and all(name in result.terms for name in names) for result in results]
    points = [[result.terms[name] for name in names] for result in itertools.compress(results, is_ranked)]
    ranks = iter(non_domination_ranks(points, signs))
    placed = [
        result.model_copy(update={"rank": (rank := next(ranks)), "is_on_front": rank == 1}) if ranked else result
        for result, ranked in zip(results, is_ranked, strict=True)
    ]
    return sorted(placed, key=lambda result: (-(_score(result)), result.proposal_id, result.run))


def _score(result: EvaluationResult) -> float:
    return result.composite_score if result.composite_score is not None else float("-inf")


def summarise(
    results: Sequence[EvaluationResult],
    *,
    weights: Mapping[str, float],
    workbench: Workbench,
    base: Measured,
    timings: Sequence[Timings],
    stopped: Sequence[str],
    reused: int,
    seed: int,
    created_at: str,
    duration_s: float,
) -> EvaluationSummary:
    """The summary of ranked results."""
    import torch

    task = workbench.data.spec
    machine = describe_machine() | {
        "device": workbench.device.type,
        "threads": torch.get_num_threads(),
        "torch": torch.__version__,
    }
    return EvaluationSummary(
        total_evaluated=sum(bool(result.measurements) for result in results),
        top_3=tuple(result.proposal_id for result in results if result.composite_score is not None)[:_TOP],
        weights_used=dict(weights),
        front=tuple(result.proposal_id for result in results if result.is_on_front),
        results=tuple(results),
        baseline=base.measurements | _baseline_latency(timings) | _baseline_forgetting(base),
        machine=machine,
        created_at=created_at,
        task=task.name,
        data_digest=workbench.data.digest,
        notes=tuple(_notes(workbench, stopped, reused)),
        baseline_name=workbench.bare_base.name,
        baseline_score=baseline_score(weights),
        baseline_violations=base.outcome.violations,
        baseline_per_group=base.per_group,
        base=workbench.base.reference,
        task_kind=task.kind,
        metric=task.metric,
        normalisation=NORMALISATION,
        seed=seed,
        config=workbench.config.to_dict(),
        duration_s=duration_s,
    )


def _baseline_latency(timings: Sequence[Timings]) -> dict[str, Measurement]:
    """The bare base's times, pooled over the candidates it was interleaved with; its ratio to itself is 1."""
    import numpy as np

    if not timings:
        absent = "no candidate was timed beside it"
        return {name: Measurement.absent("ms", absent) for name in ("latency_p50_ms", "latency_p95_ms")}
    pooled = np.concatenate([timing.bare_ms.ravel() for timing in timings])
    return {
        "latency_p50_ms": Measurement.measured(float(np.percentile(pooled, 50)), "ms", n=pooled.size),
        "latency_p95_ms": Measurement.measured(float(np.percentile(pooled, 95)), "ms", n=pooled.size),
        "latency_ratio": Measurement.measured(1.0, "ratio", n=pooled.size),
    }


def _baseline_forgetting(base: Measured) -> dict[str, Measurement]:
    """The bare base has forgotten nothing; of a classifier there is no such measurement."""
    if not base.plain_losses:
        return {}
    return {"forgetting": Measurement.measured(0.0, "nats", n=len(base.plain_losses))}


def _notes(workbench: Workbench, stopped: Sequence[str], reused: int) -> list[str]:
    sample, task = workbench.sample, workbench.data.spec
    pass_over = "the pass over the prompt of" if task.kind == "summarization" else "one forward pass over"
    notes = [
        f"Baseline: {workbench.bare_base.name}, on the same texts as every candidate.",
        "Weights are used as given, so the baseline scores their signed sum.",
        _sentence(
            f"Metric ({task.metric}) on {len(sample.test)} of {workbench.num_examples} {workbench.config.split}",
            "examples; robustness on",
            f"{len(sample.noisy)} of them, each under one perturbation.",
        ),
        _sentence(
            f"Latency: {pass_over} one encoded text, batch 1, {len(sample.timed)} texts, adapter and bare base in the",
            "order A B B A after warm-up.",
        ),
        _sentence(
            "Memory: weights plus the peak of live tensors in one forward pass, batch 1; 1 MB is 10^6 bytes.",
            "Operations: matrix products and attention, by torch's counter. Bytes on disk: the safetensors files.",
        ),
        _safety_note(workbench),
    ]
    if task.kind == "summarization":
        notes.append(
            _sentence(
                "Forgetting: loss of the adapted model less the bare base's, nats a token, on the plain text of",
                f"{len(sample.plain)} of these examples, without prompt or target.",
            )
        )
    if task.kind == "classification":
        notes.append(
            _sentence(
                "Answers: those of all candidates from one pass over the shared frozen base; latency, operations and",
                "memory from each candidate's own model.",
            )
        )
    if stopped:
        notes.append(f"Stopped at a rung, and measured with the adapter that was stored there: {', '.join(stopped)}.")
    if reused:
        notes.append(f"The baseline's answers to {reused} texts were reused from an earlier run with the same digests.")
    return notes


def _safety_note(workbench: Workbench) -> str:
    if workbench.data.spec.kind == "classification":
        return _sentence(
            f"Safety: {len(workbench.sample.pairs)} pairs of texts that differ in an identity term only (our own",
            "English templates, and swaps in test examples); a violation is a changed label.",
        )
    return _sentence(
        "Safety: every text written here, scored by alt-profanity-check; a violation from",
        f"{workbench.config.profanity_threshold:g}. It finds profanity, not hate: a hateful text without slurs passes.",
    )


def _sentence(*parts: str) -> str:
    return " ".join(parts)
