"""A GGUF file becomes safetensors once, and computes what the original computes."""

from __future__ import annotations

import shutil

import gguf
import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from legion.foundation.errors import ModelError
from legion.neuro_architecture.data.base_models import resolve_base
from legion.neuro_architecture.spec.task import TaskSpec

WORDS = TaskSpec(name="s", kind="summarization", target_column="summary", metric="rouge_l")
HEADS, KEY_HEADS, LAYERS = 4, 2, 3


def interleave(weight: np.ndarray, heads: int) -> np.ndarray:
    """Rows of q and k in the order that the format keeps rotary pairs in."""
    rows, width = weight.shape
    return weight.reshape(heads, 2, rows // heads // 2, width).swapaxes(1, 2).reshape(rows, width)


def write_header(writer: gguf.GGUFWriter, vocab_size: int) -> None:
    writer.add_block_count(LAYERS)
    writer.add_context_length(128)
    writer.add_embedding_length(32)
    writer.add_feed_forward_length(64)
    writer.add_head_count(HEADS)
    writer.add_head_count_kv(KEY_HEADS)
    writer.add_layer_norm_rms_eps(1e-6)
    writer.add_rope_freq_base(10000.0)
    writer.add_rope_dimension_count(8)
    writer.add_vocab_size(vocab_size)
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre("default")
    tokens = [chr(0x100 + index) for index in range(vocab_size)]
    tokens[:4] = ["<end>", "a", "b", "ab"]
    writer.add_token_list(tokens)
    writer.add_token_types([3] + [1] * (vocab_size - 1))
    writer.add_token_merges(["a b"])
    writer.add_bos_token_id(0)
    writer.add_eos_token_id(0)


def write_gguf(folder, path) -> None:
    tensors = {name: tensor.numpy() for name, tensor in load_file(folder / "model.safetensors").items()}
    writer = gguf.GGUFWriter(path, "llama")
    write_header(writer, len(tensors["model.embed_tokens.weight"]))
    writer.add_tensor("token_embd.weight", tensors["model.embed_tokens.weight"])
    writer.add_tensor("output_norm.weight", tensors["model.norm.weight"])
    writer.add_tensor("output.weight", tensors["lm_head.weight"])
    for index in range(LAYERS):
        block, ours = f"blk.{index}.", f"model.layers.{index}."
        q, k = (tensors[f"{ours}self_attn.{part}_proj.weight"] for part in "qk")
        writer.add_tensor(f"{block}attn_q.weight", np.ascontiguousarray(interleave(q, HEADS)))
        writer.add_tensor(f"{block}attn_k.weight", np.ascontiguousarray(interleave(k, KEY_HEADS)))
        writer.add_tensor(f"{block}attn_v.weight", tensors[f"{ours}self_attn.v_proj.weight"])
        writer.add_tensor(f"{block}attn_output.weight", tensors[f"{ours}self_attn.o_proj.weight"])
        writer.add_tensor(f"{block}attn_norm.weight", tensors[f"{ours}input_layernorm.weight"])
        writer.add_tensor(f"{block}ffn_norm.weight", tensors[f"{ours}post_attention_layernorm.weight"])
        for part in ("gate", "up", "down"):
            writer.add_tensor(f"{block}ffn_{part}.weight", tensors[f"{ours}mlp.{part}_proj.weight"])
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


@pytest.fixture
def gguf_folder(tiny_folders, tmp_path):
    folder = tmp_path / "gguf"
    folder.mkdir()
    write_gguf(tiny_folders["llama"], folder / "tiny.gguf")
    return folder


def test_converted_model_computes_what_the_original_does(gguf_folder, tiny_folders, settings, capfd):
    base = resolve_base(str(gguf_folder), settings)
    ids = torch.tensor([[5, 6, 7, 8]])
    converted = base.load(WORDS)(input_ids=ids).logits
    original = resolve_base(str(tiny_folders["llama"]), settings).load(WORDS)(input_ids=ids).logits
    assert torch.allclose(converted, original, atol=1e-5)
    assert base.tokenizer().eos_token == "<end>"
    assert capfd.readouterr().err == ""


def test_conversion_happens_once_for_its_content(gguf_folder, settings, tmp_path):
    first = resolve_base(str(gguf_folder), settings)
    stamp = (first.folder / "model.safetensors").stat().st_mtime_ns
    moved = shutil.copytree(gguf_folder, tmp_path / "moved")
    again = resolve_base(str(moved), settings)
    assert again.folder == first.folder
    assert (again.folder / "model.safetensors").stat().st_mtime_ns == stamp
    assert again.reference.digest == first.reference.digest


def test_several_gguf_files_are_refused(gguf_folder, settings):
    shutil.copy(gguf_folder / "tiny.gguf", gguf_folder / "other.gguf")
    with pytest.raises(ModelError, match="several GGUF files"):
        resolve_base(str(gguf_folder), settings)


def test_damaged_gguf_is_a_model_error_and_leaves_nothing(settings, tmp_path):
    (tmp_path / "bad").mkdir()
    (tmp_path / "bad" / "bad.gguf").write_bytes(b"GGUF" + b"\0" * 40)
    with pytest.raises(ModelError, match="cannot be read as GGUF"):
        resolve_base(str(tmp_path / "bad"), settings)
    assert [path.name for path in (settings.home / "converted").iterdir()] == [".lock"]
