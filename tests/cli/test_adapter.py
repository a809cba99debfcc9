"""`legion adapter`: folders in, one folder out, rank and error said, nothing half-written."""

from __future__ import annotations

import copy
import json

import pytest
import torch
from peft import IA3Config, LoraConfig, PeftModel, get_peft_model
from peft.tuners.lora import LoraGAConfig, preprocess_loraga
from safetensors.torch import load_file, save_file
from transformers import AutoModelForCausalLM

from legion.cli.app import _run
from legion.neuro_architecture.adapters import BottleneckAdapter, LoRAAdapter, save_adapter
from legion.neuro_architecture.data.base_models import resolve_base
from legion.neuro_architecture.portability.lora_folder import LORA_RECORD_NAME
from legion.neuro_architecture.spec.task import TaskSpec
from legion.testing import tiny_model

# PEFT asks transformers for a property by its old name.
pytestmark = pytest.mark.filterwarnings("ignore:`is_gradient_checkpointing` is deprecated:FutureWarning")

IDS = torch.arange(5, 17)[None]
WEIGHTS = "adapter_model.safetensors"


@pytest.fixture
def legion(settings, capsys):
    """Runs a command line in this process; gives exit code, stdout, stderr."""

    def run(*arguments: str) -> tuple[int, str, str]:
        capsys.readouterr()
        code = _run([str(argument) for argument in arguments], "legion")
        out, err = capsys.readouterr()
        assert "Traceback" not in err
        return code, out, err

    return run


@pytest.fixture
def bare(tiny_folders):
    return AutoModelForCausalLM.from_pretrained(tiny_folders["llama"]).eval()


@pytest.fixture
def save(bare, settings):
    """`save(name, config)`: a stock PEFT folder of a stirred adapter, and the logits that it gives."""

    def make(name: str, config, seed: int = 1) -> torch.Tensor:
        model = get_peft_model(copy.deepcopy(bare), config).eval()
        _stir(model, seed)
        model.save_pretrained(settings.workspace / name)
        return _logits(model)

    return make


def _stir(model, seed: int) -> None:
    draw = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for weight in model.parameters():
            if weight.requires_grad:
                weight.add_(torch.randn(weight.shape, generator=draw) * 0.2)


def _logits(model) -> torch.Tensor:
    with torch.no_grad():
        return model(input_ids=IDS).logits


def _lora(**fields) -> LoraConfig:
    return LoraConfig(target_modules=["q_proj", "down_proj"], task_type="CAUSAL_LM", **fields)


def _with_adapter(bare, folder) -> torch.Tensor:
    return _logits(PeftModel.from_pretrained(copy.deepcopy(bare), folder).eval())


def test_canonical_gives_every_reader_the_trained_logits(legion, save, bare, settings):
    trained = save("raw", _lora(r=3, lora_alpha=16, use_rslora=True))
    code, out, _ = legion("adapter", "canonical", "raw", "-o", "out")
    assert code == 0
    assert "rank 3 on 6 layers" in out
    assert "exact" in out
    config = json.loads((settings.workspace / "out" / "adapter_config.json").read_text())
    assert (config["r"], config["lora_alpha"], config["use_rslora"]) == (3, 3, False)
    assert (_with_adapter(bare, settings.workspace / "out") - trained).abs().max() < 1e-5


def test_what_is_added_is_subtracted_again(legion, save, bare, settings):
    first = save("a", _lora(r=3))
    second = save("b", _lora(r=2), seed=2)
    assert legion("adapter", "add", "a", "b", "-o", "both")[0] == 0
    code, out, _ = legion("adapter", "subtract", "both", "b", "-o", "again", "--format", "json")
    assert code == 0
    assert json.loads(out)["rank"] == 7
    code, out, _ = legion("adapter", "rerank", "again", "--rank", "3", "-o", "small", "--format", "json")
    assert code == 0
    assert json.loads(out)["relative_error"] < 1e-6
    assert (first - second).abs().max() > 0.1
    assert (_with_adapter(bare, settings.workspace / "small") - first).abs().max() < 1e-5


def test_average_of_one_adapter_with_itself_is_itself(legion, save, bare, settings):
    trained = save("a", _lora(r=3))
    assert legion("adapter", "average", "a", "a", "a", "-o", "mean")[0] == 0
    assert (_with_adapter(bare, settings.workspace / "mean") - trained).abs().max() < 1e-5


def test_rerank_says_what_it_leaves_out(legion, save, settings):
    save("a", _lora(r=6))
    code, out, _ = legion("adapter", "rerank", "a", "--rank", "2", "-o", "cut")
    assert code == 0
    assert "left out" in out
    record = json.loads((settings.workspace / "cut" / LORA_RECORD_NAME).read_text())
    assert record["rank"] == 2
    assert 0.0 < record["relative_error"] < 1.0
    assert len(record["layer_errors"]) == 6


@pytest.mark.parametrize(
    "fields", [{"use_dora": True}, {"init_lora_weights": "pissa"}, {"init_lora_weights": "olora"}], ids=str
)
def test_what_the_files_do_not_tell_is_read_off_the_base(legion, save, bare, settings, tiny_folders, fields):
    trained = save("raw", _lora(r=3, **fields))
    code, _, err = legion("adapter", "canonical", "raw", "-o", "out")
    assert code == 1
    assert "--base" in err
    code, out, _ = legion(
        "adapter", "canonical", "raw", "--base", tiny_folders["llama"], "-o", "out", "--format", "json"
    )
    assert code == 0
    assert json.loads(out)["relative_error"] < 1e-5
    assert (_with_adapter(bare, settings.workspace / "out") - trained).abs().max() < 1e-5


