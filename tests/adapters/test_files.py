"""An adapter folder gives back exactly what was saved, and nothing is believed that could be wrong."""

from __future__ import annotations

import json
import shutil

import peft
import pytest
import torch
from safetensors.torch import load_file, save_file

from legion.foundation.canonical import digest_file
from legion.foundation.errors import AdapterError
from legion.neuro_architecture.adapters import (
    AdapterRecord,
    BottleneckAdapter,
    LoRAAdapter,
    MoEAdapter,
    PeftAdapter,
    SplitAdapter,
    load_adapter,
    save_adapter,
)
from legion.neuro_architecture.adapters.peft_methods import without_compiling
from legion.neuro_architecture.spec.proposal import BaseReference

BASE = BaseReference(name="tiny", digest="sha256:" + "1" * 64, model_type="bert")
OTHER = BaseReference(name="other", digest="sha256:" + "2" * 64, model_type="bert")
WEIGHTS = "adapter_model.safetensors"

LORA = LoRAAdapter(rank=4, alpha=32, dropout=0.1)
MOE = MoEAdapter(4, 2, bottleneck_size=4)
LORA_B = "base_model.model.bert.encoder.layer.1.attention.self.query.lora_B.weight"
# Nothing in a prompt's or prefix's tensor tells whether it was trained.
SILENT = {"prompt", "prefix"}


@pytest.fixture
def saved(build, stir, home, adapter, tmp_path):
    """A trained adapter of each kind, saved."""
    folder = tmp_path / "adapter"
    save_adapter(stir(adapter.apply(build(*home))), folder, base=BASE)
    return folder


@pytest.fixture
def saved_lora(build, stir, tmp_path):
    folder = tmp_path / "adapter"
    save_adapter(stir(LORA.apply(build("bert"))), folder, base=BASE)
    return folder


def some_tensor(folder) -> str:
    """One of the adapter's own tensors."""
    names = (name for name in sorted(load_file(folder / WEIGHTS)) if "classifier" not in name and "score" not in name)
    return next(names)


def rewrite(folder, change) -> None:
    """Changes the tensors and makes the record fit them."""
    tensors = load_file(folder / WEIGHTS)
    change(tensors)
    save_file(tensors, folder / WEIGHTS)
    record = json.loads((folder / "legion_adapter.json").read_text())
    record["weights_digest"] = digest_file(folder / WEIGHTS)
    (folder / "legion_adapter.json").write_text(json.dumps(record))


def refused(build, logits, folder, match: str, case=("bert", "labels"), **options) -> AdapterError:
    """The refusal of a folder; the model is as it was."""
    model = build(*case)
    before = logits(model)
    with pytest.raises(AdapterError, match=match) as caught:
        load_adapter(model, folder, **options)
    assert torch.equal(logits(model), before)
    assert not any(isinstance(module, peft.utils.ModulesToSaveWrapper) for module in model.modules())
    return caught.value


def test_reloaded_adapter_differs_by_nothing(build, logits, stir, case, adapter, tmp_path):
    adapted = stir(adapter.apply(build(*case)))
    save_adapter(adapted, tmp_path / "adapter")
    loaded = load_adapter(build(*case), tmp_path / "adapter")
    assert (logits(loaded) - logits(adapted)).abs().max().item() == 0.0
    assert not torch.equal(logits(loaded), logits(build(*case)))


def test_folder_says_what_it_is(saved, adapter):
    assert sorted(path.name for path in saved.iterdir()) == ["adapter_config.json", WEIGHTS, "legion_adapter.json"]
    record = AdapterRecord.parse(json.loads((saved / "legion_adapter.json").read_text()), what="record")
    assert record.architecture == adapter.architecture
    assert record.base == BASE
    assert record.weights_digest == digest_file(saved / WEIGHTS)


def test_weights_can_be_read_by_a_server_that_runs_as_another_user(saved):
    assert (saved / WEIGHTS).stat().st_mode & 0o044 == 0o044


