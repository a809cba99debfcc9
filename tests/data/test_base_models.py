"""Base models: only safetensors, never code, the same head for the same seed."""

from __future__ import annotations

import json
import os
import shutil
import socket

import pytest
import torch

from legion.foundation.errors import AssetError, ModelError, UnknownNameError, WorldError
from legion.neuro_architecture.data.base_models import embedded_bases, resolve_base
from legion.neuro_architecture.spec.task import TaskSpec

CLASSES = TaskSpec(name="c", kind="classification", labels=("bad", "so-so", "good"))
WORDS = TaskSpec(name="s", kind="summarization", target_column="summary", metric="rouge_l")
FAMILIES = ("bert", "llama", "gpt2")


@pytest.fixture(params=FAMILIES)
def family(request) -> str:
    return request.param


@pytest.fixture
def base_of(tiny_folders, settings):
    return lambda family: resolve_base(str(tiny_folders[family]), settings)


@pytest.fixture
def copy_of(tiny_folders, settings):
    """A copy of a tiny model that a test may damage."""
    return lambda family: shutil.copytree(tiny_folders[family], settings.workspace / family)


def refusal(name, settings) -> str:
    with pytest.raises(ModelError) as caught:
        resolve_base(str(name), settings)
    return caught.value.render()


def batch():
    return {"input_ids": torch.tensor([[5, 6, 7], [8, 9, 10]]), "attention_mask": torch.ones(2, 3, dtype=torch.long)}


def test_classifier_has_the_tasks_outputs(base_of, family):
    model = base_of(family).load(CLASSES)
    assert model(**batch()).logits.shape == (2, 3)
    assert model.config.id2label == {0: "bad", 1: "so-so", 2: "good"}
    assert model.config.label2id["good"] == 2
    assert not model.training
    assert {parameter.dtype for parameter in model.parameters()} == {torch.float32}


@pytest.mark.parametrize("family", ["llama", "gpt2"])
def test_causal_model_predicts_tokens(base_of, family):
    model = base_of(family).load(WORDS)
    assert model(**batch()).logits.shape[-1] == model.config.vocab_size


def test_head_follows_the_seed_and_leaves_the_global_generator_alone(base_of, family):
    base = base_of(family)
    before = torch.get_rng_state()
    one, same, other = base.load(CLASSES, seed=1), base.load(CLASSES, seed=1), base.load(CLASSES, seed=2)
    assert torch.equal(torch.get_rng_state(), before)
    logits = [model(**batch()).logits for model in (one, same, other)]
    assert torch.equal(logits[0], logits[1])
    assert not torch.equal(logits[0], logits[2])


def test_base_weights_are_those_of_the_file(base_of, tiny_folders, family):
    from safetensors.torch import load_file

    stored = load_file(tiny_folders[family] / "model.safetensors")
    loaded = base_of(family).load_encoder().state_dict()
    for name, tensor in loaded.items():
        matches = [key for key in stored if key.endswith(name)]
        assert matches, name
        assert torch.equal(stored[matches[0]], tensor)


def test_base_has_no_dropout_of_its_own_and_eager_attention(base_of, family):
    model = base_of(family).load(CLASSES)
    assert [module.p for module in model.modules() if isinstance(module, torch.nn.Dropout) and module.p] == []
    assert model.config._attn_implementation == "eager"
    model.train()
    assert torch.equal(model(**batch()).logits, model(**batch()).logits)


def test_meta_model_has_the_shapes_of_the_real_one(base_of, family):
    base = base_of(family)
    shapes = {name: tuple(tensor.shape) for name, tensor in base.load(CLASSES).named_parameters()}
    meta = base.load_meta("classification", num_labels=3)
    assert {name: tuple(tensor.shape) for name, tensor in meta.named_parameters()} == shapes
    assert {parameter.device.type for parameter in meta.parameters()} == {"meta"}


def test_loading_says_nothing(base_of, capfd, caplog):
    base = base_of("bert")
    base.load(CLASSES)
    base.load_encoder()
    assert capfd.readouterr() == ("", "")
    assert caplog.records == []


def test_tokenizer_pads_with_its_end_where_it_has_no_padding(copy_of, settings):
    folder = copy_of("gpt2")
    config = json.loads((folder / "tokenizer_config.json").read_text())
    del config["pad_token"]
    (folder / "tokenizer_config.json").write_text(json.dumps(config))
    base = resolve_base(str(folder), settings)
    tokenizer = base.tokenizer()
    assert tokenizer.pad_token_id == tokenizer.eos_token_id
    assert base.load(CLASSES).config.pad_token_id == tokenizer.eos_token_id


