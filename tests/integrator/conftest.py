"""A workspace with trained-looking runs, their evaluation and an empty manifest; no torch is involved."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import numpy
import pytest
from safetensors.numpy import save_file

from legion.foundation.canonical import digest_bytes, digest_file
from legion.foundation.files import write_json
from legion.neuro_architecture.integrator import Integrator
from legion.neuro_architecture.records import ProposalStore, RunFolder, SlotStore
from legion.neuro_architecture.registry import ArchitectureRegistry
from legion.neuro_architecture.spec.architecture import LoRAArchitecture
from legion.neuro_architecture.spec.evaluation import DEFAULT_WEIGHTS, EvaluationResult, EvaluationSummary
from legion.neuro_architecture.spec.measurement import Measurement
from legion.neuro_architecture.spec.proposal import (
    ArchitectureProposal,
    BaseReference,
    CostEstimate,
    RiskAssessment,
    RiskFactor,
    TrainingRecipe,
)
from legion.neuro_architecture.spec.training import METRIC_UNITS, TrainingMetrics, TrialState

BASE = BaseReference(name="tiny", digest=digest_bytes(b"base"), model_type="bert")
EVALUATED_AT = "2026-01-02T00:00:00.000000Z"


class StepClock:
    """Each look at it is a second later."""

    def __init__(self) -> None:
        self._moment = datetime(2026, 1, 3, tzinfo=UTC)

    def now(self) -> datetime:
        self._moment += timedelta(seconds=1)
        return self._moment

    def monotonic_s(self) -> float:
        return self._moment.timestamp()


class World:
    """Makes candidates and summaries in one workspace."""

    def __init__(self, settings) -> None:
        self.settings = settings
        self.registry = ArchitectureRegistry.of(settings)
        self.slots = SlotStore(settings)
        self.clock = StepClock()
        self.base = BASE
        self.integrator = Integrator(settings, self.registry, clock=self.clock)

    def candidate(self, rank: int, *, task="tiny", kind="classification", risk=0.2, score=0.5) -> EvaluationResult:
        architecture, recipe = LoRAArchitecture(rank=rank), TrainingRecipe()
        proposal = ArchitectureProposal(
            id=ArchitectureProposal.id_of(task, BASE, architecture, recipe),
            task=task,
            task_kind=kind,
            base=BASE,
            architecture=architecture,
            training=recipe,
            estimate=CostEstimate(
                trainable_parameters=1,
                adapter_size_bytes=4,
                expected_flops=1e18,
                expected_base_flops=1.0,
                expected_latency_ms=1.0,
                sequence_length=8,
            ),
            risk=RiskAssessment(
                score=risk,
                factors=(RiskFactor(name="capacity", share=risk, weight=1.0, explanation="it is rather wide"),),
            ),
            seed=0,
        )
        ProposalStore(self.settings).save(proposal)
        self.train(proposal, kind)
        return EvaluationResult(
            proposal_id=proposal.id,
            run=f"artifacts/proxy_runs/{proposal.id}",
            strategy="LoRA",
            composite_score=score,
            measurements={
                "accuracy": Measurement.measured(0.8, "share", n=24, error=0.08),
                "flops_per_example": Measurement.measured(1e18, "FLOP/example"),
                "peak_memory_mb": Measurement.absent("MB", "not asked for"),
            },
            terms={"accuracy": 1.1},
            is_on_front=True,
            rank=1,
            reason=None if score is not None else "latency was not measured",
        )

    def train(
        self,
        proposal,
        kind="classification",
        written_at="2026-01-01T00:00:00.000000Z",
        *,
        state=TrialState.COMPLETED,
        reason=None,
    ) -> RunFolder:
        run = RunFolder.of(self.settings, proposal.id)
        run.adapter_folder.mkdir(parents=True, exist_ok=True)
        weights = run.adapter_folder / "adapter_model.safetensors"
        save_file({"lora_A": numpy.full((2, 2), proposal.architecture.rank, dtype=numpy.float32)}, weights)
        write_json(run.adapter_folder / "adapter_config.json", {"r": proposal.architecture.rank})
        write_json(run.adapter_folder / "legion_adapter.json", {"format": 1})
        numbers = {name: Measurement.absent(unit, "made up") for name, unit in METRIC_UNITS.items()}
        metrics = TrainingMetrics(proposal_id=proposal.id, state=state, reason=reason, **numbers)
        labels = ["negative", "positive"] if kind == "classification" else []
        record = {
            "labels": labels,
            "target_column": "opinion",
            "config": {"max_tokens": 64},
            "adapter_digest": digest_file(weights),
            "written_at": written_at,
        }
        run.write_metrics(metrics, record)
        return run

    def summary(self, *results: EvaluationResult, task="tiny") -> EvaluationSummary:
        return EvaluationSummary(
            total_evaluated=len(results),
            top_3=tuple(result.proposal_id for result in results[:3]),
            weights_used=DEFAULT_WEIGHTS,
            front=(),
            results=results,
            baseline={"accuracy": Measurement.measured(0.7, "share", n=24)},
            machine={"cpu": "some"},
            created_at=EVALUATED_AT,
            task=task,
            data_digest=digest_bytes(b"data"),
        )

    def applied(self, rank: int, task="tiny", **keywords):
        """A patch for a candidate of this rank, planned and applied."""
        plan = self.integrator.plan(self.summary(self.candidate(rank, task=task, **keywords), task=task), 1)
        return self.integrator.apply(plan)


@pytest.fixture
def world(settings) -> World:
    return World(settings)