@pytest.mark.filterwarnings("ignore:Full backward hook is firing:UserWarning")  # PEFT hooks layers behind no gradient
def test_a_start_that_no_folder_keeps_is_refused_on_any_base(legion, bare, settings, tiny_folders):
    """LoRA-GA takes a product drawn from gradients off the base: on the original one, its folder is another adapter."""
    config = _lora(r=2, init_lora_weights="lora_ga", lora_ga_config=LoraGAConfig())
    model = copy.deepcopy(bare)

    def step() -> None:
        model(input_ids=IDS, labels=IDS).loss.backward()

    preprocess_loraga(model, config, step)
    trained = get_peft_model(model, config)
    trained.save_pretrained(settings.workspace / "raw")
    by_stock_peft = _with_adapter(bare, settings.workspace / "raw")
    assert (by_stock_peft - _logits(trained)).abs().max() > 1e-4
    for command in ("canonical", "merge"):
        code, _, err = legion("adapter", command, "raw", "--base", tiny_folders["llama"], "-o", "out")
        assert code == 1
        assert "init_lora_weights=lora_ga changed the base's weights" in err
    assert not (settings.workspace / "out").exists()


def test_merge_writes_a_stock_checkpoint(legion, save, bare, settings, tiny_folders):
    for name, config in (
        ("lora", _lora(r=3, use_dora=True)),
        ("ia3", IA3Config(target_modules=["q_proj", "down_proj"], feedforward_modules=["down_proj"])),
    ):
        trained = save(name, config)
        code, out, _ = legion("adapter", "merge", name, "--base", tiny_folders["llama"], "-o", f"merged-{name}")
        assert code == 0
        assert "LlamaForCausalLM" in out
        merged = AutoModelForCausalLM.from_pretrained(settings.workspace / f"merged-{name}").eval()
        assert (trained - _logits(bare)).abs().max() > 0.02
        assert (_logits(merged) - trained).abs().max() < 1e-5


def test_own_folders_remember_their_base(legion, settings, tiny_folders, tmp_path):
    for name, family, folder in (("a", "llama", tiny_folders["llama"]), ("b", "llama", tmp_path / "other")):
        if not folder.exists():
            tiny_model(folder, family, seed=9)
        base = resolve_base(str(folder), settings)
        model = LoRAAdapter(rank=2, target_modules=("q_proj",)).apply(
            base.load(TaskSpec(name="t", kind="summarization"))
        )
        _stir(model, 3)
        save_adapter(model, settings.workspace / name, base=base.reference)
    assert legion("adapter", "canonical", "a", "-o", "canonical-a")[0] == 0
    code, _, err = legion("adapter", "add", "canonical-a", "b", "-o", "both")
    assert code == 2
    assert "different bases" in err
    code, _, err = legion("adapter", "canonical", "canonical-a", "--base", tmp_path / "other", "-o", "wrong")
    assert code == 2
    assert "not made for" in err
    assert not (settings.workspace / "both").exists()
    assert legion("adapter", "canonical", "a", "--base", tiny_folders["llama"], "-o", "right")[0] == 0
    same = [load_file(settings.workspace / name / WEIGHTS) for name in ("right", "canonical-a")]
    assert all(torch.equal(tensor, same[1][name]) for name, tensor in same[0].items())


def test_bottleneck_is_no_lora(legion, settings, tiny_folders):
    base = resolve_base(str(tiny_folders["llama"]), settings)
    model = BottleneckAdapter(bottleneck_size=4).apply(base.load(TaskSpec(name="t", kind="summarization")))
    _stir(model, 3)
    save_adapter(model, settings.workspace / "a", base=base.reference)
    for more in ((), ("--base", tiny_folders["llama"])):
        code, _, err = legion("adapter", "canonical", "a", *more, "-o", "out")
        assert code == 1
        assert "LGN-403" in err


def test_stock_folder_with_a_tensor_too_few_is_refused_on_its_base(legion, save, settings, tiny_folders):
    save("a", _lora(r=2, use_dora=True))
    tensors = load_file(settings.workspace / "a" / WEIGHTS)
    lost = next(name for name in tensors if "magnitude" in name)
    del tensors[lost]
    save_file(tensors, settings.workspace / "a" / WEIGHTS)
    code, _, err = legion("adapter", "canonical", "a", "--base", tiny_folders["llama"], "-o", "out")
    assert code == 2
    assert f"missing tensor {lost}" in err


def test_rank_above_the_maximum_names_both(legion, save):
    save("a", _lora(r=12))
    code, _, err = legion("adapter", "canonical", "a", "--max-rank", "8", "-o", "out")
    assert code == 1
    assert "rank 12 is above the server's maximum of 8" in err


def test_existing_folder_is_never_replaced(legion, save, settings):
    save("a", _lora(r=2))
    before = (settings.workspace / "a" / WEIGHTS).read_bytes()
    code, _, err = legion("adapter", "rerank", "a", "--rank", "1", "-o", "a")
    assert code == 2
    assert "exists already" in err
    assert (settings.workspace / "a" / WEIGHTS).read_bytes() == before
