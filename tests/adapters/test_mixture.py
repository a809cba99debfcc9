"""Routing: the balance loss against transformers' own, padding left out, usage counted, two ways of computing."""

from __future__ import annotations

import copy
import math

import pytest
import torch
from transformers.models.mixtral.modeling_mixtral import load_balancing_loss_func

from legion.neuro_architecture.adapters import (
    ExpertUsage,
    LoRAAdapter,
    MoEAdapter,
    auxiliary_loss,
    expert_usage,
)
from legion.neuro_architecture.adapters.experts import ExpertMixture
from legion.neuro_architecture.adapters.routing import RoutingTrace, load_balance_loss


def random_logits(num_layers=3, num_experts=5, seed=0):
    draw = torch.Generator().manual_seed(seed)
    return [torch.randn(3, 12, num_experts, generator=draw) for _ in range(num_layers)]


@pytest.mark.parametrize("top_k", [1, 2, 5])
@pytest.mark.parametrize("is_masked", [False, True])
def test_balance_loss_equals_transformers(batch, top_k, is_masked):
    logits = random_logits()
    mask = batch["attention_mask"] if is_masked else None
    theirs = load_balancing_loss_func(tuple(item.reshape(-1, 5) for item in logits), 5, top_k, mask)
    ours = load_balance_loss(logits, top_k=top_k, masks=[mask] * 3)
    assert abs(float(theirs) - float(ours)) < 1e-6


def test_balanced_routing_has_the_least_loss():
    uniform = load_balance_loss([torch.eye(4).repeat(3, 1) * 9], top_k=1, masks=[None])
    skewed = load_balance_loss([torch.tensor([[9.0, 0.0, 0.0, 0.0]]).repeat(12, 1)], top_k=1, masks=[None])
    assert uniform.item() == pytest.approx(1.0)
    assert skewed.item() > 3.9


def captured_router_logits(model):
    """Router logits of the coming passes, from what hooks of our own see going in."""
    seen = []
    for module in model.modules():
        if isinstance(module, ExpertMixture):
            module.register_forward_pre_hook(lambda mixture, x: seen.append(x[0].detach() @ mixture.router.detach().T))
    return seen


def test_auxiliary_loss_is_weighted_and_leaves_padding_out(build, batch, case):
    adapted = MoEAdapter(4, 2, load_balancing_coefficient=0.3).apply(build(*case))
    seen = captured_router_logits(adapted)
    adapted(**batch)
    flat = tuple(logits.reshape(-1, 4) for logits in seen)
    expected = 0.3 * load_balancing_loss_func(flat, 4, 2, batch["attention_mask"])
    assert len(flat) == 3
    assert auxiliary_loss(adapted).item() == pytest.approx(float(expected), abs=1e-6)
    adapted(input_ids=batch["input_ids"])
    unmasked = 0.3 * load_balancing_loss_func(tuple(logits.reshape(-1, 4) for logits in seen[3:]), 4, 2)
    assert auxiliary_loss(adapted).item() == pytest.approx(float(unmasked), abs=1e-6)


def test_padding_does_not_change_the_auxiliary_loss(build, batch):
    adapted = MoEAdapter(4, 2).apply(build("bert"))
    adapted(**batch)
    padded = auxiliary_loss(adapted).item()
    wider = {key: torch.nn.functional.pad(value, (0, 5)) for key, value in batch.items()}
    adapted(**wider)
    assert auxiliary_loss(adapted).item() == pytest.approx(padded, abs=1e-6)


def test_mask_given_by_position_counts_too(build, batch):
    adapted = MoEAdapter(4, 2).apply(build("bert"))
    adapted(**batch)
    expected = auxiliary_loss(adapted)
    adapted(batch["input_ids"], batch["attention_mask"])
    assert torch.equal(auxiliary_loss(adapted), expected)


def test_auxiliary_loss_reaches_every_router(build, batch):
    adapted = MoEAdapter(4, 2).apply(build("llama"))
    adapted(**batch)
    auxiliary_loss(adapted).backward()
    routers = [weight for name, weight in adapted.named_parameters() if name.endswith("mixture_adapter.default.router")]
    assert len(routers) == 3
    assert all(router.grad.any() for router in routers)


def test_there_is_no_auxiliary_loss_where_nothing_is_balanced(build, batch):
    assert auxiliary_loss(build("bert")) is None
    adapted = MoEAdapter(4, 2, load_balancing=False).apply(build("bert"))
    adapted(**batch)
    assert auxiliary_loss(adapted) is None
    lora = LoRAAdapter(rank=2).apply(build("bert"))
    lora(**batch)
    assert auxiliary_loss(lora) is None
    assert expert_usage(lora) == ()
    assert auxiliary_loss(MoEAdapter(4, 2).apply(build("bert"))) is None


