"""Blocks with RMSNorm and rotary positions, dense or mixed: Llama, Mistral, Mixtral, Qwen2, Qwen2-MoE."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, Final

import torch

from legion.neuro_architecture.portability.gguf.plans import (
    Metadata,
    TensorPlan,
    fixed,
    flat,
    permuted,
    plain,
    stacked,
)

__all__ = ["RotaryFamily", "mixtral_experts", "qwen2_experts", "shared_gates"]

_ATTENTION: Final = (("q", "attn_q"), ("k", "attn_k"), ("v", "attn_v"), ("o", "attn_output"))
_GATED: Final = (("gate_proj", "gate"), ("up_proj", "up"), ("down_proj", "down"))
_MIXTRAL: Final = (("w1", "gate"), ("w3", "up"), ("w2", "down"))


def _feed_forward(config: Any, block: str, layer: str) -> Iterator[TensorPlan]:
    for source, name in _GATED:
        yield plain(f"{block}.ffn_{name}.weight", f"{layer}.mlp.{source}.weight")
        if getattr(config, "mlp_bias", False):
            yield plain(f"{block}.ffn_{name}.bias", f"{layer}.mlp.{source}.bias")


def mixtral_experts(config: Any, block: str, layer: str) -> Iterator[TensorPlan]:
    """A block's mixture as llama.cpp's `llama` takes it: softmax, top-k, renormalised."""
    experts = f"{layer}.block_sparse_moe.experts"
    yield plain(f"{block}.ffn_gate_inp.weight", f"{layer}.block_sparse_moe.gate.weight")
    for source, name in _MIXTRAL:
        sources = [f"{experts}.{expert}.{source}.weight" for expert in range(config.num_local_experts)]
        yield stacked(f"{block}.ffn_{name}_exps.weight", sources)


def qwen2_experts(config: Any, block: str, layer: str) -> Iterator[TensorPlan]:
    """A block's mixture and its shared expert: softmax, top-k, not renormalised."""
    mlp = f"{layer}.mlp"
    yield plain(f"{block}.ffn_gate_inp.weight", f"{mlp}.gate.weight")
    yield flat(f"{block}.ffn_gate_inp_shexp.weight", f"{mlp}.shared_expert_gate.weight")
    for source, name in _GATED:
        sources = [f"{mlp}.experts.{expert}.{source}.weight" for expert in range(config.num_experts)]
        yield stacked(f"{block}.ffn_{name}_exps.weight", sources)
        yield plain(f"{block}.ffn_{name}_shexp.weight", f"{mlp}.shared_expert.{source}.weight")


def shared_gates(config: Any) -> list[str]:
    """The tensors that gate the shared experts of a Qwen2-MoE."""
    return [f"model.layers.{index}.mlp.shared_expert_gate.weight" for index in range(config.num_hidden_layers)]


