"""On tokens of four kinds no expert starves: each keeps at least half its fair share of the assignments."""

from __future__ import annotations

import pytest
import torch

from legion.neuro_architecture.adapters.experts import ExpertMixture
from legion.neuro_architecture.adapters.routing import load_balance_loss
from legion.neuro_architecture.adapters.split import SplitConfig, SplitExperts

WIDTH, EXPERTS, STEPS, COEFFICIENT = 16, 4, 150, 0.05


class Gated(torch.nn.Module):
    """A frozen gated network, as a Llama-like block has one."""

    def __init__(self):
        super().__init__()
        self.gate_proj = torch.nn.Linear(WIDTH, 32, bias=False)
        self.up_proj = torch.nn.Linear(WIDTH, 32, bias=False)
        self.down_proj = torch.nn.Linear(32, WIDTH, bias=False)
        self.requires_grad_(requires_grad=False)


def four_clusters() -> tuple[torch.Tensor, torch.Tensor]:
    """Tokens around four centres far apart, and for each cluster a linear map of its own to learn."""
    kind_N = torch.arange(256) % 4
    x_ND = 3.0 * torch.eye(4, WIDTH)[kind_N] + 0.3 * torch.randn(256, WIDTH)
    map_KDD = torch.randn(4, WIDTH, WIDTH) / WIDTH**0.5
    return x_ND, torch.einsum("nd,nde->ne", x_ND, map_KDD[kind_N])


def mixture(top_k):
    module = ExpertMixture(WIDTH, 8, "gelu", num_experts=EXPERTS, top_k=top_k, is_gated=False)
    return module, lambda x: (module(x), module.take_logits())


def sparse(top_k):
    base = Gated()
    config = SplitConfig(
        hidden_size=WIDTH, intermediate_size=32, num_experts=EXPERTS, top_k=top_k, rank=8, activation="silu"
    )
    module = SplitExperts(config, base.gate_proj.weight)
    return module, lambda x: module(x, base)


@pytest.mark.parametrize("top_k", [1, 2])
@pytest.mark.parametrize("make", [mixture, sparse])
@pytest.mark.parametrize("seed", range(3))
def test_no_expert_ends_below_half_its_fair_share(make, top_k, seed):
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        x_ND, target_ND = four_clusters()
        module, run = make(top_k)
    optimizer = torch.optim.AdamW(module.parameters(), lr=1e-2, weight_decay=0.0)
    errors = []
    for _ in range(STEPS):
        y_ND, logits_NE = run(x_ND)
        error = (y_ND - target_ND).square().mean()
        balance = load_balance_loss([logits_NE], top_k=top_k, masks=[None])
        optimizer.zero_grad()
        (error + COEFFICIENT * balance).backward()
        optimizer.step()
        errors.append(error.item())
    counts = torch.bincount(run(x_ND)[1].topk(top_k, dim=-1).indices.flatten(), minlength=EXPERTS)
    assert errors[-1] < 0.8 * errors[0]
    assert (counts / counts.sum()).min() >= 1 / (2 * EXPERTS)
