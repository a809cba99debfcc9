"""One LoRA folder, three readers, one change of the weights; and every adapter that must not become such a folder."""

from __future__ import annotations

import copy
import json
import math
import random
import re
import warnings

import pytest
import torch
from peft import (
    IA3Config,
    LoraConfig,
    OFTConfig,
    PeftModel,
    PrefixTuningConfig,
    VeraConfig,
    get_peft_model,
    save_as_lora,
)
from peft.tuners.lora import LoraLayer
from peft.utils.other import get_pattern_key
from safetensors.torch import load_file
from transformers import AutoModelForSequenceClassification, GPT2Config, GPT2LMHeadModel, LlamaConfig, LlamaForCausalLM

from legion.foundation import files
from legion.foundation.errors import AdapterError, NotPortableError
from legion.neuro_architecture.adapters import BottleneckAdapter, LoRAAdapter
from legion.neuro_architecture.portability.canonical_lora import canonical_lora
from legion.neuro_architecture.portability.deltas import weight_deltas
from legion.neuro_architecture.portability.lora_folder import write_canonical_lora
from legion.neuro_architecture.portability.lora_reading import read_lora_folder
from legion.neuro_architecture.portability.lora_rules import server_rank

# PEFT asks transformers for a property by its old name.
pytestmark = pytest.mark.filterwarnings("ignore:`is_gradient_checkpointing` is deprecated:FutureWarning")

NUM_CONFIGURATIONS = 500
LLAMA_NAMES = ("q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj")
GPT2_NAMES = ("attn.c_attn", "attn.c_proj", "mlp.c_fc", "mlp.c_proj")
IDS = torch.randint(5, 40, (2, 9), generator=torch.Generator().manual_seed(3))


def _llama(*, is_tied: bool = False):
    config = LlamaConfig(
        vocab_size=48,
        hidden_size=16,
        intermediate_size=24,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        tie_word_embeddings=is_tied,
    )
    return LlamaForCausalLM(config)


def _gpt2():
    return GPT2LMHeadModel(GPT2Config(vocab_size=48, n_embd=16, n_layer=2, n_head=4, n_positions=32))


@pytest.fixture(scope="module")
def bases():
    """Untied, tied, and with transposed weights; never changed by a test that gives them back."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(5)
        made = {"llama": _llama(), "tied": _llama(is_tied=True), "gpt2": _gpt2()}
        for model in made.values():
            with torch.no_grad():
                for weight in model.parameters():
                    weight.normal_(1.0 if weight.dim() == 1 else 0.0, 0.1)
            model.eval()
    return made


@pytest.fixture
def adapt(bases):
    """`adapt(family, config)`: a copy of a base with an adapter whose every weight was stirred."""

    def make(family: str, config, *, seed: int = 1, std: float = 0.1):
        return _adapted(copy.deepcopy(bases[family]), config, seed=seed, std=std).eval()

    return make


def _adapted(base, config, *, seed: int, std: float):
    """The base with an adapter that is the same in every run, whatever was drawn before."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return _stir(get_peft_model(base, config), seed=seed, std=std)


def _stir(model, *, seed: int, std: float):
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, weight in model.named_parameters():
            if weight.requires_grad and "base_layer" not in name:
                weight.add_(torch.randn(weight.shape, generator=generator) * std)
    return model


def _logits(model) -> torch.Tensor:
    with torch.no_grad():
        return model(input_ids=IDS).logits


def _peft_deltas(model) -> dict[str, torch.Tensor]:
    """What PEFT itself would add to each weight, as [out, in]."""
    return {
        name.removeprefix("base_model.model."): (
            layer.get_delta_weight("default").T if layer.fan_in_fan_out else layer.get_delta_weight("default")
        ).detach()
        for name, layer in model.named_modules()
        if isinstance(layer, LoraLayer)
    }


def _pairs(folder):
    config = json.loads((folder / "adapter_config.json").read_text())
    tensors = {
        name.removeprefix("base_model.model."): value
        for name, value in load_file(folder / "adapter_model.safetensors").items()
    }
    paths = [name.removesuffix(".lora_A.weight") for name in tensors if name.endswith(".lora_A.weight")]
    return config, {path: (tensors[f"{path}.lora_A.weight"], tensors[f"{path}.lora_B.weight"]) for path in paths}


