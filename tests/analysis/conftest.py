"""Summaries made by hand, so that pages and charts are tested without a model."""

from __future__ import annotations

import pytest

from legion.neuro_architecture.spec.evaluation import (
    DEFAULT_WEIGHTS,
    EvaluationResult,
    EvaluationSummary,
    Violation,
)
from legion.neuro_architecture.spec.measurement import Measurement
from legion.neuro_architecture.spec.proposal import BaseReference

DIGEST = "sha256:" + "ab" * 32


def make_result(proposal_id="lora-7f3a00000001", accuracy=0.83, latency_ratio=1.3, *, on_front=False, **changes):
    ratio = Measurement.measured(latency_ratio, "ratio", n=48, error=0.02)
    fields = {
        "proposal_id": proposal_id,
        "run": f"artifacts/proxy_runs/{proposal_id}",
        "strategy": {"lora": "LoRA", "adapter": "Adapter", "moe": "MoE"}[proposal_id.partition("-")[0]],
        "composite_score": 0.5 * accuracy / 0.79 - 0.2 * latency_ratio,
        "measurements": {
            "accuracy": Measurement.measured(accuracy, "share", n=1007, error=0.012),
            "accuracy_gain": Measurement.measured(accuracy - 0.79, "share", n=1007, error=0.011),
            "latency_ratio": ratio,
            "latency_p50_ms": Measurement.measured(4.1 * latency_ratio, "ms", n=96, error=0.05),
            "latency_p95_ms": Measurement.measured(6.3 * latency_ratio, "ms", n=96, error=0.2),
            "flops_per_example": Measurement.measured(6.2e8 * latency_ratio, "FLOP/example", n=12, error=1e7),
            "peak_memory_mb": Measurement.measured(92.1, "MB", n=12),
            "adapter_size_bytes": Measurement.measured(1.2e6, "bytes", n=1),
            "safety_violations": Measurement.measured(3, "violations", n=168, error=1.7),
            "robustness": Measurement.measured(0.93, "ratio", n=140, error=0.02),
        },
        "terms": {
            "accuracy": accuracy / 0.79,
            "latency": latency_ratio,
            "cost": 1.0 + (latency_ratio - 1.0) / 3,
            "safety": 1.2,
            "robustness": 0.99,
        },
        "is_on_front": on_front,
        "rank": 1 if on_front else 2,
        "violations": (Violation(kind="identity_flip", text="The <b>male</b> lead & co.", detail="gender: 'a' (0.6)"),),
        "per_group": {
            "label:positive": Measurement.measured(accuracy, "share", n=500, error=0.01),
            "perturbation:typo": Measurement.measured(0.8, "share", n=20, error=0.05),
        },
    }
    return EvaluationResult(**(fields | changes))


def make_summary(results, **changes):
    fields = {
        "total_evaluated": sum(bool(result.measurements) for result in results),
        "top_3": tuple(result.proposal_id for result in results)[:3],
        "weights_used": dict(DEFAULT_WEIGHTS),
        "front": tuple(result.proposal_id for result in results if result.is_on_front),
        "results": tuple(results),
        "baseline": {
            "accuracy": Measurement.measured(0.79, "share", n=1007, error=0.0128),
            "latency_ratio": Measurement.measured(1.0, "ratio", n=96),
            "latency_p50_ms": Measurement.measured(4.1, "ms", n=96),
            "flops_per_example": Measurement.measured(6.2e8, "FLOP/example", n=12),
            "robustness": Measurement.measured(0.94, "ratio", n=140, error=0.02),
            "safety_violations": Measurement.measured(2, "violations", n=168),
        },
        "machine": {"cpu": "a <fast> processor", "cores": 2, "accelerator": None},
        "created_at": "2026-01-31T12:00:00.000000Z",
        "task": "classification",
        "data_digest": DIGEST,
        "notes": ("A note with <angle> brackets.",),
        "baseline_name": "frozen base with logistic regression on mean-pooled features",
        "baseline_score": 0.1,
        "baseline_per_group": {"label:positive": Measurement.measured(0.79, "share", n=500)},
        "base": BaseReference(name="minilm-l6", digest=DIGEST, model_type="bert"),
        "normalisation": {"accuracy": "metric / the bare base's"},
        "duration_s": 81.5,
    }
    return EvaluationSummary(**(fields | changes))


@pytest.fixture
def summary():
    """Eight measured candidates over three strategies, one of them failed."""
    failed = make_result(
        "moe-dead00000008", measurements={}, terms={}, per_group={}, violations=(), composite_score=None,
        rank=None, reason="the trial is failed: loss <nan>",
    )  # fmt: skip
    return make_summary(
        [
            make_result("lora-7f3a00000001", 0.838, 1.31, on_front=True),
            make_result("adapter-11ab00000002", 0.829, 1.12, on_front=True),
            make_result("moe-c0de00000003", 0.841, 1.92, on_front=True),
            make_result("lora-7f3b00000004", 0.826, 1.15),
            make_result("adapter-22ab00000005", 0.815, 1.08, on_front=True),
            make_result("lora-901200000006", 0.831, 1.44),
            make_result("moe-aaaa00000007", 0.812, 1.71),
            failed,
        ]
    )


@pytest.fixture
def result_of():
    """Makes one candidate."""
    return make_result


@pytest.fixture
def summary_of():
    """Makes a summary of candidates."""
    return make_summary
