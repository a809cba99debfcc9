"""Each adapter computes what an independent implementation computes from the same stored weights, to 1e-5."""

from __future__ import annotations

import functools

import peft
import pytest
import torch
from torch.nn import functional

from legion.neuro_architecture.adapters import BottleneckAdapter, LoRAAdapter, MoEAdapter
from legion.neuro_architecture.adapters.saving import adapter_tensors
from legion.neuro_architecture.anatomy import inspect_model

TOLERANCE = 1e-5
EFFECT = 1e-2
ACTIVATIONS = {
    "gelu": functional.gelu,
    "gelu_new": functools.partial(functional.gelu, approximate="tanh"),
    "silu": functional.silu,
    "relu": functional.relu,
}
OWN_GELU = {"bert": "gelu", "llama": "gelu", "gpt2": "gelu_new"}
PREFIX = "base_model.model."


def difference(one, other) -> float:
    return (one - other).abs().max().item()


def stored(adapted) -> dict[str, torch.Tensor]:
    return {name.removeprefix(PREFIX): tensor.clone() for name, tensor in adapter_tensors(adapted).items()}


def set_head(model, tensors) -> None:
    """Gives a stock model the head that was trained along."""
    for head in inspect_model(model).head_modules:
        prefix = f"{head}."
        weights = {name.removeprefix(prefix): value for name, value in tensors.items() if name.startswith(prefix)}
        model.get_submodule(head).load_state_dict(weights)


# LoRA


def merged_by_hand(model, tensors, scale):
    """The stock model with W + scale * B A in place of each adapted W."""
    set_head(model, tensors)
    for name, A in tensors.items():
        if name.endswith(".lora_A.weight"):
            path = name.removesuffix(".lora_A.weight")
            delta = scale * tensors[f"{path}.lora_B.weight"] @ A
            weight = model.get_submodule(path).weight
            weight.data += delta if delta.shape == weight.shape and not is_conv(model, path) else delta.T
    return model


def is_conv(model, path) -> bool:
    return type(model.get_submodule(path)).__name__ == "Conv1D"


def test_lora_equals_hand_merged_weights(build, logits, stir, case):
    base = logits(build(*case))
    adapted = stir(LoRAAdapter(rank=4, alpha=6).apply(build(*case)))
    merged = merged_by_hand(build(*case), stored(adapted), 6 / 4)
    assert difference(logits(adapted), base) > EFFECT
    assert difference(logits(adapted), logits(merged)) < TOLERANCE


@pytest.mark.parametrize("family", ["bert", "llama", "gpt2"])
def test_lora_on_one_target_equals_hand_merged_weights(build, logits, stir, family):
    anatomy = inspect_model(build(family))
    for name in anatomy.linear_names:
        adapted = stir(LoRAAdapter(rank=2, alpha=2, target_modules=[name], layers=[0, 2]).apply(build(family)))
        tensors = stored(adapted)
        paths = {key.removesuffix(".lora_A.weight") for key in tensors if key.endswith(".lora_A.weight")}
        wanted = {site.path for layer in anatomy.layers for site in layer.linears if site.name == name}
        assert paths == {path for path in wanted if not path.startswith(anatomy.layers[1].path)}
        assert difference(logits(adapted), logits(merged_by_hand(build(family), tensors, 1.0))) < TOLERANCE


@pytest.mark.filterwarnings("ignore:`is_gradient_checkpointing` is deprecated:FutureWarning")  # asked for by peft
def test_lora_equals_stock_peft(build, logits, stir, case):
    names = {
        "bert": ["query", "key", "value", "dense"],
        "llama": ["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"],
        "gpt2": ["c_attn", "c_proj", "c_fc"],
    }
    family, task = case
    adapted = stir(LoRAAdapter(rank=4, alpha=32).apply(build(*case)))
    config = peft.LoraConfig(
        r=4,
        lora_alpha=32,
        target_modules=names[family],
        exclude_modules=["pooler.dense"],
        fan_in_fan_out=family == "gpt2",
        task_type="CAUSAL_LM" if task == "tokens" else "SEQ_CLS",
    )
    if family != "bert":
        config.exclude_modules = None
    stock = peft.get_peft_model(build(*case), config).eval()
    outcome = peft.set_peft_model_state_dict(stock, adapter_tensors(adapted))
    assert not outcome.unexpected_keys
    assert adapter_tensors(adapted).keys() == peft.get_peft_model_state_dict(stock).keys()
    assert torch.equal(logits(adapted), logits(stock))


# Bottlenecks


def inner_of(tensors, path, x, activation):
    """Bottleneck of x from the stored tensors of one site."""
    at = f"{path}.bottleneck_adapter."
    up = functional.linear(x, tensors[f"{at}up"], tensors.get(f"{at}up_bias"))
    gate = tensors.get(f"{at}gate")
    inner = activation(up) if gate is None else activation(x @ gate.T) * up
    return functional.linear(inner, tensors[f"{at}down"], tensors.get(f"{at}down_bias"))


def with_corrections(model, correction, placement):
    """A stock model whose feed-forward networks are corrected by hooks; on BERT, before the norm that follows."""
    for layer in inspect_model(model).layers:
        site = layer.par if placement == "par" else layer.seq
        module = model.get_submodule(site.path)
        if site.style == "residual":
            dense = model.get_submodule(f"{site.path}.dense")
            kept = {}
            module.register_forward_pre_hook(lambda _, inputs, kept=kept: kept.update(x=inputs[1]))
            dense.register_forward_hook(lambda _, __, y, kept=kept, path=site.path: y + correction(path, kept["x"]))
        else:
            module.register_forward_hook(
                lambda _, inputs, y, path=site.path: y + correction(path, inputs[0] if placement == "par" else y)
            )
    return model