def test_longest_input_is_the_lower_of_model_and_tokenizer(copy_of, base_of, settings):
    assert base_of("llama").max_tokens == 128
    folder = copy_of("bert")
    config = json.loads((folder / "tokenizer_config.json").read_text())
    (folder / "tokenizer_config.json").write_text(json.dumps(config | {"model_max_length": 64}))
    assert resolve_base(str(folder), settings).max_tokens == 64


def test_encoder_is_refused_for_writing_text(base_of):
    for attempt in (lambda base: base.load(WORDS), lambda base: base.load_meta("summarization")):
        with pytest.raises(ModelError, match="cannot be used for summarization"):
            attempt(base_of("bert"))


def test_reference_names_weights_by_content(tiny_folders, copy_of, settings, family):
    original = resolve_base(str(tiny_folders[family]), settings).reference
    copy = resolve_base(str(copy_of(family)), settings).reference
    assert copy.digest == original.digest
    assert copy.model_type == family
    digests = {resolve_base(str(tiny_folders[other]), settings).reference.digest for other in FAMILIES}
    assert len(digests) == 3


def test_changed_weights_change_the_digest_and_unchanged_ones_are_not_read_again(copy_of, settings):
    folder = copy_of("bert")
    weights = folder / "model.safetensors"
    digest = resolve_base(str(folder), settings).reference.digest
    state = weights.stat()
    content = bytearray(weights.read_bytes())
    content[-1] ^= 1
    weights.write_bytes(content)
    assert resolve_base(str(folder), settings).reference.digest != digest
    weights.write_bytes(bytes(len(content)))
    os.utime(weights, ns=(state.st_atime_ns, state.st_mtime_ns))
    changed = resolve_base(str(folder), settings).reference.digest
    assert changed != digest  # another path, size or time is read again ...
    weights.write_bytes(b"x" * len(content))
    os.utime(weights, ns=(state.st_atime_ns, state.st_mtime_ns))
    assert resolve_base(str(folder), settings).reference.digest == changed  # ... and the same three are not


def test_shards_are_read_through_their_index(copy_of, tiny_folders, settings):
    import transformers

    folder = settings.workspace / "sharded"
    transformers.LlamaForCausalLM.from_pretrained(tiny_folders["llama"]).save_pretrained(folder, max_shard_size="40KB")
    for name in ("tokenizer.json", "tokenizer_config.json"):
        shutil.copy(tiny_folders["llama"] / name, folder)
    shards = sorted(folder.glob("*.safetensors"))
    assert len(shards) > 1
    assert resolve_base(str(folder), settings).load(WORDS)(**batch()).logits.isfinite().all()
    shards[0].unlink()
    assert "no such weights" in refusal(folder, settings)


def test_folder_with_pickles_only_is_refused(copy_of, settings):
    folder = copy_of("bert")
    torch.save({}, folder / "pytorch_model.bin")
    resolve_base(str(folder), settings)  # beside safetensors a pickle is never read
    (folder / "model.safetensors").unlink()
    told = refusal(folder, settings)
    assert "only pickles are there (pytorch_model.bin)" in told
    assert "save_pretrained" in told


def test_adapter_folder_is_no_base_model(copy_of, settings):
    folder = copy_of("bert")
    (folder / "model.safetensors").rename(folder / "adapter_model.safetensors")
    (folder / "adapter_config.json").write_text("{}")
    assert "an adapter, not a base model" in refusal(folder, settings)


@pytest.mark.parametrize("name", ["config.json", "tokenizer_config.json"])
def test_model_that_brings_code_is_refused(copy_of, settings, name):
    folder = copy_of("bert")
    config = json.loads((folder / name).read_text())
    (folder / name).write_text(json.dumps(config | {"auto_map": {"AutoModel": "evil.Model"}}))
    (folder / "evil.py").write_text("raise SystemExit('ran')\n")
    assert f"{name} asks to run code of the model's own (auto_map)" in refusal(folder, settings)


def test_link_out_of_the_folder_is_refused(copy_of, tiny_folders, settings):
    folder = copy_of("bert")
    (folder / "model.safetensors").unlink()
    (folder / "model.safetensors").symlink_to(tiny_folders["bert"] / "model.safetensors")
    assert "model.safetensors is a link that leaves the folder" in refusal(folder, settings)


