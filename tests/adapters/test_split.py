"""Split networks: the formula token by token, units dealt out evenly, and networks of another kind refused."""

from __future__ import annotations

import pytest
import torch
from torch.nn.functional import silu
from transformers import LlamaConfig, LlamaForCausalLM
from transformers.models.mixtral.modeling_mixtral import load_balancing_loss_func

from legion.foundation.errors import AdapterError, InvalidValueError
from legion.neuro_architecture.adapters import SplitAdapter, auxiliary_loss, expert_usage, trainable_parameters
from legion.neuro_architecture.adapters.partition import partition
from legion.neuro_architecture.adapters.saving import adapter_tensors
from legion.neuro_architecture.anatomy import inspect_model

LLAMA = ("llama", "tokens")
PREFIX = "base_model.model."


def naive(tensors, mlp, x, *, top_k, scale):
    """One token and one unit's expert at a time, from what is stored."""
    gate, up, down = (
        mlp.get_submodule(f"{name}_proj").weight + scale * tensors[f"{name}_lora_b"] @ tensors[f"{name}_lora_a"]
        for name in ("gate", "up", "down")
    )
    rows = []
    for token in x.reshape(-1, x.shape[-1]):
        p = (tensors["router"] @ token).softmax(0)
        kept = p.argsort(descending=True)[:top_k].tolist()
        weight = {expert: float(top_k * p[expert] / p[kept].sum()) for expert in kept}
        units = torch.tensor([weight.get(int(expert), 0.0) for expert in tensors["assignment"]])
        rows.append(down @ (units * silu(gate @ token) * (up @ token)))
    return torch.stack(rows).reshape(x.shape)


@pytest.mark.parametrize(("num_experts", "top_k"), [(2, 1), (4, 1), (4, 2), (4, 4), (8, 3)])
@pytest.mark.parametrize("split", ["contiguous", "clusters"])
def test_split_network_equals_a_loop_over_tokens(build, logits, stir, num_experts, top_k, split):
    strategy = "SplitLayer" if top_k == num_experts else "SparseRouting"
    adapted = stir(SplitAdapter(strategy, num_experts, top_k, rank=4, alpha=6.0, split=split).apply(build(*LLAMA)))
    tensors = {name.removeprefix(PREFIX): tensor for name, tensor in adapter_tensors(adapted).items()}
    stock = build(*LLAMA)
    for layer in inspect_model(stock).layers:
        at = f"{layer.par.path}.split_adapter."
        own = {name.removeprefix(at): tensor for name, tensor in tensors.items() if name.startswith(at)}
        stock.get_submodule(layer.par.path).register_forward_hook(
            lambda mlp, x, _, own=own: naive(own, mlp, x[0], top_k=top_k, scale=6.0 / 4)
        )
    assert (logits(adapted) - logits(build(*LLAMA))).abs().max() > 1e-2
    assert (logits(adapted) - logits(stock)).abs().max() < 1e-5


@pytest.mark.parametrize("num_experts", [2, 4, 8, 16])
def test_fresh_split_layer_is_the_dense_network_bit_for_bit(build, logits, num_experts):
    assert torch.equal(logits(SplitAdapter(num_experts=num_experts).apply(build(*LLAMA))), logits(build(*LLAMA)))


def test_units_and_router_are_told_apart(build):
    adapted = SplitAdapter("SparseRouting", rank=4).apply(build(*LLAMA))
    names = {name.rpartition(".")[2] for name in trainable_parameters(adapted)}
    corrections = {f"{part}_lora_{half}" for part in ("gate", "up", "down") for half in "ab"}
    assert names == {"router", *corrections}
    assert {name.rpartition(".")[2] for name in adapter_tensors(adapted)} == {*names, "assignment"}


@pytest.mark.parametrize("num_experts", [2, 4, 8])
def test_every_expert_gets_the_same_number_of_units(num_experts):
    gate_ID = torch.randn(64, 16, generator=torch.Generator().manual_seed(0)) + 1.0
    for split in ("contiguous", "clusters"):
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(1)
            expert_I = partition(gate_ID, num_experts, split)
        assert torch.bincount(expert_I.long(), minlength=num_experts).tolist() == [64 // num_experts] * num_experts
    assert partition(gate_ID, 4, "contiguous").tolist() == [float(unit // 16) for unit in range(64)]


def test_units_that_point_the_same_way_stay_together():
    draw = torch.Generator().manual_seed(0)
    centre_ED = torch.eye(4, 16)
    kind_I = torch.randperm(64, generator=draw) % 4
    length_I1 = torch.rand(64, 1, generator=draw) + 0.1
    gate_ID = length_I1 * (centre_ED[kind_I] + 0.05 * torch.randn(64, 16, generator=draw))
    for seed in range(5):
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            expert_I = partition(gate_ID, 4, "clusters")
        assert len({(int(kind), int(expert)) for kind, expert in zip(kind_I, expert_I, strict=True)}) == 4


def captured(adapted):
    """Router logits of the coming pass, from what goes into each network."""
    seen = []
    for module in adapted.modules():
        if type(module).__name__ == "SplitExperts":
            module.register_forward_pre_hook(lambda module, x: seen.append(x[0].detach() @ module.router.detach().T))
    return seen


def test_auxiliary_loss_equals_transformers(build, batch):
    adapter = SplitAdapter("SparseRouting", rank=2, load_balancing_coefficient=0.3)
    adapted = adapter.apply(build(*LLAMA))
    seen = captured(adapted)
    adapted(**batch)
    flat = tuple(logits.reshape(-1, 4) for logits in seen)
    expected = 0.3 * load_balancing_loss_func(flat, 4, 2, batch["attention_mask"])
    assert len(flat) == 3
    assert auxiliary_loss(adapted).item() == pytest.approx(float(expected), abs=1e-6)
    assert all(sum(usage.counts) == 2 * int(batch["attention_mask"].sum()) for usage in expert_usage(adapted))


def test_network_that_keeps_all_experts_has_nothing_to_balance(build, batch):
    for adapter in (SplitAdapter(), SplitAdapter("SparseRouting", load_balancing=False)):
        adapted = adapter.apply(build(*LLAMA))
        adapted(**batch)
        assert auxiliary_loss(adapted) is None


@pytest.mark.parametrize("family", ["bert", "gpt2"])
def test_network_without_a_gate_is_refused(build, logits, family):
    model = build(family)
    before = logits(model)
    with pytest.raises(AdapterError, match=f"networks of {family} cannot be split"):
        SplitAdapter().apply(model)
    assert torch.equal(logits(model), before)


def test_network_with_biases_is_refused():
    sizes = {"vocab_size": 40, "hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 1}
    config = LlamaConfig(**sizes, num_attention_heads=2, mlp_bias=True)
    with pytest.raises(AdapterError, match="cannot be split"):
        SplitAdapter().apply(LlamaForCausalLM(config))


def test_sizes_that_do_not_fit_are_refused(build):
    with pytest.raises(AdapterError, match="64 units cannot be dealt out to 6 experts") as caught:
        SplitAdapter(num_experts=6).apply(build(*LLAMA))
    assert caught.value.hint == "num_experts may be 2, 4, 8, 16 here"
    with pytest.raises(AdapterError, match="rank 33 exceeds the width") as caught:
        SplitAdapter(rank=33).apply(build(*LLAMA))
    assert caught.value.hint == "rank is at most 32 here"


def test_wrong_arguments_are_listed():
    with pytest.raises(InvalidValueError, match="SplitAdapter is not valid"):
        SplitAdapter("SplitLayer", num_experts=4, top_k=2)