@pytest.mark.parametrize("is_gated", [False, True], ids=["plain", "gated"])
@pytest.mark.parametrize("placement", ["par", "seq"])
@pytest.mark.parametrize("non_linearity", ["relu", "gelu"])
def test_bottleneck_equals_its_formula(build, logits, stir, case, placement, is_gated, non_linearity):
    adapter = BottleneckAdapter(6, non_linearity, placement, is_gated)
    adapted = stir(adapter.apply(build(*case)))
    tensors = stored(adapted)
    name = OWN_GELU[case[0]] if non_linearity == "gelu" else non_linearity
    stock = build(*case)
    set_head(stock, tensors)
    with_corrections(stock, lambda path, x: inner_of(tensors, path, x, ACTIVATIONS[name]), placement)
    assert difference(logits(adapted), logits(build(*case))) > EFFECT
    assert difference(logits(adapted), logits(stock)) < TOLERANCE


def widen(model, stock_class, tensors, *, size_key, size):
    """A stock model with a wider feed-forward network and the base's weights elsewhere."""
    config = type(model.config).from_dict(model.config.to_dict() | {size_key: size})
    wide = stock_class(config).eval()
    weights = {name: value.clone() for name, value in model.state_dict().items()}
    for layer in inspect_model(model).layers:
        WIDENERS[model.config.model_type](weights, layer, tensors)
    wide.load_state_dict(weights)
    set_head(wide, tensors)
    return wide


def widen_bert(weights, layer, tensors):
    at, inner, outer = f"{layer.path}.output.bottleneck_adapter.", "intermediate.dense", "output.dense"
    for kind, ours in (("weight", "up"), ("bias", "up_bias")):
        name = f"{layer.path}.{inner}.{kind}"
        weights[name] = torch.cat([weights[name], tensors[at + ours]])
    name = f"{layer.path}.{outer}.weight"
    weights[name] = torch.cat([weights[name], tensors[f"{at}down"]], 1)
    weights[f"{layer.path}.{outer}.bias"] += tensors[f"{at}down_bias"]


def widen_llama(weights, layer, tensors):
    at, mlp = f"{layer.par.path}.bottleneck_adapter.", layer.par.path
    for ours, theirs, axis in (("gate", "gate_proj", 0), ("up", "up_proj", 0), ("down", "down_proj", 1)):
        name = f"{mlp}.{theirs}.weight"
        weights[name] = torch.cat([weights[name], tensors[at + ours]], axis)


def widen_gpt2(weights, layer, tensors):
    at, mlp = f"{layer.par.path}.bottleneck_adapter.", layer.par.path
    weights[f"{mlp}.c_fc.weight"] = torch.cat([weights[f"{mlp}.c_fc.weight"], tensors[f"{at}up"].T], 1)
    weights[f"{mlp}.c_fc.bias"] = torch.cat([weights[f"{mlp}.c_fc.bias"], tensors[f"{at}up_bias"]])
    weights[f"{mlp}.c_proj.weight"] = torch.cat([weights[f"{mlp}.c_proj.weight"], tensors[f"{at}down"].T])
    weights[f"{mlp}.c_proj.bias"] += tensors[f"{at}down_bias"]


WIDENERS = {"bert": widen_bert, "llama": widen_llama, "gpt2": widen_gpt2}


def test_parallel_bottleneck_is_a_wider_stock_model(build, logits, stir, case):
    family, _ = case
    is_gated = family == "llama"
    adapter = BottleneckAdapter(8, "silu" if is_gated else "gelu", "par", is_gated)
    adapted = stir(adapter.apply(build(*case)))
    base = build(*case)
    size_key = "n_inner" if family == "gpt2" else "intermediate_size"
    size = inspect_model(base).intermediate_size + 8
    wide = widen(base, type(base), stored(adapted), size_key=size_key, size=size)
    assert difference(logits(adapted), logits(base)) > EFFECT
    assert difference(logits(adapted), logits(wide)) < TOLERANCE


# Mixtures


def naive_mixture(tensors, path, x, activation, top_k):
    """One token and one expert at a time."""
    at = f"{path}.mixture_adapter."
    get = {name.removeprefix(at): value for name, value in tensors.items() if name.startswith(at)}
    rows = []
    for token in x.reshape(-1, x.shape[-1]):
        probabilities = (get["router"] @ token).softmax(0)
        total = torch.zeros_like(token)
        for expert in probabilities.argsort(descending=True)[:top_k].tolist():
            inner = get["up"][expert] @ token
            if "gate" in get:
                total += probabilities[expert] * (
                    get["down"][expert].T @ (activation(get["gate"][expert] @ token) * inner)
                )
            else:
                hidden = activation(inner + get["up_bias"][expert])
                total += probabilities[expert] * (get["down"][expert].T @ hidden + get["down_bias"][expert])
        rows.append(total)
    return torch.stack(rows).reshape(x.shape)


@pytest.mark.parametrize("top_k", [1, 2])
@pytest.mark.parametrize(("is_gated", "size"), [(False, 4), (True, 4), (False, 80)], ids=["plain", "gated", "wide"])
def test_mixture_equals_a_loop_over_tokens(build, logits, stir, case, is_gated, size, top_k):
    adapter = MoEAdapter(4, top_k, bottleneck_size=size, is_gated=is_gated)
    adapted = stir(adapter.apply(build(*case)), std=0.1)
    tensors = stored(adapted)
    activation = ACTIVATIONS[OWN_GELU[case[0]]]
    stock = build(*case)
    set_head(stock, tensors)
    with_corrections(stock, lambda path, x: naive_mixture(tensors, path, x, activation, top_k), "par")
    assert difference(logits(adapted), logits(build(*case))) > EFFECT
    assert difference(logits(adapted), logits(stock)) < TOLERANCE