@dataclass(frozen=True, slots=True, kw_only=True)
class RotaryFamily:
    """What tells these families apart.

    Attributes:
        architecture: GGUF's name.
        is_permuted: Whether llama.cpp wants the rows of q and k in pairs.
        has_qkv_bias: Biases of q, k and v whatever the config says of `attention_bias`.
        is_tying: Whether llama.cpp takes the embedding for the head where the file has no head.
        experts: Tensors of a block's mixture, or None for a dense network.
    """

    architecture: str
    is_permuted: bool
    has_qkv_bias: bool = False
    is_tying: bool = True
    experts: Callable[[Any, str, str], Iterator[TensorPlan]] | None = None

    def tensors(self, config: Any) -> Iterator[TensorPlan]:
        """All tensors of the GGUF file."""
        yield plain("token_embd.weight", "model.embed_tokens.weight")
        yield plain("output_norm.weight", "model.norm.weight")
        if not config.tie_word_embeddings:
            yield plain("output.weight", "lm_head.weight")
        elif not self.is_tying:
            yield plain("output.weight", "model.embed_tokens.weight")
        if config.rope_parameters["rope_type"] == "llama3":
            yield fixed("rope_freqs.weight", _llama3_factors(config.rope_parameters, _head_dim(config)))
        for index in range(config.num_hidden_layers):
            yield from self._block(config, f"blk.{index}", f"model.layers.{index}")

    def _block(self, config: Any, block: str, layer: str) -> Iterator[TensorPlan]:
        yield plain(f"{block}.attn_norm.weight", f"{layer}.input_layernorm.weight")
        yield plain(f"{block}.ffn_norm.weight", f"{layer}.post_attention_layernorm.weight")
        heads = {"q": config.num_attention_heads, "k": config.num_key_value_heads}
        for letter, name in _ATTENTION:
            for kind in ("weight", "bias") if self._has_bias(config, letter) else ("weight",):
                target, source = f"{block}.{name}.{kind}", f"{layer}.self_attn.{letter}_proj.{kind}"
                is_turned = self.is_permuted and letter in heads
                yield permuted(target, source, heads[letter]) if is_turned else plain(target, source)
        yield from (self.experts or _feed_forward)(config, block, layer)

    def _has_bias(self, config: Any, letter: str) -> bool:
        if self.has_qkv_bias:
            return letter != "o" and getattr(config, "qkv_bias", True)
        return bool(getattr(config, "attention_bias", False))

    def metadata(self, config: Any) -> Metadata:
        """The keys under the architecture's name."""
        head_dim, rope = _head_dim(config), config.rope_parameters
        window = getattr(config, "sliding_window", None) or config.max_position_embeddings
        values: Metadata = {
            # llama.cpp attends to everything here; up to the window's length that is the same.
            "context_length": min(config.max_position_embeddings, window),
            "block_count": config.num_hidden_layers,
            "embedding_length": config.hidden_size,
            "feed_forward_length": config.intermediate_size,
            "attention.head_count": config.num_attention_heads,
            "attention.head_count_kv": config.num_key_value_heads,
            "attention.key_length": head_dim,
            "attention.value_length": head_dim,
            "attention.layer_norm_rms_epsilon": float(config.rms_norm_eps),
            "rope.dimension_count": head_dim,
            "rope.freq_base": float(rope["rope_theta"]),
        }
        if rope["rope_type"] == "linear":
            values |= {"rope.scaling.type": "linear", "rope.scaling.factor": float(rope["factor"])}
        if self.experts is not None:
            values |= {
                "expert_count": getattr(config, "num_local_experts", None) or config.num_experts,
                "expert_used_count": config.num_experts_per_tok,
            }
        if self.architecture == "qwen2moe":
            values |= {
                "expert_feed_forward_length": config.moe_intermediate_size,
                "expert_shared_feed_forward_length": config.shared_expert_intermediate_size,
            }
        return values

    def obstacles(self, config: Any) -> list[str]:
        """What of this config llama.cpp computes otherwise."""
        rope, heads = config.rope_parameters, config.num_attention_heads
        checks = {
            f"the activation is {config.hidden_act}, not silu": config.hidden_act != "silu",
            f"rotary positions of type {rope['rope_type']}": rope["rope_type"] not in ("default", "linear", "llama3"),
            "rotary positions on a part of each head": rope.get("partial_rotary_factor", 1.0) != 1.0,
            # qwen2 and qwen2moe load q as [width, width] and have no frequency factors.
            "heads that do not fill the width": not self.is_permuted
            and _head_dim(config) * heads != config.hidden_size,
            "llama3 rotary positions": not self.is_permuted and rope["rope_type"] == "llama3",
            "norm_topk_prob is ignored": bool(getattr(config, "norm_topk_prob", False)),
            "some layers are dense": bool(getattr(config, "mlp_only_layers", None))
            or getattr(config, "decoder_sparse_step", 1) != 1,
        }
        return [text for text, is_found in checks.items() if is_found]


def _head_dim(config: Any) -> int:
    return int(getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads)


def _llama3_factors(rope: dict[str, Any], head_dim: int) -> torch.Tensor:
    """What llama.cpp divides each frequency by. Source: transformers' `_compute_llama3_parameters`."""
    factor, low, high = rope["factor"], rope["low_freq_factor"], rope["high_freq_factor"]
    context = rope["original_max_position_embeddings"]
    factors: list[float] = []
    for index in range(0, head_dim, 2):
        wavelength = 2 * math.pi * rope["rope_theta"] ** (index / head_dim)
        if wavelength < context / high:
            factors.append(1.0)
        elif wavelength > context / low:
            factors.append(factor)
        else:
            smooth = (context / wavelength - low) / (high - low)
            factors.append(1.0 / ((1.0 - smooth) / factor + smooth))
    return torch.tensor(factors, dtype=torch.float32)
