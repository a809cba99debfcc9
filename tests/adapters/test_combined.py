"""The combination: each part is what its own adapter puts there alone, in one config, one file and one removal."""

from __future__ import annotations

import json
import warnings

import peft
import pytest
import torch
from safetensors.torch import load_file

from legion.foundation.errors import AdapterError, InvalidValueError
from legion.neuro_architecture.adapters import (
    BottleneckAdapter,
    CombinedAdapter,
    LoRAAdapter,
    load_adapter,
    remove_adapter,
    save_adapter,
    trainable_parameters,
)
from legion.neuro_architecture.adapters.saving import adapter_tensors

CASES = [("bert", "labels"), ("llama", "tokens"), ("gpt2", "tokens")]
SIZES = {"rank": 2, "alpha": 24.0, "bottleneck_size": 6}


def own_tensors(model):
    """The adapter's own, without a head."""
    return {name: item for name, item in adapter_tensors(model).items() if "lora_" in name or "_adapter" in name}


@pytest.mark.parametrize("base", CASES, ids="-".join)
def test_parts_are_the_adapters_that_stand_there_alone(build, logits, stir, base):
    """The same tensors by name and shape; with one part silent, the other computes what it does alone."""
    combined = stir(CombinedAdapter(1, 2, **SIZES).apply(build(*base)))
    below = LoRAAdapter(2, 24.0, layers=[1]).apply(build(*base))
    above = BottleneckAdapter(6, layers=[2]).apply(build(*base))
    shapes = {name: item.shape for name, item in own_tensors(combined).items()}
    assert shapes == {name: item.shape for part in (below, above) for name, item in own_tensors(part).items()}
    for alone, silent in ((below, ".bottleneck_adapter.down"), (above, ".lora_B.weight")):
        one = CombinedAdapter(1, 2, **SIZES).apply(build(*base))
        stored = adapter_tensors(combined)
        with torch.no_grad():
            for name, item in adapter_tensors(one).items():
                item.copy_(torch.zeros_like(item) if silent in name else stored[name])
            for name, item in adapter_tensors(alone).items():
                item.copy_(stored[name])
        assert torch.equal(logits(one), logits(alone))
        assert (logits(one) - logits(combined)).abs().max() > 1e-3


@pytest.mark.parametrize("base", CASES, ids="-".join)
def test_trains_what_its_parts_train_and_nothing_else(build, base):
    combined = trainable_parameters(CombinedAdapter(0, 1, **SIZES).apply(build(*base)))
    below = trainable_parameters(LoRAAdapter(2, layers=[0]).apply(build(*base)))
    above = trainable_parameters(BottleneckAdapter(6, layers=[1, 2]).apply(build(*base)))
    assert combined.keys() == below.keys() | above.keys()
    assert {name: item.shape for name, item in combined.items()} == {
        name: item.shape for name, item in (below | above).items()
    }


def test_one_config_holds_both_parts_and_peft_builds_the_same_from_it(build, logits, stir, tmp_path):
    adapted = stir(CombinedAdapter(1, 2, dropout=0.1, **SIZES).apply(build("llama", "tokens")))
    expected = logits(adapted)
    save_adapter(adapted, tmp_path / "adapter")
    config = json.loads((tmp_path / "adapter" / "adapter_config.json").read_text())
    assert config["peft_type"] == "LEGION_COMBINED"
    assert (config["lora"]["r"], config["bottleneck"]["bottleneck_size"]) == (2, 6)
    assert config["lora"]["lora_dropout"] == config["bottleneck"]["dropout"] == 0.1
    with warnings.catch_warnings():
        # PEFT asks transformers for a property by its old name.
        warnings.filterwarnings("ignore", message="`is_gradient_checkpointing` is deprecated", category=FutureWarning)
        by_peft = peft.PeftModel.from_pretrained(build("llama", "tokens"), tmp_path / "adapter")
    by_peft.eval()
    assert torch.equal(logits(by_peft), expected)
    assert not any(weight.requires_grad for weight in by_peft.parameters())


@pytest.mark.parametrize("part", ["lora", "bottleneck"])
def test_a_config_that_differs_in_either_part_is_refused(build, stir, tmp_path, part):
    save_adapter(stir(CombinedAdapter(**SIZES).apply(build("bert"))), tmp_path / "adapter")
    path = tmp_path / "adapter" / "adapter_config.json"
    config = json.loads(path.read_text())
    config[part] |= {"lora": {"lora_alpha": 99.0}, "bottleneck": {"placement": "seq"}}[part]
    path.write_text(json.dumps(config))
    with pytest.raises(AdapterError, match="does not fit the adapter's record") as caught:
        load_adapter(build("bert"), tmp_path / "adapter")
    assert f"{part}: " in caught.value.cause


@pytest.mark.parametrize("ending", [".lora_B.weight", ".bottleneck_adapter.down"])
def test_a_part_that_was_never_trained_is_refused(build, stir, tmp_path, ending):
    adapted = stir(CombinedAdapter(**SIZES).apply(build("bert")))
    with torch.no_grad():
        name, weight = next((name, item) for name, item in own_tensors(adapted).items() if name.endswith(ending))
        weight.zero_()
    save_adapter(adapted, tmp_path / "adapter")
    assert name in load_file(tmp_path / "adapter" / "adapter_model.safetensors")
    with pytest.raises(AdapterError, match="never trained"):
        load_adapter(build("bert"), tmp_path / "adapter")


def test_a_boundary_that_leaves_no_block_above_is_refused_and_the_model_is_as_it_was(build, logits):
    model = build("bert")
    before = logits(model)
    with pytest.raises(AdapterError, match="boundary 3 leaves no block") as caught:
        CombinedAdapter(boundary=3).apply(model)
    assert caught.value.cause == "the model has blocks 0 to 2"
    assert torch.equal(logits(model), before)
    assert not hasattr(model, "peft_config")
    with pytest.raises(InvalidValueError, match="CombinedAdapter is not valid") as caught:
        CombinedAdapter(first_layer=2, boundary=2)
    assert "leaves no block below" in caught.value.cause


def test_what_only_one_part_refuses_is_refused(build):
    for adapter, said in (
        (CombinedAdapter(rank=500), "rank 500 exceeds"),
        (CombinedAdapter(target_modules=["nowhere"]), "no linear layer called 'nowhere'"),
        (CombinedAdapter(placement="seq_layer"), "takes no correction behind a whole block"),
    ):
        model = build("bert")
        with pytest.raises(AdapterError, match=said):
            adapter.apply(model)
        remove_adapter(LoRAAdapter(rank=2).apply(model))