def peft_deltas(folder) -> dict[str, torch.Tensor]:
    """PEFT's rule (peft/tuners/lora/layer.py): as vLLM's, but with the patterns that match a layer's path."""
    config, pairs = _pairs(folder)
    ranks, alphas = config["rank_pattern"], config["alpha_pattern"]
    deltas = {}
    for path, (A, B) in pairs.items():
        rank = ranks.get(get_pattern_key(ranks, path), config["r"])
        alpha = alphas.get(get_pattern_key(alphas, path), config["lora_alpha"])
        deltas[path] = alpha / (math.sqrt(rank) if config["use_rslora"] else rank) * (B @ A)
    return deltas


def vllm_deltas(folder) -> dict[str, torch.Tensor]:
    """vLLM's rule (vllm/lora/peft_helper.py): alpha / sqrt(r) with use_rslora, else alpha / r, of the config."""
    config, pairs = _pairs(folder)
    assert not config["rank_pattern"]
    assert not config["alpha_pattern"]
    scale = config["lora_alpha"] / (math.sqrt(config["r"]) if config["use_rslora"] else config["r"])
    return {path: scale * (B @ A) for path, (A, B) in pairs.items()}


def llama_cpp_deltas(folder) -> dict[str, torch.Tensor]:
    """llama.cpp's rule (src/llama-adapter.h): alpha / rank of the tensor; rsLoRA and patterns are never read."""
    config, pairs = _pairs(folder)
    return {path: config["lora_alpha"] / A.shape[0] * (B @ A) for path, (A, B) in pairs.items()}


def _draw_config(draw: random.Random) -> tuple[str, LoraConfig]:
    family = draw.choice(("llama", "tied", "gpt2"))
    names = GPT2_NAMES if family == "gpt2" else LLAMA_NAMES
    block = "transformer.h" if family == "gpt2" else "model.layers"
    layers = sorted(draw.sample(range(2), draw.randint(1, 2)))
    chosen = sorted(draw.sample(names, draw.randint(1, 3)))
    patterns = {f"{block.rpartition('.')[2]}.{layer}.*{re.escape(name)}": None for layer in layers for name in chosen}
    keys = list(patterns)
    config = LoraConfig(
        r=draw.choice((1, 2, 3, 4, 8)),
        lora_alpha=draw.choice((1, 4, 7, 16, 64)),
        lora_dropout=draw.choice((0.0, 0.1)),
        use_rslora=draw.random() < 0.5,
        rank_pattern={key: draw.choice((1, 2, 5, 6)) for key in keys if draw.random() < 0.3},
        alpha_pattern={key: draw.choice((2, 3, 32)) for key in keys if draw.random() < 0.3},
        target_modules=rf".*\.({'|'.join(map(str, layers))})\..*({'|'.join(map(re.escape, chosen))})",
        fan_in_fan_out=family == "gpt2",
        init_lora_weights=False,
        task_type="CAUSAL_LM",
    )
    return family, config


def _worst(deltas: dict[str, torch.Tensor], expected: dict[str, torch.Tensor]) -> float:
    """Largest difference of an entry, in parts of the largest entry of that layer's change."""
    assert deltas.keys() == expected.keys()
    return max(float((deltas[path] - expected[path]).abs().max() / expected[path].abs().max()) for path in expected)


def test_three_readers_agree_on_500_random_configurations(bases, tmp_path, monkeypatch):
    monkeypatch.setattr(files, "_fsync", lambda path: None)  # 500 folders need no disk behind them
    draw = random.Random(2024)
    worst = dict.fromkeys(("peft", "peft itself", "vllm", "llama.cpp", "values"), 0.0)
    trapped = 0
    for index in range(NUM_CONFIGURATIONS):
        family, config = _draw_config(draw)
        model = _adapted(bases[family], config, seed=index, std=0.3)
        trained = _peft_deltas(model)
        folder = tmp_path / "canonical"
        adapter = canonical_lora(model)
        write_canonical_lora(adapter, folder, "base")
        model.unload()
        read = {
            "peft": peft_deltas(folder),
            "vllm": vllm_deltas(folder),
            "llama.cpp": llama_cpp_deltas(folder),
            "values": {path: change.dense() for path, change in adapter.layers.items()},
        }
        if index % 20 == 0:
            reloaded = PeftModel.from_pretrained(bases[family], folder)
            read["peft itself"] = _peft_deltas(reloaded)
            reloaded.unload()
        for reader, deltas in read.items():
            worst[reader] = max(worst[reader], _worst(deltas, trained))
        trapped += config.use_rslora or bool(config.alpha_pattern)
    assert max(worst.values()) < 1e-6, worst
    assert trapped > NUM_CONFIGURATIONS / 2


