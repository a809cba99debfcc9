"""What the trainer leaves behind is what the evaluator reads."""

from __future__ import annotations

import pytest

from legion.neuro_architecture.analysis import render_report
from legion.neuro_architecture.data.base_models import resolve_base
from legion.neuro_architecture.evaluator import MultiObjectiveEvaluator
from legion.neuro_architecture.records import ProposalStore
from legion.neuro_architecture.spec.architecture import LoRAArchitecture
from legion.neuro_architecture.spec.proposal import (
    ArchitectureProposal,
    CostEstimate,
    RiskAssessment,
    TrainingRecipe,
)
from legion.neuro_architecture.trainer import ProxyTrainer
from legion.testing import tiny_classification


@pytest.fixture
def proposal(settings, tiny_folders):
    """A stored proposal for a tiny encoder."""
    base = resolve_base(str(tiny_folders["bert"]), settings).reference
    architecture, recipe = LoRAArchitecture(rank=4), TrainingRecipe(learning_rate=1e-2, batch_size=8)
    estimate = CostEstimate(
        trainable_parameters=1,
        adapter_size_bytes=4,
        expected_flops=1.0,
        expected_base_flops=1.0,
        expected_latency_ms=1.0,
        sequence_length=8,
    )
    found = ArchitectureProposal(
        id=ArchitectureProposal.id_of("tiny", base, architecture, recipe),
        task="tiny",
        task_kind="classification",
        base=base,
        architecture=architecture,
        training=recipe,
        estimate=estimate,
        risk=RiskAssessment(score=0.1, factors=()),
        seed=0,
    )
    ProposalStore(settings).save(found)
    return found


def test_a_trained_run_measures_as_the_trainer_measured_it_and_gets_its_page(settings, proposal, small):
    folder = tiny_classification(settings.workspace / "data" / "tiny")
    (folder / "test.jsonl").write_text((folder / "validation.jsonl").read_text())  # the same rows for both
    trained = ProxyTrainer(proposal.id, settings=settings).train("data/tiny", 20)
    evaluator = MultiObjectiveEvaluator({"accuracy": 1.0}, settings=settings, config=small)
    (result,) = evaluator.evaluate(["artifacts/proxy_runs/*/metrics.json"])
    assert (result.proposal_id, result.strategy) == (proposal.id, "LoRA")
    assert result.measurements["accuracy"].value == pytest.approx(trained.eval_accuracy.value)
    assert result.measurements["adapter_size_bytes"].value == trained.adapter_size_bytes.value
    assert proposal.id in render_report(evaluator.summary, settings.workspace / "report.html").read_text()
