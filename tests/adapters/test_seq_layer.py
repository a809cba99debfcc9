"""The bottleneck behind a whole block: its formula on stock blocks, with the family's own norm."""

from __future__ import annotations

import pytest
import torch
from transformers.activations import ACT2FN
from transformers.models.llama.modeling_llama import LlamaRMSNorm

from legion.foundation.errors import AdapterError
from legion.neuro_architecture.adapters import BottleneckAdapter
from legion.neuro_architecture.adapters.norms import apply_norm
from legion.neuro_architecture.adapters.saving import adapter_tensors
from legion.neuro_architecture.anatomy import inspect_model

CASES = [("llama", "labels"), ("llama", "tokens"), ("gpt2", "labels"), ("gpt2", "tokens")]
OWN_GELU = {"llama": "gelu", "gpt2": "gelu_new"}


def stock_norm(family, tensors):
    """transformers' own module with the stored weights."""
    width = len(tensors["norm"])
    norm = LlamaRMSNorm(width, eps=1e-6) if family == "llama" else torch.nn.LayerNorm(width, eps=1e-5)
    norm.weight.data = tensors["norm"]
    if family == "gpt2":
        norm.bias.data = tensors["norm_bias"]
    return norm


@pytest.mark.parametrize("prenorm", CASES, ids="-".join)
@pytest.mark.parametrize("is_gated", [False, True], ids=["plain", "gated"])
def test_correction_behind_a_block_equals_its_formula(build, logits, stir, prenorm, is_gated):
    family, _ = prenorm
    adapter = BottleneckAdapter(6, "gelu", "seq_layer", is_gated)
    adapted = stir(adapter.apply(build(*prenorm)))
    tensors = {name.removeprefix("base_model.model."): tensor for name, tensor in adapter_tensors(adapted).items()}
    stock = build(*prenorm)
    for head in inspect_model(stock).head_modules:
        stock.get_submodule(head).weight.data = tensors[f"{head}.weight"]
    act = ACT2FN[OWN_GELU[family]]

    def corrected(h, own):
        x = stock_norm(family, own)(h)
        if is_gated:
            return h + (act(x @ own["gate"].T) * (x @ own["up"].T)) @ own["down"].T
        return h + act(x @ own["up"].T + own["up_bias"]) @ own["down"].T + own["down_bias"]

    for layer in inspect_model(stock).layers:
        at = f"{layer.path}.bottleneck_adapter."
        own = {name.removeprefix(at): tensor for name, tensor in tensors.items() if name.startswith(at)}
        assert ("norm_bias" in own) == (family == "gpt2")
        stock.get_submodule(layer.path).register_forward_hook(
            lambda _, __, y, own=own: (corrected(y[0], own), *y[1:]) if isinstance(y, tuple) else corrected(y, own)
        )
    assert (logits(adapted) - logits(build(*prenorm))).abs().max() > 1e-2
    assert (logits(adapted) - logits(stock)).abs().max() < 1e-5


def test_root_mean_square_norm_is_transformers_own():
    draw = torch.Generator().manual_seed(0)
    x_BTD = torch.randn(2, 5, 16, generator=draw)
    for dtype in (torch.float32, torch.bfloat16):
        norm = LlamaRMSNorm(16, eps=1e-3).to(dtype)
        norm.weight.data = torch.randn(16, generator=draw).to(dtype)
        ours = apply_norm(x_BTD.to(dtype), norm.weight, None, kind="rms", eps=1e-3)
        assert torch.equal(ours, norm(x_BTD.to(dtype)))


def test_norm_starts_as_one_with_the_base_epsilon(build):
    adapted = BottleneckAdapter(4, placement="seq_layer").apply(build("llama"))
    tensors = adapter_tensors(adapted)
    assert torch.equal(tensors["base_model.model.model.layers.0.bottleneck_adapter.norm"], torch.ones(32))
    config = adapted.peft_config["default"]
    assert (config.norm, config.norm_eps) == ("rms", adapted.config.rms_norm_eps)


def test_wrapped_block_answers_for_itself(build):
    model = build("llama")
    block = model.model.layers[0]
    adapted = BottleneckAdapter(4, placement="seq_layer").apply(model)
    wrapper = adapted.base_model.model.model.layers[0]
    assert wrapper is not block
    assert wrapper.self_attn is block.self_attn
    assert wrapper.hidden_size == block.hidden_size
    with pytest.raises(AttributeError, match="no_such_thing"):
        _ = wrapper.no_such_thing


def test_blocks_that_end_in_a_norm_are_refused(build, logits):
    model = build("bert")
    before = logits(model)
    with pytest.raises(AdapterError, match="bert takes no correction behind a whole block"):
        BottleneckAdapter(4, placement="seq_layer").apply(model)
    assert torch.equal(logits(model), before)
