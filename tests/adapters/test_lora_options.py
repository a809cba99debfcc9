"""rsLoRA, DoRA and patterns: the same numbers as stock PEFT's, and patterns that mean nothing refused."""

from __future__ import annotations

import json
import math

import peft
import pytest
import torch

from legion.foundation.errors import AdapterError, InvalidValueError
from legion.neuro_architecture.adapters import LoRAAdapter, load_adapter, save_adapter, trainable_parameters
from legion.neuro_architecture.adapters.saving import adapter_tensors
from legion.neuro_architecture.adapters.targets import rank_at
from legion.neuro_architecture.spec.architecture import LoRAArchitecture

OPTIONS = {
    "rslora": {"use_rslora": True},
    "dora": {"use_dora": True},
    "dora-rslora": {"use_dora": True, "use_rslora": True},
    "ranks": {"rank_pattern": {r"0\..*": 2, "q_proj|query|c_attn": 6}},
    "alphas": {"alpha_pattern": {r"1\..*": 3.0}, "use_rslora": True, "rank_pattern": {r"2\..*": 1}},
}


@pytest.mark.filterwarnings("ignore:`is_gradient_checkpointing` is deprecated:FutureWarning")  # asked for by peft
@pytest.mark.parametrize("options", OPTIONS.values(), ids=OPTIONS)
def test_options_mean_what_they_mean_in_peft(build, logits, stir, case, options):
    family, task = case
    adapted = stir(LoRAAdapter(rank=4, alpha=6, **options).apply(build(*case)))
    config = peft.LoraConfig(
        r=4,
        lora_alpha=6,
        target_modules=[path.split(".", 1)[1] for path in sorted(adapted.base_model.targeted_module_names)],
        fan_in_fan_out=family == "gpt2",
        task_type="CAUSAL_LM" if task == "tokens" else "SEQ_CLS",
        **options,
    )
    stock = peft.get_peft_model(build(*case), config).eval()
    assert not peft.set_peft_model_state_dict(stock, adapter_tensors(adapted)).unexpected_keys
    assert (logits(adapted) - logits(build(*case))).abs().max() > 1e-2
    assert torch.equal(logits(adapted), logits(stock))


def test_rslora_scales_by_the_root_of_the_rank(build):
    adapted = LoRAAdapter(rank=4, alpha=6, use_rslora=True, rank_pattern={"down_proj": 9}).apply(build("llama"))
    layer = adapted.get_submodule("base_model.model.model.layers.0.mlp")
    assert layer.up_proj.scaling["default"] == pytest.approx(6 / math.sqrt(4))
    assert layer.down_proj.scaling["default"] == pytest.approx(6 / math.sqrt(9))


def test_trained_magnitudes_come_back(build, stir, tmp_path):
    adapted = stir(LoRAAdapter(rank=2, use_dora=True).apply(build("llama")))
    magnitudes = [name for name in trainable_parameters(adapted) if "lora_magnitude_vector" in name]
    assert len(magnitudes) == 3 * 7
    save_adapter(adapted, tmp_path / "adapter")
    loaded = trainable_parameters(load_adapter(build("llama"), tmp_path / "adapter"))
    assert all(torch.equal(loaded[name], weight) for name, weight in trainable_parameters(adapted).items())


def test_alphabetically_first_pattern_holds_whatever_the_order(build, tmp_path):
    patterns = {"q_proj": 2, "1.self_attn.q_proj": 3}
    for ordered in (patterns, dict(reversed(patterns.items()))):
        architecture = LoRAArchitecture(rank=4, rank_pattern=ordered)
        adapted = LoRAAdapter(rank=4, rank_pattern=ordered).apply(build("llama"))
        layers = adapted.base_model.model.model.layers
        assert [layer.self_attn.q_proj.r["default"] for layer in layers] == [2, 3, 2]
        assert rank_at(architecture, "model.layers.1.self_attn.q_proj") == 3
        assert rank_at(architecture, "model.layers.10.self_attn.q_proj") == 2
        assert rank_at(architecture, "model.layers.1.self_attn.k_proj") == 4
    save_adapter(adapted, tmp_path / "adapter")
    stored = json.loads((tmp_path / "adapter" / "adapter_config.json").read_text())["rank_pattern"]
    assert list(stored.items()) == [("1.self_attn.q_proj", 3), ("q_proj", 2)]


@pytest.mark.parametrize("kind", ["rank_pattern", "alpha_pattern"])
@pytest.mark.parametrize("pattern", ["query", "proj", "2.self_attn.q_proj"])
def test_pattern_that_fits_no_adapted_layer_is_refused(build, kind, pattern):
    model = build("llama")
    with pytest.raises(AdapterError, match="fits none of the adapted layers"):
        LoRAAdapter(layers=[0, 1], **{kind: {pattern: 4}}).apply(model)
    LoRAAdapter().apply(model)


def test_pattern_that_is_no_expression_is_refused(build):
    with pytest.raises(AdapterError, match="no regular expression"):
        LoRAAdapter(rank_pattern={"q_proj(": 4}).apply(build("llama"))


def test_rank_of_a_pattern_above_a_width_is_refused(build):
    with pytest.raises(AdapterError, match=r"rank 17 exceeds the width of model\.layers\.0\.self_attn\.k_proj"):
        LoRAAdapter(rank=4, rank_pattern={"k_proj": 17}).apply(build("llama"))
    LoRAAdapter(rank=17, rank_pattern={"k_proj": 4, "v_proj": 4}).apply(build("llama"))


def test_wrong_patterns_are_listed():
    with pytest.raises(InvalidValueError) as caught:
        LoRAAdapter(rank_pattern={"q_proj": 0}, alpha_pattern={"q_proj": -1.0})
    assert "rank_pattern.q_proj" in caught.value.cause
    assert "alpha_pattern.q_proj" in caught.value.cause