def test_same_weights_have_the_same_digest(build, stir, home, adapter, tmp_path):
    digests = {save_adapter(stir(adapter.apply(build(*home))), tmp_path / folder, base=BASE) for folder in ("a", "b")}
    assert len(digests) == 1
    assert digests != {save_adapter(stir(adapter.apply(build(*home)), seed=12), tmp_path / "c")}


def test_saving_replaces_an_older_folder(build, logits, stir, tmp_path):
    adapted = LORA.apply(build("bert"))
    save_adapter(stir(adapted, seed=1), tmp_path / "adapter")
    save_adapter(stir(adapted, seed=2), tmp_path / "adapter")
    assert torch.equal(logits(load_adapter(build("bert"), tmp_path / "adapter")), logits(adapted))
    assert [path.name for path in tmp_path.iterdir()] == ["adapter"]


def test_loaded_adapter_can_be_saved_again(build, home, saved, tmp_path):
    digest = save_adapter(load_adapter(build(*home), saved, base=BASE), tmp_path / "again", base=BASE)
    assert digest == digest_file(saved / WEIGHTS)


def test_adapter_moves_to_another_dtype(build, batch, home, saved):
    loaded = load_adapter(build(*home).to(torch.bfloat16), saved)
    assert loaded(**batch).logits.isfinite().all()


@pytest.mark.filterwarnings("ignore:`is_gradient_checkpointing` is deprecated:FutureWarning")  # asked for by peft
@pytest.mark.filterwarnings("ignore:Found missing adapter keys.*randlora_A")  # one pair for all layers is stored once
def test_stock_peft_loads_the_folder(build, logits, stir, name, case, adapter, tmp_path):
    adapted = stir(adapter.apply(build(*case)))
    save_adapter(adapted, tmp_path / "adapter")
    with without_compiling():
        stock = peft.PeftModel.from_pretrained(build(*case), tmp_path / "adapter").eval()
    num_in_front = 4 if name == "prompt" else 0
    assert (logits(stock)[:, num_in_front:] - logits(adapted)).abs().max().item() == 0.0


def test_missing_tensor_is_named(build, logits, home, saved):
    key = some_tensor(saved)
    rewrite(saved, lambda tensors: tensors.pop(key))
    assert key in refused(build, logits, saved, "missing tensor", home).cause


def test_missing_head_is_named(build, logits, saved_lora):
    rewrite(saved_lora, lambda tensors: tensors.pop("base_model.model.classifier.weight"))
    refused(build, logits, saved_lora, r"missing tensor base_model\.model\.classifier\.weight")


def test_unexpected_tensor_is_named(build, logits, home, saved):
    rewrite(saved, lambda tensors: tensors.update({"base_model.model.stray": torch.ones(2)}))
    refused(build, logits, saved, r"unexpected tensor base_model\.model\.stray", home)


def test_wrong_shape_is_named(build, logits, home, saved):
    key = some_tensor(saved)
    rewrite(saved, lambda tensors: tensors.update({key: torch.ones(3, 2, 1)}))
    assert key in refused(build, logits, saved, "has shape", home).message


def test_number_that_is_none_is_named(build, logits, home, saved):
    key = some_tensor(saved)
    rewrite(saved, lambda tensors: tensors[key].view(-1)[-1:].fill_(float("nan")))
    assert key in refused(build, logits, saved, "NaN or infinity", home).message


@pytest.mark.parametrize("value", [float("inf"), float("-inf")])
def test_infinity_is_named(build, logits, saved_lora, value):
    rewrite(saved_lora, lambda tensors: tensors[LORA_B].view(-1)[3:4].fill_(value))
    assert LORA_B in refused(build, logits, saved_lora, "NaN or infinity").message


def test_untrained_adapter_is_refused(build, logits, name, home, adapter, tmp_path):
    save_adapter(adapter.apply(build(*home)), tmp_path / "fresh")
    if name in SILENT:
        load_adapter(build(*home), tmp_path / "fresh")
    else:
        assert "never trained" in refused(build, logits, tmp_path / "fresh", "has no effect", home).cause