def test_llama_cpp_reads_a_folder_that_is_not_canonical_wrongly(adapt, tmp_path):
    config = LoraConfig(
        r=4, lora_alpha=16, use_rslora=True, alpha_pattern={"v_proj": 64}, target_modules=["q_proj", "v_proj"]
    )
    model = adapt("llama", config)
    model.save_pretrained(tmp_path / "raw")
    write_canonical_lora(canonical_lora(model), tmp_path / "canonical")
    trained = _peft_deltas(model)
    assert _worst(llama_cpp_deltas(tmp_path / "raw"), trained) > 0.4
    assert _worst(llama_cpp_deltas(tmp_path / "canonical"), trained) < 1e-6


@pytest.mark.parametrize("family", ["llama", "tied", "gpt2"])
def test_folder_gives_stock_peft_the_trained_logits(adapt, bases, tmp_path, family):
    names = ["c_attn", "c_fc"] if family == "gpt2" else ["q_proj", "down_proj"]
    config = LoraConfig(r=3, lora_alpha=8, use_rslora=True, target_modules=names, fan_in_fan_out=family == "gpt2")
    model = adapt(family, config, std=0.5)
    write_canonical_lora(canonical_lora(model), tmp_path / "out", "base")
    stock = PeftModel.from_pretrained(copy.deepcopy(bases[family]), tmp_path / "out").eval()
    assert (_logits(model) - _logits(bases[family])).abs().max() > 0.1
    assert (_logits(stock) - _logits(model)).abs().max() < 1e-5


def test_config_is_the_plain_one_that_every_server_reads(adapt, tmp_path):
    config = LoraConfig(
        r=3,
        lora_alpha=8,
        target_modules=["q_proj", "v_proj"],
        rank_pattern={"0.self_attn.q_proj": 5},
        task_type="CAUSAL_LM",
    )
    write_canonical_lora(canonical_lora(adapt("llama", config)), tmp_path / "out", "the/base")
    written = json.loads((tmp_path / "out" / "adapter_config.json").read_text())
    expected = {
        "peft_type": "LORA",
        "task_type": "CAUSAL_LM",
        "r": 5,
        "lora_alpha": 5,
        "use_rslora": False,
        "use_dora": False,
        "rank_pattern": {},
        "alpha_pattern": {},
        "bias": "none",
        "lora_bias": False,
        "init_lora_weights": True,
        "modules_to_save": None,
        "layers_to_transform": None,
        "target_modules": ["q_proj", "v_proj"],
        "base_model_name_or_path": "the/base",
        "inference_mode": True,
        "auto_mapping": None,
    }
    assert {key: written[key] for key in expected} == expected
    assert {path.name for path in (tmp_path / "out").iterdir()} == {
        "adapter_config.json",
        "adapter_model.safetensors",
        "legion_lora.json",
    }


def test_layer_subset_is_named_by_paths(adapt, bases, tmp_path):
    config = LoraConfig(r=2, target_modules=["q_proj"], layers_to_transform=[1])
    adapter = canonical_lora(adapt("llama", config))
    assert adapter.target_modules == ("model.layers.1.self_attn.q_proj",)
    write_canonical_lora(adapter, tmp_path / "out")
    stock = PeftModel.from_pretrained(copy.deepcopy(bases["llama"]), tmp_path / "out")
    assert set(stock.base_model.targeted_module_names) == set(adapter.target_modules)


def test_same_adapter_is_written_byte_for_byte(adapt, tmp_path):
    adapter = canonical_lora(adapt("llama", LoraConfig(r=2, target_modules=list(LLAMA_NAMES))))
    for name in ("a", "b"):
        write_canonical_lora(adapter, tmp_path / name)
    config = json.loads((tmp_path / "a" / "adapter_config.json").read_text())
    assert config["target_modules"] == sorted(LLAMA_NAMES)
    for path in sorted((tmp_path / "a").iterdir()):
        assert path.read_bytes() == (tmp_path / "b" / path.name).read_bytes()