def test_snapshot_of_the_hubs_cache_may_link_into_its_own_repository(copy_of, settings):
    folder = copy_of("bert")
    repository = settings.workspace / "models--me--tiny"
    snapshot = repository / "snapshots" / "abc"
    snapshot.mkdir(parents=True)
    folder.rename(repository / "blobs")
    for path in (repository / "blobs").iterdir():
        (snapshot / path.name).symlink_to(f"../../blobs/{path.name}")
    assert resolve_base(str(snapshot), settings).reference.model_type == "bert"
    (snapshot / "config.json").unlink()
    (snapshot / "config.json").symlink_to("/etc/hostname")
    assert "leaves the folder" in refusal(snapshot, settings)


def test_index_that_names_a_file_outside_is_refused(copy_of, settings):
    from legion.foundation.errors import InvalidValueError

    folder = copy_of("bert")
    index = {"weight_map": {"a": "../llama/model.safetensors"}}
    (folder / "model.safetensors.index.json").write_text(json.dumps(index))
    with pytest.raises(InvalidValueError, match="is not a name inside"):
        resolve_base(str(folder), settings)


def test_missing_and_misshapen_tensors_are_named(copy_of, settings):
    from safetensors.torch import load_file, save_file

    folder = copy_of("bert")
    tensors = load_file(folder / "model.safetensors")
    del tensors["encoder.layer.0.output.dense.bias"]
    tensors["encoder.layer.1.output.dense.bias"] = torch.zeros(7)
    save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})
    base = resolve_base(str(folder), settings)
    with pytest.raises(ModelError) as caught:
        base.load(CLASSES)
    assert "missing tensor bert.encoder.layer.0.output.dense.bias" in caught.value.cause
    assert "tensor bert.encoder.layer.1.output.dense.bias has another shape" in caught.value.cause


@pytest.mark.parametrize(
    ("damage", "said"),
    [
        (lambda folder: (folder / "config.json").unlink(), "no config.json"),
        (lambda folder: (folder / "config.json").write_text("{"), "as JSON"),
        (lambda folder: (folder / "config.json").write_text("[]"), "no JSON object"),
        (lambda folder: (folder / "config.json").write_text('{"model_type": "klingon"}'), "does not know"),
    ],
)
def test_damaged_config_is_a_model_error(copy_of, settings, damage, said):
    folder = copy_of("bert")
    damage(folder)
    assert said in refusal(folder, settings)


def test_damaged_weights_and_tokenizer_are_model_errors(copy_of, settings):
    folder = copy_of("bert")
    (folder / "model.safetensors").write_bytes(b"not safetensors")
    base = resolve_base(str(folder), settings)
    with pytest.raises(ModelError, match="cannot be loaded"):
        base.load(CLASSES)
    for name in ("tokenizer.json", "tokenizer_config.json"):
        (folder / name).unlink()
    with pytest.raises(ModelError, match="no tokenizer"):
        base.tokenizer()


def test_embedded_model_that_was_not_fetched_names_the_next_command(settings):
    assert embedded_bases() == ("minilm-l6", "smollm2-135m")
    for name in embedded_bases():
        with pytest.raises(AssetError) as caught:
            resolve_base(name, settings)
        assert caught.value.hint == "legion assets fetch"


@pytest.mark.parametrize("name", ["minilm", "", "./nowhere", "/nowhere/at/all", "a/b/c"])
def test_unknown_name_is_refused_with_the_known(settings, name):
    with pytest.raises(UnknownNameError) as caught:
        resolve_base(name, settings)
    assert "minilm-l6" in caught.value.cause


def test_folder_is_seen_from_the_workspace(copy_of, settings, monkeypatch, tmp_path):
    copy_of("bert")
    monkeypatch.chdir(tmp_path)
    base = resolve_base("bert", settings)
    assert base.reference.name == "bert"
    assert base.folder == settings.workspace / "bert"


def test_hub_id_without_network_says_what_else_there_is(settings, monkeypatch):
    def refuse(*args, **kwargs):
        raise AssertionError("asked the network")

    monkeypatch.setattr(socket.socket, "connect", refuse)
    with pytest.raises(WorldError) as caught:
        resolve_base("someone/some-model", settings)
    assert "HF_HUB_OFFLINE" in caught.value.cause
    assert "minilm-l6" in caught.value.hint
    assert caught.value.exit_code == 3