def test_one_layer_without_effect_is_named(build, logits, saved_lora):
    rewrite(saved_lora, lambda tensors: tensors[LORA_B].zero_())
    assert LORA_B in refused(build, logits, saved_lora, "all zero").message


@pytest.mark.parametrize("spoil", [lambda units: units.fill_(1.0), lambda units: units.add_(0.5)], ids=["same", "half"])
def test_units_dealt_out_unevenly_are_refused(build, logits, stir, tmp_path, spoil):
    save_adapter(stir(SplitAdapter(rank=4).apply(build("llama"))), tmp_path / "adapter")
    key = "base_model.model.model.layers.1.mlp.split_adapter.assignment"
    rewrite(tmp_path / "adapter", lambda tensors: spoil(tensors[key]))
    error = refused(build, logits, tmp_path / "adapter", "same number of units", ("llama", "labels"))
    assert key in error.message


def test_units_may_be_dealt_out_otherwise_than_anew(build, logits, stir, tmp_path):
    adapted = stir(SplitAdapter("SparseRouting", rank=4).apply(build("llama")))
    for name, units in adapted.named_buffers():
        if name.endswith("assignment"):
            units.copy_(units.flip(0))
    save_adapter(adapted, tmp_path / "adapter")
    assert torch.equal(logits(load_adapter(build("llama"), tmp_path / "adapter")), logits(adapted))


@pytest.mark.parametrize(("method", "key"), [("VeRA", "vera_A"), ("RandLoRA", "randlora_B")])
def test_frozen_projections_are_the_stored_ones(build, logits, stir, tmp_path, method, key):
    adapted = stir(PeftAdapter(method, 4).apply(build("llama")))
    dict(adapted.named_buffers(remove_duplicate=False))[f"base_model.{key}.default"].mul_(1.5)
    save_adapter(adapted, tmp_path / "adapter")
    assert f"base_model.{key}" in load_file(tmp_path / "adapter" / WEIGHTS)
    loaded = load_adapter(build("llama"), tmp_path / "adapter")
    assert torch.equal(logits(loaded), logits(adapted))
    assert not torch.equal(logits(loaded), logits(stir(PeftAdapter(method, 4).apply(build("llama")))))


def test_expert_that_no_token_met_is_no_reason_to_refuse(build, stir, tmp_path):
    adapted = stir(MOE.apply(build("bert")))
    for key, weight in adapted.named_parameters():
        if key.endswith("mixture_adapter.default.down"):
            weight.data[2].zero_()
    save_adapter(adapted, tmp_path / "adapter")
    load_adapter(build("bert"), tmp_path / "adapter")


def test_integers_are_no_weights(build, logits, saved_lora):
    key = LORA_B
    rewrite(saved_lora, lambda tensors: tensors.update({key: tensors[key].to(torch.int32)}))
    refused(build, logits, saved_lora, "not floating-point numbers")


def test_all_mistakes_are_told_at_once(build, logits, saved_lora):
    def spoil(tensors):
        first, second, third = sorted(tensors)[:3]
        tensors.pop(first)
        tensors[second].fill_(float("nan"))
        tensors[third] = tensors[third][:1]
        tensors["stray"] = torch.ones(1)

    rewrite(saved_lora, spoil)
    assert len(refused(build, logits, saved_lora, "missing tensor").cause.splitlines()) == 4


def test_other_base_is_refused(build, logits, saved_lora):
    error = refused(build, logits, saved_lora, "not made for other", base=OTHER)
    assert BASE.digest in error.cause
    load_adapter(build("bert"), saved_lora, base=BASE)


def test_adapter_of_an_untold_base_is_refused_where_the_base_matters(build, stir, logits, tmp_path):
    save_adapter(stir(LORA.apply(build("bert"))), tmp_path / "adapter")
    refused(build, logits, tmp_path / "adapter", "not made for tiny", base=BASE)