def test_own_lora_adapter_is_canonical_too(tiny_folders):
    model = AutoModelForSequenceClassification.from_pretrained(tiny_folders["bert"])
    adapted = _stir(
        LoRAAdapter(rank=4, target_modules=("query", "attention.output.dense")).apply(model), seed=2, std=0.2
    )
    adapter = canonical_lora(adapted)
    trained = _peft_deltas(adapted)
    assert adapter.rank == 4
    assert "bert.encoder.layer.0.attention.output.dense" in adapter.target_modules
    assert set(adapter.head) == {"classifier.weight", "classifier.bias"}
    assert _worst({path: change.dense() for path, change in adapter.layers.items()}, trained) < 1e-6


def test_dora_keeps_its_magnitude_where_save_as_lora_drops_it(adapt, bases, tmp_path):
    model = adapt("llama", LoraConfig(r=4, use_dora=True, target_modules=["q_proj", "v_proj"]), std=0.4)
    effect = (_logits(model) - _logits(bases["llama"])).abs().max()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # PEFT finds it odd to convert a LoRA
        save_as_lora(tmp_path / "theirs", model, rank=8)
    adapter = canonical_lora(model, rank=16)
    write_canonical_lora(adapter, tmp_path / "ours")
    error = {}
    for name in ("theirs", "ours"):
        stock = PeftModel.from_pretrained(copy.deepcopy(bases["llama"]), tmp_path / name).eval()
        error[name] = (_logits(stock) - _logits(model)).abs().max() / effect
    assert error["theirs"] > 0.1
    assert error["ours"] < 1e-5
    assert adapter.residual.relative < 1e-6


def test_decomposition_states_the_error_of_every_layer(adapt):
    model = adapt("llama", LoraConfig(r=4, use_dora=True, target_modules=["q_proj", "v_proj"]), std=0.4)
    deltas = weight_deltas(model)
    adapter = canonical_lora(model, rank=3)
    assert adapter.rank == 3
    assert adapter.residuals.keys() == adapter.layers.keys() == deltas.keys()
    for path, residual in adapter.residuals.items():
        singular = torch.linalg.svdvals(deltas[path].dense().double())
        assert residual.absolute == pytest.approx(float(singular[3:].norm()), rel=1e-5)
        assert residual.whole == pytest.approx(float(singular.norm()), rel=1e-5)
        missing = (adapter.layers[path].dense() - deltas[path].dense()).norm()
        assert residual.absolute == pytest.approx(float(missing), rel=1e-4)
    assert 0.0 < adapter.residual.relative < 1.0


@pytest.mark.parametrize("std", [0.3, 1e-4])
def test_low_rank_method_is_exact_at_its_true_rank(adapt, std):
    """However small the change is beside the base: the base's rounding is no part of it."""
    config = VeraConfig(r=5, d_initial=0.0, target_modules=["q_proj"])
    adapter = canonical_lora(adapt("llama", config, std=std))
    assert adapter.rank == 5
    assert adapter.residual.relative < 1e-6


@pytest.mark.parametrize("family", ["llama", "gpt2"])
def test_dense_change_is_given_as_out_in(adapt, bases, family):
    name = "c_fc" if family == "gpt2" else "down_proj"
    model = adapt(family, LoraConfig(r=4, use_dora=True, target_modules=[name], fan_in_fan_out=family == "gpt2"))
    deltas = weight_deltas(model)
    merged = copy.deepcopy(bases[family])
    with torch.no_grad():
        for path, delta in deltas.items():
            assert delta.is_transposed == (family == "gpt2")
            assert delta.dense().shape == ((64, 16) if family == "gpt2" else (16, 24))
            merged.get_submodule(path).weight.add_(delta.as_stored())
    assert (_logits(model) - _logits(bases[family])).abs().max() > 1e-3
    assert (_logits(merged) - _logits(model)).abs().max() < 1e-5


def test_orthogonal_method_is_cut_to_the_servers_rank(adapt):
    model = adapt("llama", OFTConfig(r=0, oft_block_size=4, target_modules=["q_proj"]))
    adapter = canonical_lora(model, max_rank=8)
    assert adapter.rank == 8
    assert 0.0 < adapter.residual.relative < 1.0


@pytest.mark.parametrize("init", ["pissa", "olora"])
def test_altering_init_is_taken_against_the_original_base(bases, tmp_path, init):
    original = bases["llama"]
    config = LoraConfig(r=3, lora_alpha=6, init_lora_weights=init, target_modules=["q_proj", "down_proj"])
    model = _adapted(copy.deepcopy(original), config, seed=4, std=0.2).eval()
    with pytest.raises(AdapterError, match="changed the base"):
        canonical_lora(model)
    adapter = canonical_lora(model, original=original)
    assert adapter.rank <= 6
    write_canonical_lora(adapter, tmp_path / "out")
    stock = PeftModel.from_pretrained(copy.deepcopy(original), tmp_path / "out").eval()
    assert (_logits(model) - _logits(original)).abs().max() > 0.1
    assert (_logits(stock) - _logits(model)).abs().max() < 1e-5


