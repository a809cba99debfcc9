"""PEFT's methods: what does not fit is refused before the model is touched, and what PEFT refuses is undone."""

from __future__ import annotations

import warnings

import peft
import pytest
import torch

from legion.foundation.errors import AdapterError
from legion.neuro_architecture.adapters import PeftAdapter, trainable_parameters
from legion.neuro_architecture.adapters.attachment import attach, peft_fields
from legion.neuro_architecture.adapters.peft_methods import METHODS
from legion.neuro_architecture.anatomy import inspect_model
from legion.neuro_architecture.spec.architecture import PEFT_SIZES, LoRAArchitecture, PeftArchitecture

TRANSPOSED = [name for name, method in METHODS.items() if method.takes_transposed]


def untouched(model, before, logits, modules) -> bool:
    same = dict(model.named_modules()) == modules and all(weight.requires_grad for weight in model.parameters())
    return same and torch.equal(logits(model), before)


def test_table_has_every_method():
    assert set(METHODS) == set(PEFT_SIZES)


@pytest.mark.parametrize("method", sorted(set(METHODS) - set(TRANSPOSED)))
def test_layer_stored_transposed_is_refused_where_peft_has_no_form_for_it(build, logits, method):
    model = build("gpt2")
    before, modules = logits(model), dict(model.named_modules())
    with pytest.raises(AdapterError, match=rf"{method} cannot adapt transformer\.h\.0\.attn\.c_attn"):
        PeftAdapter(method).apply(model)
    assert untouched(model, before, logits, modules)


@pytest.mark.parametrize("method", sorted(set(METHODS) - set(TRANSPOSED)))
@pytest.mark.filterwarnings("ignore:Failed to load the CUDA extension", "ignore:Setting boft_n_butterfly_factor")
@pytest.mark.filterwarnings("ignore:`is_gradient_checkpointing` is deprecated:FutureWarning")  # asked for by peft
def test_table_refuses_no_layer_that_peft_would_take(build, method):
    config = METHODS[method].config(target_modules=["c_attn"])
    with warnings.catch_warnings(), pytest.raises((TypeError, ValueError, AttributeError)):
        peft.get_peft_model(build("gpt2"), config)


@pytest.mark.parametrize(
    ("method", "size", "cause"),
    [
        ("OFT", 5, "5 does not divide 32"),
        ("BOFT", 5, "5 is odd"),
        ("BOFT", 6, "6 does not divide 32"),
        ("C3A", 12, "12 does not divide 32 and 32"),
        ("HRA", 3, "3 is odd, and reflections cancel in pairs"),
        ("GraLoRA", 3, "3 is not a multiple of 2"),
        ("FourierFT", 513, "513 exceeds the 512 entries of the weight"),
        ("WaveFT", 513, "513 exceeds the 512 entries of the weight"),
    ],
)
def test_size_that_does_not_fit_names_layer_and_reason(build, logits, method, size, cause):
    model = build("llama")
    before, modules = logits(model), dict(model.named_modules())
    with pytest.raises(AdapterError, match=f"{PEFT_SIZES[method]} {size} of {method} does not fit") as caught:
        PeftAdapter(method, **{PEFT_SIZES[method]: size}).apply(model)
    assert cause in caught.value.cause
    assert untouched(model, before, logits, modules)


@pytest.mark.parametrize("method", [name for name, size in PEFT_SIZES.items() if size == "rank"])
def test_rank_above_a_width_is_refused_unless_it_is_a_projections_height(build, method):
    model = build("llama")
    if method == "VeRA":
        PeftAdapter(method, 64).apply(model)
    else:
        with pytest.raises(AdapterError, match="rank 18 exceeds the width"):
            PeftAdapter(method, 18).apply(model)


def test_what_peft_refuses_half_way_is_undone(build, logits):
    model = build("gpt2")
    anatomy = inspect_model(model)
    before, modules = logits(model), dict(model.named_modules())
    config = peft.C3AConfig(block_size=4, target_modules=r"score|transformer\.h\.0\.mlp\.c_fc", **peft_fields(anatomy))
    config.modules_to_save = None
    with pytest.raises(AdapterError, match="PEFT cannot apply C3A to gpt2") as caught:
        attach(model, config, PeftArchitecture(strategy="C3A"), model_type="gpt2", paths=["score"], seed=0)
    assert caught.value.cause
    assert untouched(model, before, logits, modules)


def test_adapter_that_reached_other_modules_than_asked_is_undone(build, logits):
    model = build("llama")
    before, modules = logits(model), dict(model.named_modules())
    config = peft.LoraConfig(target_modules=["q_proj"], **peft_fields(inspect_model(model)))
    with pytest.raises(AdapterError, match="did not reach exactly"):
        attach(model, config, LoRAArchitecture(), model_type="llama", paths=["model.layers.0.self_attn.q_proj"], seed=0)
    assert untouched(model, before, logits, modules)


def test_ia3_scales_inputs_of_down_projections_and_outputs_of_the_rest(build):
    adapted = PeftAdapter("IA3").apply(build("llama", "tokens"))
    shapes = {name.split(".")[-3]: tuple(weight.shape) for name, weight in trainable_parameters(adapted).items()}
    assert shapes["down_proj"] == (1, 64)
    assert (shapes["up_proj"], shapes["k_proj"]) == ((64, 1), (16, 1))
    attention_only = PeftAdapter("IA3", target_modules=["k_proj"]).apply(build("llama", "tokens"))
    assert len(trainable_parameters(attention_only)) == 3


def test_size_reaches_peft_under_its_own_name(build):
    def config(method, **size):
        return PeftAdapter(method, **size).apply(build("llama")).peft_config["default"]

    assert (config("LoHa", rank=2).r, config("LoHa", rank=2).alpha) == (2, 2)
    assert config("OFT", block_size=8).oft_block_size == 8
    assert config("BOFT", block_size=8).boft_block_size == 8
    assert config("FourierFT", num_frequencies=7).n_frequency == 7
    assert config("C3A", block_size=8).block_size == 8


def test_layers_and_targets_are_honoured(build):
    adapted = PeftAdapter("LoHa", 2, target_modules=["q_proj", "down_proj"], layers=[1]).apply(build("llama"))
    assert sorted(adapted.base_model.targeted_module_names) == [
        "model.layers.1.mlp.down_proj",
        "model.layers.1.self_attn.q_proj",
    ]
