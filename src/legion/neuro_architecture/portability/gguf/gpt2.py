"""GPT-2's blocks: learned positions, LayerNorm with biases, q, k and v in one linear.

llama.cpp's CPU back end reads tanh-GELU from a table in half precision (`GGML_GELU_FP16`), so its logits differ from
transformers' by what half precision rounds; the tests hold it to exactly that.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Final

from legion.neuro_architecture.portability.gguf.plans import Metadata, TensorPlan, plain, transposed

__all__ = ["gpt2_metadata", "gpt2_obstacles", "gpt2_tensors"]

_NORMS: Final = (("ln_1", "attn_norm"), ("ln_2", "ffn_norm"))
_LINEARS: Final = (
    ("attn.c_attn", "attn_qkv"),
    ("attn.c_proj", "attn_output"),
    ("mlp.c_fc", "ffn_up"),
    ("mlp.c_proj", "ffn_down"),
)
_TANH_GELU: Final = ("gelu_new", "gelu_pytorch_tanh")


def gpt2_tensors(config: Any, prefix: str) -> Iterator[TensorPlan]:
    """All tensors of the GGUF file; `prefix` is `transformer.`, or empty in the oldest checkpoints."""
    yield plain("token_embd.weight", f"{prefix}wte.weight")
    yield plain("position_embd.weight", f"{prefix}wpe.weight")
    for kind in ("weight", "bias"):
        yield plain(f"output_norm.{kind}", f"{prefix}ln_f.{kind}")
    if not config.tie_word_embeddings:
        yield plain("output.weight", "lm_head.weight")
    for index in range(config.n_layer):
        block, layer = f"blk.{index}", f"{prefix}h.{index}"
        for source, name in _NORMS:
            for kind in ("weight", "bias"):
                yield plain(f"{block}.{name}.{kind}", f"{layer}.{source}.{kind}")
        for source, name in _LINEARS:
            yield transposed(f"{block}.{name}.weight", f"{layer}.{source}.weight")
            yield plain(f"{block}.{name}.bias", f"{layer}.{source}.bias")


def gpt2_metadata(config: Any) -> Metadata:
    """The keys under `gpt2`."""
    return {
        "context_length": config.n_positions,
        "block_count": config.n_layer,
        "embedding_length": config.n_embd,
        "feed_forward_length": config.n_inner or 4 * config.n_embd,
        "attention.head_count": config.n_head,
        "attention.layer_norm_epsilon": float(config.layer_norm_epsilon),
    }


def gpt2_obstacles(config: Any) -> list[str]:
    """What of this config llama.cpp computes otherwise."""
    name = config.activation_function
    checks = {
        f"the activation is {name}, not tanh-GELU": name not in _TANH_GELU,
        "attention without its scale": not config.scale_attn_weights,
        "attention scaled by the layer's index": config.scale_attn_by_inverse_layer_idx,
        "cross-attention": config.add_cross_attention,
    }
    return [text for text, is_found in checks.items() if is_found]