def test_balancing_spreads_the_tokens(build, batch):
    adapted = MoEAdapter(4, 1, load_balancing_coefficient=1.0, layers=[1]).apply(build("bert"))
    router = next(weight for name, weight in adapted.named_parameters() if name.endswith("router"))
    optimizer = torch.optim.Adam([router], lr=3e-2)
    entropies = []
    for _ in range(60):
        optimizer.zero_grad()
        adapted(**batch)
        entropies.append(expert_usage(adapted)[0].entropy_nats)
        auxiliary_loss(adapted).backward()
        optimizer.step()
    assert max(entropies[-10:]) > entropies[0]
    assert max(entropies[-10:]) > 0.95 * math.log(4)


def test_usage_counts_each_real_token_top_k_times(build, batch):
    adapted = MoEAdapter(4, 2, layers=[0, 2]).apply(build("gpt2"))
    adapted(**batch)
    usages = expert_usage(adapted)
    assert [usage.path for usage in usages] == ["transformer.h.0.mlp", "transformer.h.2.mlp"]
    assert all(sum(usage.counts) == 2 * int(batch["attention_mask"].sum()) for usage in usages)


def test_usage_says_shares_entropy_and_dead_experts():
    usage = ExpertUsage(path="mlp", counts=(3, 0, 1)) + ExpertUsage(path="mlp", counts=(1, 0, 3))
    assert usage.shares == (0.5, 0.0, 0.5)
    assert usage.entropy_nats == pytest.approx(math.log(2))
    assert usage.dead_experts == (1,)
    assert ExpertUsage(path="mlp", counts=(0, 0)).shares == (0.0, 0.0)
    with pytest.raises(ValueError, match="cannot be added"):
        usage + ExpertUsage(path="other", counts=(1, 1, 1))


def test_cached_prefix_is_cut_from_the_mask(build, batch):
    adapted = MoEAdapter(4, 2).apply(build("llama", "tokens"))
    first = adapted(input_ids=batch["input_ids"], attention_mask=batch["attention_mask"], use_cache=True)
    mask = torch.cat([batch["attention_mask"], torch.tensor([[1], [0], [1]])], 1)
    adapted(input_ids=batch["input_ids"][:, :1], attention_mask=mask, past_key_values=first.past_key_values)
    assert all(sum(usage.counts) == 2 * 2 for usage in expert_usage(adapted))


@pytest.mark.parametrize("is_gated", [False, True])
def test_both_ways_of_computing_give_the_same_values_and_gradients(is_gated):
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        mixture = ExpertMixture(16, 8, "gelu", num_experts=4, top_k=2, is_gated=is_gated)
        torch.nn.init.normal_(mixture.down)
        x_ND = torch.randn(50, 16)
    top = (x_ND @ mixture.router.T).softmax(-1).topk(2, dim=-1)
    weight_NE = torch.zeros(50, 4).scatter(-1, top.indices, top.values)
    outputs = [mixture._dense(x_ND, weight_NE), mixture._sparse(x_ND, top.values, top.indices)]
    assert torch.allclose(*outputs, atol=1e-5)
    parameters = list(mixture.parameters())
    gradients = [torch.autograd.grad(y.square().sum(), parameters, retain_graph=True) for y in outputs]
    assert all(torch.allclose(a, b, atol=1e-3) for a, b in zip(*gradients, strict=True))


def test_every_chosen_expert_gets_a_gradient(build, batch):
    adapted = MoEAdapter(4, 2).apply(build("bert"))
    adapted(**batch).logits.square().sum().backward()
    used = expert_usage(adapted)
    downs = [
        weight.grad for name, weight in adapted.named_parameters() if name.endswith("mixture_adapter.default.down")
    ]
    assert len(downs) == 3
    for usage, gradient in zip(used[:2], downs[:2], strict=True):
        assert [bool(gradient[expert].any()) for expert in range(4)] == [count > 0 for count in usage.counts]


def test_fresh_experts_differ(build):
    adapted = MoEAdapter(4, 2).apply(build("bert"))
    mixture = next(module for module in adapted.modules() if isinstance(module, ExpertMixture))
    assert all(not torch.equal(mixture.up[0], mixture.up[expert]) for expert in range(1, 4))


def test_copied_trace_is_empty():
    trace = RoutingTrace()
    trace.note("mlp", torch.ones(1, requires_grad=True) * 2)
    assert copy.deepcopy(trace).logits == {}
    constructor, arguments = trace.__reduce__()
    assert constructor(*arguments).logits == {}


def test_untaken_logits_are_an_error():
    with pytest.raises(RuntimeError, match="has not run"):
        ExpertMixture(4, 2, "relu", num_experts=2, top_k=1, is_gated=False).take_logits()
