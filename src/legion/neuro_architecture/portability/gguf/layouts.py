"""Which tensors and keys a GGUF file of a checkpoint has, by the checkpoint's architecture."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any, Final

import torch

from legion.foundation.errors import NotPortableError
from legion.neuro_architecture.portability.gguf.gpt2 import gpt2_metadata, gpt2_obstacles, gpt2_tensors
from legion.neuro_architecture.portability.gguf.plans import Metadata, TensorPlan
from legion.neuro_architecture.portability.gguf.reading import CheckpointReader
from legion.neuro_architecture.portability.gguf.rotary import (
    RotaryFamily,
    mixtral_experts,
    qwen2_experts,
    shared_gates,
)

__all__ = ["GGUF_ARCHITECTURES", "Layout", "layout_of"]

_LLAMA: Final = RotaryFamily(architecture="llama", is_permuted=True)
_ROTARY: Final = {
    "LlamaForCausalLM": _LLAMA,
    "MistralForCausalLM": _LLAMA,
    "MixtralForCausalLM": RotaryFamily(architecture="llama", is_permuted=True, experts=mixtral_experts),
    "Qwen2ForCausalLM": RotaryFamily(architecture="qwen2", is_permuted=False, has_qkv_bias=True),
    "Qwen2MoeForCausalLM": RotaryFamily(
        architecture="qwen2moe", is_permuted=False, has_qkv_bias=True, is_tying=False, experts=qwen2_experts
    ),
}
_GPT2: Final = "GPT2LMHeadModel"

GGUF_ARCHITECTURES: Final = (*_ROTARY, _GPT2)
"""The classes of transformers whose checkpoints become GGUF files."""

# Buffers that old checkpoints keep beside the weights.
_BUFFERS: Final = re.compile(r"(\.attn\.(bias|masked_bias)|\.rotary_emb\.inv_freq)$")


@dataclass(frozen=True, slots=True, kw_only=True)
class Layout:
    """A GGUF file before it is written.

    Attributes:
        architecture: GGUF's name (`llama`).
        metadata: Keys under that name.
        tensors: What to write, in order.
    """

    architecture: str
    metadata: Metadata
    tensors: tuple[TensorPlan, ...]


def layout_of(architecture: str, config: Any, reader: CheckpointReader) -> Layout:
    """The layout of a checkpoint.

    Raises:
        NotPortableError: llama.cpp has no such architecture, or would compute something else; lists every obstacle.
        ModelError: a tensor is missing.
    """
    if architecture in _ROTARY:
        family = _ROTARY[architecture]
        _refuse(architecture, [*family.obstacles(config), *_zero_gates(family, config, reader)])
        layout = Layout(
            architecture=family.architecture,
            metadata=family.metadata(config),
            tensors=tuple(family.tensors(config)),
        )
    elif architecture == _GPT2:
        _refuse(architecture, gpt2_obstacles(config))
        prefix = "" if "wte.weight" in reader.names else "transformer."
        layout = Layout(
            architecture="gpt2", metadata=gpt2_metadata(config), tensors=tuple(gpt2_tensors(config, prefix))
        )
    else:
        raise NotPortableError(
            f"{architecture} does not become a GGUF file", cause="these do: " + ", ".join(GGUF_ARCHITECTURES)
        )
    _refuse(architecture, _left_over(config, layout, reader))
    return layout


def _refuse(architecture: str, obstacles: list[str]) -> None:
    if obstacles:
        raise NotPortableError(
            f"llama.cpp does not compute this {architecture} as transformers does", cause="; ".join(obstacles)
        )


def _zero_gates(family: RotaryFamily, config: Any, reader: CheckpointReader) -> list[str]:
    """llama.cpp computes sigmoid(z) as silu(z) / z, which is NaN where a gate of zeros makes z zero."""
    if family.architecture != "qwen2moe":
        return []
    return [f"{name} is exactly zero" for name in shared_gates(config) if not reader.read(name).any()]


def _left_over(config: Any, layout: Layout, reader: CheckpointReader) -> list[str]:
    """Weights that the file would lose. A tied head may lie in the checkpoint as the embedding's equal copy."""
    carried = {source for plan in layout.tensors for source in plan.sources}
    left = {name for name in reader.names - carried if not _BUFFERS.search(name)}
    if config.tie_word_embeddings and "lm_head.weight" in left:
        embedding = layout.tensors[0].read(reader)
        if torch.equal(reader.read("lm_head.weight"), embedding):
            left.remove("lm_head.weight")
    return [f"it has no place for {name}" for name in sorted(left)]
