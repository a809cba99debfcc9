"""Every kind of adapter goes through the trainer, and comes out of its folder as the validation saw it."""

from __future__ import annotations

from statistics import fmean

import pytest
import torch

from legion.neuro_architecture.adapters import load_adapter
from legion.neuro_architecture.data.base_models import resolve_base
from legion.neuro_architecture.data.datasets import read_data
from legion.neuro_architecture.spec.architecture import (
    AdapterArchitecture,
    CombinedArchitecture,
    LoRAArchitecture,
    MoEArchitecture,
    PeftArchitecture,
    SplitArchitecture,
    VirtualTokensArchitecture,
)
from legion.neuro_architecture.spec.training import TrialState
from legion.neuro_architecture.trainer import ProxyTrainer, TrainerConfig
from legion.neuro_architecture.trainer.feed import Feed

ARCHITECTURES = {
    "dora": LoRAArchitecture(rank=4, use_dora=True),
    "seq_layer": AdapterArchitecture(bottleneck_size=16, placement="seq_layer"),
    "random": MoEArchitecture(num_experts=4, top_k=1, bottleneck_size=8, routing="random"),
    "split": SplitArchitecture(strategy="SplitLayer", rank=4),
    "sparse": SplitArchitecture(strategy="SparseRouting", rank=4),
    "RandLoRA": PeftArchitecture(strategy="RandLoRA", rank=4),
    "combined": CombinedArchitecture(boundary=2, rank=4, bottleneck_size=16, non_linearity="silu", is_gated=True),
    "prompt": VirtualTokensArchitecture(strategy="PromptTuning", num_virtual_tokens=4),
    "prefix": VirtualTokensArchitecture(strategy="PrefixTuning", num_virtual_tokens=4),
}


@pytest.mark.parametrize("architecture", ARCHITECTURES.values(), ids=ARCHITECTURES)
def test_trial_learns_and_its_folder_gives_the_best_validation_again(
    architecture, propose, settings, tiny_folders, summarization_data, run_of, curve_of
):
    proposal = propose(family="llama", kind="summarization", architecture=architecture)
    metrics = ProxyTrainer(proposal.id).train(summarization_data, 24)
    found = [line["loss"] for line in curve_of(proposal, "train")]
    assert metrics.state is TrialState.COMPLETED
    assert fmean(found[-3:]) < 0.97 * fmean(found[:3])
    base = resolve_base(str(tiny_folders["llama"]), settings)
    data = read_data(summarization_data)
    validator = Feed(base, data, TrainerConfig()).validator(torch.device("cpu"), has_positions=True)
    model = load_adapter(base.load(data.spec), run_of(proposal).adapter_folder, base=base.reference)
    assert validator.measure(model, 0).loss == pytest.approx(metrics.validation_loss.value, rel=1e-6)


@pytest.mark.parametrize("name", ["random", "prefix"])
def test_training_again_gives_the_same_bits(name, propose, summarization_data, run_of):
    proposal = propose(family="llama", kind="summarization", architecture=ARCHITECTURES[name])
    ProxyTrainer(proposal.id).train(summarization_data, 6)
    run = run_of(proposal)
    first = (run.adapter_folder / "adapter_model.safetensors").read_bytes()
    run.path.rename(run.path.with_name("first"))
    torch.rand(3)  # draws of others change nothing
    ProxyTrainer(proposal.id).train(summarization_data, 6)
    assert (run.adapter_folder / "adapter_model.safetensors").read_bytes() == first
