"""Run folders as the trainer leaves them, made in a blink: an adapter, its weights moved, saved, and a record."""

from __future__ import annotations

import dataclasses

import pytest
import torch

from legion.neuro_architecture.adapters import build_adapter, save_adapter, trainable_parameters
from legion.neuro_architecture.data.base_models import resolve_base
from legion.neuro_architecture.data.datasets import read_data
from legion.neuro_architecture.evaluator import EvaluatorConfig
from legion.neuro_architecture.records import RunFolder
from legion.neuro_architecture.spec.architecture import AdapterArchitecture, LoRAArchitecture, MoEArchitecture
from legion.neuro_architecture.spec.measurement import Measurement
from legion.neuro_architecture.spec.training import METRIC_UNITS, TrainingMetrics, TrialState
from legion.testing import tiny_classification, tiny_summarization

ARCHITECTURES = {
    "lora-000000000001": LoRAArchitecture(rank=2),
    "adapter-00000000002": AdapterArchitecture(bottleneck_size=4),
    "moe-000000000003": MoEArchitecture(num_experts=2, top_k=1, bottleneck_size=2),
}


@dataclasses.dataclass(frozen=True)
class Study:
    """A workspace with a base, a data set and whatever runs a test makes."""

    settings: object
    base_folder: object
    data_folder: object

    def run(self, proposal_id="lora-000000000001", *, state=TrialState.COMPLETED, reason=None, moved=0.3, **record):
        """A run folder; `record` overrides what the record says, None leaves it out."""
        folder = RunFolder.of(self.settings, proposal_id)
        base = resolve_base(str(self.base_folder), self.settings)
        data = read_data(self.data_folder)
        if state in {TrialState.COMPLETED, TrialState.STOPPED}:
            model = build_adapter(ARCHITECTURES[proposal_id]).apply(base.load(data.spec, seed=1), seed=1)
            generator = torch.Generator().manual_seed(7)
            with torch.no_grad():
                for parameter in trainable_parameters(model).values():
                    parameter.add_(moved * torch.randn(parameter.shape, generator=generator))
            save_adapter(model, folder.adapter_folder, base=base.reference)
        missing = {name: Measurement.absent(unit, "not measured in this test") for name, unit in METRIC_UNITS.items()}
        metrics = TrainingMetrics(proposal_id=proposal_id, state=state, reason=reason, **missing)
        full = {
            "proposal_id": proposal_id,
            "base": base.reference.to_dict(),
            "data_path": str(self.data_folder),
            "data_digest": data.digest,
            "task": data.spec.name,
        } | record
        folder.write_metrics(metrics, {name: value for name, value in full.items() if value is not None})
        return folder

    def all_runs(self):
        """One completed run of each strategy."""
        return [self.run(proposal_id) for proposal_id in ARCHITECTURES]


SMALL = EvaluatorConfig(
    batch_size=8,
    latency_examples=4,
    latency_warmup=1,
    cost_examples=2,
    robustness_examples=14,
    identity_examples=4,
    max_new_tokens=6,
)


@pytest.fixture
def small() -> EvaluatorConfig:
    """Samples of a few texts."""
    return SMALL


@pytest.fixture
def study_of(settings, tiny_folders):
    """Makes a study on a tiny base of a family."""

    def make(family="bert", kind="classification"):
        write = tiny_classification if kind == "classification" else tiny_summarization
        return Study(settings, tiny_folders[family], write(settings.workspace / "data" / "tiny"))

    return make


@pytest.fixture
def study(study_of) -> Study:
    """A classification study on a tiny encoder."""
    return study_of()