def test_other_family_is_refused(build, saved_lora):
    with pytest.raises(AdapterError, match="made for a bert model, this is a gpt2"):
        load_adapter(build("gpt2"), saved_lora)


def test_weights_that_are_not_the_recorded_ones_are_refused(build, logits, stir, saved_lora, tmp_path):
    save_adapter(stir(LORA.apply(build("bert")), seed=2), tmp_path / "other", base=BASE)
    shutil.copy(tmp_path / "other" / WEIGHTS, saved_lora / WEIGHTS)
    refused(build, logits, saved_lora, "is not what legion_adapter.json names")


@pytest.mark.parametrize("file", ["adapter_model.bin", "optimizer.pt", "nested/extra.pkl"])
def test_pickle_is_refused(build, logits, saved_lora, file):
    (saved_lora / file).parent.mkdir(exist_ok=True)
    (saved_lora / file).write_bytes(b"")
    refused(build, logits, saved_lora, file.rpartition("/")[2])


def test_link_out_of_the_folder_is_refused(build, logits, saved_lora, tmp_path):
    shutil.move(saved_lora / WEIGHTS, tmp_path / "elsewhere.safetensors")
    (saved_lora / WEIGHTS).symlink_to(tmp_path / "elsewhere.safetensors")
    refused(build, logits, saved_lora, f"{WEIGHTS} in .* links out of the folder")


@pytest.mark.parametrize("size", [0, 7, 200, 5000])
def test_truncated_weights_are_refused(build, logits, saved_lora, size):
    content = (saved_lora / WEIGHTS).read_bytes()
    (saved_lora / WEIGHTS).write_bytes(content[:size])
    refused(build, logits, saved_lora, "is damaged")


@pytest.mark.parametrize("file", ["adapter_config.json", WEIGHTS, "legion_adapter.json"])
def test_missing_file_is_named(build, logits, saved_lora, file):
    (saved_lora / file).unlink()
    refused(build, logits, saved_lora, f"lacks {file}")


def test_missing_folder_is_refused(build, logits, tmp_path):
    refused(build, logits, tmp_path / "none", "no adapter folder")


@pytest.mark.parametrize("file", ["adapter_config.json", "legion_adapter.json"])
@pytest.mark.parametrize("content", ["", "{", "[]", '{"r": NaN}', '"text"'])
def test_broken_json_is_refused(build, logits, saved_lora, file, content):
    (saved_lora / file).write_text(content)
    refused(build, logits, saved_lora, file)


def test_config_that_contradicts_the_record_is_refused(build, logits, saved_lora):
    path = saved_lora / "adapter_config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"lora_alpha": 1.0}))
    assert "lora_alpha: 1.0 instead of 32.0" in refused(build, logits, saved_lora, "does not fit").cause


def test_record_with_an_impossible_architecture_is_refused(build, logits, saved_lora):
    path = saved_lora / "legion_adapter.json"
    record = json.loads(path.read_text())
    record["architecture"]["rank"] = 0
    path.write_text(json.dumps(record))
    assert "rank" in refused(build, logits, saved_lora, "cannot read").cause


def test_adapted_model_takes_no_second_adapter(build, saved_lora):
    with pytest.raises(AdapterError, match="carries an adapter already"):
        load_adapter(BottleneckAdapter(8).apply(build("bert")), saved_lora)


def test_broken_weights_are_not_saved(build, stir, tmp_path):
    adapted = stir(LORA.apply(build("bert")))
    adapted.get_submodule("base_model.model.bert.encoder.layer.0.intermediate.dense.lora_A.default").weight.data[0] = (
        float("nan")
    )
    with pytest.raises(AdapterError, match=r"intermediate\.dense\.lora_A\.weight"):
        save_adapter(adapted, tmp_path / "adapter")
    assert not (tmp_path / "adapter").exists()


def test_model_without_an_adapter_has_nothing_to_save(build, tmp_path):
    with pytest.raises(AdapterError, match="carries no adapter"):
        save_adapter(build("bert"), tmp_path / "adapter")
