"""Structures of transformers that exist on paper only, of any size, for tests that need no weights."""

from __future__ import annotations

from typing import Final

from legion.neuro_architecture.anatomy.values import FfnSite, LayerAnatomy, LinearSite, ModelAnatomy

__all__ = ["paper_anatomy"]

_LLAMA_ATTENTION: Final = ("q_proj", "k_proj", "v_proj", "o_proj")


def paper_anatomy(
    *,
    hidden_size: int = 64,
    intermediate_size: int = 128,
    num_layers: int = 4,
    num_attention_heads: int = 4,
    vocab_size: int = 100,
    is_ffn_gated: bool = True,
    is_causal: bool = True,
) -> ModelAnatomy:
    """The anatomy of a Llama-like model; ungated, its feed-forward networks have two projections and GELU.

    A model that is not causal classifies into two classes.
    """
    layers = tuple(
        _layer(index, hidden_size, intermediate_size, is_ffn_gated=is_ffn_gated) for index in range(num_layers)
    )
    head_parameters = 0 if is_causal else 2 * hidden_size
    weights = sum(linear.in_features * linear.out_features for layer in layers for linear in layer.linears)
    return ModelAnatomy(
        model_type="paper",
        hidden_size=hidden_size,
        intermediate_size=intermediate_size,
        num_attention_heads=num_attention_heads,
        vocab_size=vocab_size,
        non_linearity="silu" if is_ffn_gated else "gelu",
        is_ffn_gated=is_ffn_gated,
        is_causal=is_causal,
        layers=layers,
        head_modules=() if is_causal else ("score",),
        num_parameters=weights + vocab_size * hidden_size + head_parameters,
        head_parameters=head_parameters,
        final_norm_parameters=hidden_size,
    )


def _layer(index: int, hidden_size: int, intermediate_size: int, *, is_ffn_gated: bool) -> LayerAnatomy:
    path = f"model.layers.{index}"
    attention = [(f"self_attn.{name}", hidden_size, hidden_size) for name in _LLAMA_ATTENTION]
    rising = ("gate_proj", "up_proj") if is_ffn_gated else ("up_proj",)
    ffn = [(f"mlp.{name}", hidden_size, intermediate_size) for name in rising]
    ffn.append(("mlp.down_proj", intermediate_size, hidden_size))
    site = FfnSite(path=f"{path}.mlp", style="output")
    linears = tuple(
        LinearSite(path=f"{path}.{name}", name=name.rpartition(".")[2], in_features=width, out_features=out)
        for name, width, out in attention + ffn
    )
    return LayerAnatomy(index=index, path=path, linears=linears, par=site, seq=site)
