"""A GGUF file holds the checkpoint's own numbers, or is not written."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch
from gguf import GGUFReader
from safetensors.torch import load_file, save_file

from legion.foundation.errors import ModelError, NotPortableError
from legion.neuro_architecture.portability.gguf import GGUF_ARCHITECTURES, write_gguf
from legion.testing import tiny_checkpoint

FAMILIES = ("Llama", "Mistral", "Mixtral", "Qwen2", "Qwen2Moe", "GPT2")


def tensors(path) -> dict[str, np.ndarray]:
    return {tensor.name: np.array(tensor.data) for tensor in GGUFReader(path).tensors}


def value(path, key):
    return GGUFReader(path).fields[key].contents()


def change(folder, **tensors) -> None:
    """Replaces tensors of a checkpoint of one file; None takes one away."""
    stored = load_file(folder / "model.safetensors")
    stored |= {name.replace("__", "."): tensor for name, tensor in tensors.items()}
    save_file({name: tensor for name, tensor in stored.items() if tensor is not None}, folder / "model.safetensors")


def configure(folder, **settings) -> None:
    path = folder / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | settings))


@pytest.mark.parametrize("family", FAMILIES)
def test_every_number_of_the_checkpoint_is_in_the_file(tmp_path, family):
    folder = tiny_checkpoint(tmp_path / "model", family)

    summary = write_gguf(folder, tmp_path / "model.gguf")

    written = np.sort(np.concatenate([tensor.ravel() for tensor in tensors(tmp_path / "model.gguf").values()]))
    stored = np.sort(np.concatenate([t.numpy().ravel() for t in load_file(folder / "model.safetensors").values()]))
    assert np.array_equal(written, stored)
    assert summary.size_bytes == (tmp_path / "model.gguf").stat().st_size
    assert summary.num_tensors == len(tensors(tmp_path / "model.gguf"))


def test_the_tested_families_are_all_there_are():
    assert {f"{family}ForCausalLM" for family in FAMILIES if family != "GPT2"} | {"GPT2LMHeadModel"} == set(
        GGUF_ARCHITECTURES
    )


def test_rows_of_a_llamas_q_go_from_halves_to_pairs(tmp_path):
    folder = tiny_checkpoint(tmp_path / "model", "Llama")

    write_gguf(folder, tmp_path / "model.gguf")

    q = load_file(folder / "model.safetensors")["model.layers.0.self_attn.q_proj.weight"].numpy()
    written = tensors(tmp_path / "model.gguf")["blk.0.attn_q.weight"]
    head_dim = 8
    pairs = [row for half in range(head_dim // 2) for row in (half, half + head_dim // 2)]
    assert np.array_equal(written[:head_dim], q[:head_dim][pairs])
    assert np.array_equal(written[head_dim : 2 * head_dim], q[head_dim : 2 * head_dim][pairs])


def test_a_tied_head_is_written_only_where_llama_cpp_would_miss_it(tmp_path):
    dense = tiny_checkpoint(tmp_path / "dense", "Llama", tie_word_embeddings=True)
    mixed = tiny_checkpoint(tmp_path / "mixed", "Qwen2Moe", tie_word_embeddings=True)

    write_gguf(dense, tmp_path / "dense.gguf")
    write_gguf(mixed, tmp_path / "mixed.gguf")

    assert "output.weight" not in tensors(tmp_path / "dense.gguf")
    written = tensors(tmp_path / "mixed.gguf")
    assert np.array_equal(written["output.weight"], written["token_embd.weight"])


def test_shards_become_the_same_file(tmp_path):
    whole = tiny_checkpoint(tmp_path / "a" / "model", "Qwen2Moe")
    shards = tiny_checkpoint(tmp_path / "b" / "model", "Qwen2Moe", shard_bytes=40_000)
    assert len(list(shards.glob("*.safetensors"))) > 1

    write_gguf(whole, tmp_path / "whole.gguf")
    write_gguf(shards, tmp_path / "shards.gguf")

    assert (tmp_path / "whole.gguf").read_bytes() == (tmp_path / "shards.gguf").read_bytes()


def test_half_precision_becomes_fp32(tmp_path):
    folder = tiny_checkpoint(tmp_path / "model", "Llama")
    stored = load_file(folder / "model.safetensors")
    save_file({name: tensor.bfloat16() for name, tensor in stored.items()}, folder / "model.safetensors")

    write_gguf(folder, tmp_path / "model.gguf")

    written = tensors(tmp_path / "model.gguf")["output.weight"]
    assert written.dtype == np.float32
    assert np.array_equal(written, stored["lm_head.weight"].bfloat16().float().numpy())


def test_the_oldest_gpt2_checkpoints_are_read(tmp_path):
    folder = tiny_checkpoint(tmp_path / "model", "GPT2")
    write_gguf(folder, tmp_path / "new.gguf")
    stored = load_file(folder / "model.safetensors")
    old = {name.removeprefix("transformer."): tensor for name, tensor in stored.items()}
    save_file(old | {"h.0.attn.bias": torch.ones(1, 1, 128, 128)}, folder / "model.safetensors")

    write_gguf(folder, tmp_path / "old.gguf")

    assert (tmp_path / "old.gguf").read_bytes() == (tmp_path / "new.gguf").read_bytes()


def test_a_context_longer_than_the_sliding_window_is_not_promised(tmp_path):
    folder = tiny_checkpoint(tmp_path / "model", "Mistral", sliding_window=48)

    write_gguf(folder, tmp_path / "model.gguf")

    assert value(tmp_path / "model.gguf", "llama.context_length") == 48


@pytest.mark.parametrize(
    ("family", "settings", "cause"),
    [
        ("Qwen2Moe", {"norm_topk_prob": True}, "norm_topk_prob is ignored"),
        ("Qwen2Moe", {"decoder_sparse_step": 2}, "some layers are dense"),
        ("Qwen2Moe", {"mlp_only_layers": [0]}, "some layers are dense"),
        ("Llama", {"hidden_act": "gelu"}, "the activation is gelu, not silu"),
        ("Llama", {"rope_parameters": {"rope_type": "dynamic", "rope_theta": 1e4, "factor": 2.0}}, "type dynamic"),
        ("Qwen2", {"head_dim": 16}, "heads that do not fill the width"),
        ("GPT2", {"activation_function": "gelu"}, "the activation is gelu, not tanh-GELU"),
        ("GPT2", {"scale_attn_by_inverse_layer_idx": True}, "attention scaled by the layer's index"),
        ("GPT2", {"scale_attn_weights": False}, "attention without its scale"),
    ],
)
def test_what_llama_cpp_computes_otherwise_is_refused(tmp_path, family, settings, cause):
    folder = tiny_checkpoint(tmp_path / "model", family)
    configure(folder, **settings)

    with pytest.raises(NotPortableError) as caught:
        write_gguf(folder, tmp_path / "model.gguf")

    assert cause in (caught.value.cause or "")
    assert list(tmp_path.iterdir()) == [folder]


def test_a_shared_expert_gate_of_zeros_is_refused_because_llama_cpp_makes_nan_of_it(tmp_path):
    folder = tiny_checkpoint(tmp_path / "model", "Qwen2Moe")
    change(folder, model__layers__1__mlp__shared_expert_gate__weight=torch.zeros(1, 32))

    with pytest.raises(NotPortableError) as caught:
        write_gguf(folder, tmp_path / "model.gguf")

    assert caught.value.cause == "model.layers.1.mlp.shared_expert_gate.weight is exactly zero"


def test_an_unknown_architecture_is_refused_with_the_list(tmp_path, tiny_folders):
    with pytest.raises(NotPortableError, match="BertModel does not become a GGUF file") as caught:
        write_gguf(tiny_folders["bert"], tmp_path / "model.gguf")

    assert "LlamaForCausalLM, MistralForCausalLM" in (caught.value.cause or "")


def test_a_tensor_without_a_place_is_refused_by_name(tmp_path):
    folder = tiny_checkpoint(tmp_path / "model", "Llama")
    change(folder, model__layers__0__self_attn__q_norm__weight=torch.ones(8))

    with pytest.raises(NotPortableError) as caught:
        write_gguf(folder, tmp_path / "model.gguf")

    assert caught.value.cause == "it has no place for model.layers.0.self_attn.q_norm.weight"


def test_the_copy_of_a_tied_head_is_passed_over_only_where_it_is_equal(tmp_path):
    folder = tiny_checkpoint(tmp_path / "model", "Llama", tie_word_embeddings=True)
    embedding = load_file(folder / "model.safetensors")["model.embed_tokens.weight"]
    change(folder, lm_head__weight=embedding.clone())
    write_gguf(folder, tmp_path / "model.gguf")

    change(folder, lm_head__weight=embedding + 1)

    with pytest.raises(NotPortableError, match="does not compute"):
        write_gguf(folder, tmp_path / "model.gguf")


def test_a_failed_write_leaves_the_old_file(tmp_path):
    folder = tiny_checkpoint(tmp_path / "model", "Llama")
    target = tmp_path / "model.gguf"
    target.write_bytes(b"old")
    norm = torch.ones(32)
    norm[3] = torch.nan
    change(folder, model__layers__1__post_attention_layernorm__weight=norm)

    with pytest.raises(ModelError, match=r"not finite: model\.layers\.1\.post_attention_layernorm\.weight"):
        write_gguf(folder, target)

    assert target.read_bytes() == b"old"
    assert sorted(tmp_path.iterdir()) == [folder, target]


def test_a_missing_tensor_is_named(tmp_path):
    folder = tiny_checkpoint(tmp_path / "model", "Llama")
    change(folder, model__norm__weight=None)

    with pytest.raises(ModelError, match=r"lacks the tensor model\.norm\.weight"):
        write_gguf(folder, tmp_path / "model.gguf")


def test_a_truncated_file_is_refused(tmp_path):
    folder = tiny_checkpoint(tmp_path / "model", "Llama")
    path = folder / "model.safetensors"
    path.write_bytes(path.read_bytes()[:-7])

    with pytest.raises(ModelError, match=r"model\.safetensors cannot be read"):
        write_gguf(folder, tmp_path / "model.gguf")


def test_a_missing_shard_is_refused(tmp_path):
    folder = tiny_checkpoint(tmp_path / "model", "Llama", shard_bytes=40_000)
    sorted(folder.glob("*.safetensors"))[1].unlink()

    with pytest.raises(ModelError, match="cannot be read"):
        write_gguf(folder, tmp_path / "model.gguf")


def test_shards_that_their_index_does_not_describe_are_refused(tmp_path):
    folder = tiny_checkpoint(tmp_path / "model", "Llama", shard_bytes=40_000)
    first, second, *_ = sorted(folder.glob("*.safetensors"))
    first.write_bytes(second.read_bytes())

    with pytest.raises(ModelError, match="does not hold the tensors"):
        write_gguf(folder, tmp_path / "model.gguf")


def test_a_folder_without_weights_is_refused(tmp_path):
    folder = tiny_checkpoint(tmp_path / "model", "Llama")
    (folder / "model.safetensors").unlink()

    with pytest.raises(ModelError, match="holds neither"):
        write_gguf(folder, tmp_path / "model.gguf")


def test_two_architectures_are_refused(tmp_path):
    folder = tiny_checkpoint(tmp_path / "model", "Llama")
    configure(folder, architectures=["LlamaForCausalLM", "MistralForCausalLM"])

    with pytest.raises(ModelError, match="names 2 architectures"):
        write_gguf(folder, tmp_path / "model.gguf")