def test_bias_that_a_lora_cannot_carry_is_refused_with_the_remedy(adapt):
    lora_bias = adapt("gpt2", LoraConfig(r=2, lora_bias=True, target_modules=["c_fc"], fan_in_fan_out=True))
    scaled = adapt("gpt2", IA3Config(target_modules=["c_fc"], feedforward_modules=[], fan_in_fan_out=True))
    trained = adapt("gpt2", LoraConfig(r=2, bias="lora_only", target_modules=["c_fc"], fan_in_fan_out=True))
    for model in (lora_bias, scaled, trained):
        with pytest.raises(NotPortableError, match="bias") as caught:
            canonical_lora(model)
        assert "merge" in str(caught.value.hint)


@pytest.mark.parametrize(("family", "name"), [("llama", "lm_head"), ("llama", "embed_tokens"), ("gpt2", "wte")])
def test_embeddings_and_lm_head_never_travel(adapt, family, name):
    model = adapt(family, LoraConfig(r=2, target_modules=[name]))
    with pytest.raises(NotPortableError, match=rf"{name}\.weight"):
        canonical_lora(model)


def test_module_trained_whole_is_named(adapt):
    model = adapt("llama", LoraConfig(r=2, target_modules=["q_proj"], modules_to_save=["input_layernorm"]))
    with pytest.raises(NotPortableError, match=r"layers\.0\.input_layernorm\.weight"):
        canonical_lora(model)


def test_rank_above_the_servers_maximum_names_both(adapt):
    model = adapt("llama", LoraConfig(r=12, target_modules=["q_proj"]))
    with pytest.raises(NotPortableError, match="rank 12 is above the server's maximum of 8"):
        canonical_lora(model, max_rank=8)
    with pytest.raises(NotPortableError, match="rank 16 is above the server's maximum of 8"):
        canonical_lora(model, rank=16, max_rank=8)
    assert canonical_lora(model, rank=8, max_rank=8).rank == 8


def test_server_rank_is_one_that_vllm_takes():
    assert [server_rank(rank) for rank in (1, 2, 8, 9, 33, 257, 400, 512)] == [1, 8, 8, 16, 64, 320, 512, 512]
    with pytest.raises(NotPortableError, match="rank 513 is above the server's maximum of 512"):
        server_rank(513)


@pytest.mark.parametrize("kind", ["lora", "dora"])
def test_nan_is_named(adapt, kind):
    model = adapt("llama", LoraConfig(r=2, use_dora=kind == "dora", target_modules=["q_proj"]))
    with torch.no_grad():
        model.get_base_model().model.layers[1].self_attn.q_proj.lora_B["default"].weight[0, 0] = math.nan
    with pytest.raises(AdapterError, match=r"layers\.1\.self_attn\.q_proj\.lora_B"):
        canonical_lora(model)


def test_what_changes_no_weight_is_not_portable(adapt, tiny_folders):
    with pytest.raises(NotPortableError, match="changes no weight"):
        canonical_lora(adapt("llama", PrefixTuningConfig(num_virtual_tokens=3, task_type="CAUSAL_LM")))
    model = AutoModelForSequenceClassification.from_pretrained(tiny_folders["bert"])
    with pytest.raises(NotPortableError, match="no change of a weight"):
        canonical_lora(BottleneckAdapter(bottleneck_size=4).apply(model))


def test_model_stays_as_it_is(adapt):
    model = adapt("llama", LoraConfig(r=2, use_dora=True, target_modules=["q_proj"]))
    before = {name: weight.clone() for name, weight in model.state_dict().items()}
    canonical_lora(model)
    assert all(torch.equal(weight, before[name]) for name, weight in model.state_dict().items())


@pytest.mark.parametrize("family", ["llama", "gpt2"])
def test_plain_folder_of_peft_is_read_by_its_own_rule(adapt, tmp_path, family):
    names = ["c_attn", "c_fc"] if family == "gpt2" else ["q_proj", "down_proj"]
    config = LoraConfig(
        r=3,
        lora_alpha=8,
        use_rslora=True,
        rank_pattern={"1.*": 5},
        alpha_pattern={names[0]: 2},
        target_modules=names,
        fan_in_fan_out=family == "gpt2",
    )
    model = adapt(family, config)
    model.save_pretrained(tmp_path / "raw")
    adapter = read_lora_folder(tmp_path / "raw")
    assert adapter.rank == 5
    assert adapter.fan_in_fan_out == (family == "gpt2")
    assert _worst({path: change.dense() for path, change in adapter.layers.items()}, _peft_deltas(model)) < 1e-6


def test_canonical_folder_is_read_back_whole(adapt, tmp_path):
    adapter = canonical_lora(adapt("llama", LoraConfig(r=3, target_modules=["q_proj", "up_proj"])))
    write_canonical_lora(adapter, tmp_path / "out", "the/base")
    back = read_lora_folder(tmp_path / "out")
    assert back.target_modules == adapter.target_modules
    assert all(torch.equal(back.layers[path].A, change.A) for path, change in adapter.layers.items())
    assert all(torch.equal(back.layers[path].B, change.B) for path, change in adapter.layers.items())


@pytest.mark.parametrize(
    ("config", "word"),
    [
        (LoraConfig(r=2, use_dora=True, target_modules=["q_proj"]), "use_dora"),
        (LoraConfig(r=2, init_lora_weights="pissa", target_modules=["q_proj"]), "pissa"),
        (OFTConfig(r=0, oft_block_size=4, target_modules=["q_proj"]), "OFT"),
    ],
    ids=["dora", "pissa", "oft"],
)
def test_folder_whose_files_do_not_tell_the_change_asks_for_the_base(adapt, tmp_path, config, word):
    adapt("llama", config).save_pretrained(tmp_path / "raw")
    with pytest.raises(NotPortableError, match=word) as caught:
        read_lora_folder(tmp_path / "raw")
    assert "--base" in str(caught.value.hint)


def _save(adapt, folder, **fields):
    adapt("llama", LoraConfig(r=2, target_modules=["q_proj"], **fields)).save_pretrained(folder)
    return folder


def _rewrite(folder, change):
    from safetensors.torch import save_file

    tensors = load_file(folder / "adapter_model.safetensors")
    change(tensors)
    save_file(tensors, folder / "adapter_model.safetensors")


FIRST_B = "base_model.model.model.layers.0.self_attn.q_proj.lora_B.weight"
DAMAGES = {
    "truncated": (lambda folder: (folder / "adapter_model.safetensors").write_bytes(b"\x08"), "damaged"),
    "no weights": (lambda folder: (folder / "adapter_model.safetensors").unlink(), "lacks adapter_model"),
    "no config": (lambda folder: (folder / "adapter_config.json").unlink(), "lacks adapter_config"),
    "no JSON": (lambda folder: (folder / "adapter_config.json").write_text("{"), "cannot read"),
    "missing B": (lambda folder: _rewrite(folder, lambda tensors: tensors.pop(FIRST_B)), "fits together"),
    "NaN": (lambda folder: _rewrite(folder, lambda tensors: tensors[FIRST_B].fill_(math.nan)), "NaN"),
    "rank": (
        lambda folder: _rewrite(folder, lambda tensors: tensors.update({FIRST_B: torch.ones(16, 3)})),
        "fits together",
    ),
}


@pytest.mark.parametrize("damage", sorted(DAMAGES))
def test_damaged_folder_is_refused(adapt, tmp_path, damage):
    folder = _save(adapt, tmp_path / "raw")
    spoil, message = DAMAGES[damage]
    spoil(folder)
    with pytest.raises(AdapterError, match=message):
        read_lora_folder(folder)


def test_changed_weights_do_not_pass_under_an_old_record(adapt, tmp_path):
    folder = tmp_path / "out"
    write_canonical_lora(canonical_lora(adapt("llama", LoraConfig(r=2, target_modules=["q_proj"]))), folder)
    _rewrite(folder, lambda tensors: tensors[FIRST_B].add_(1.0))
    with pytest.raises(AdapterError, match="not what its record names"):
        read_lora_folder(folder)


def test_lora_on_lm_head_is_refused_when_read(adapt, tmp_path):
    model = adapt("llama", LoraConfig(r=2, target_modules=["lm_head"]))
    model.save_pretrained(tmp_path / "raw", save_embedding_layers=False)
    with pytest.raises(NotPortableError, match=r"lm_head\.weight"):
        read_lora_folder(tmp_path / "raw")
