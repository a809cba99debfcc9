"""The frozen base as a row of blocks that a whole population passes through together.

Hidden states are [g, B, T, D]: g is 1 as long as all members agree, and the number of members from the first
correction on. Sub-modules of the base are called as they are; where a member corrects something, `Sites` says.
"""

from __future__ import annotations

from typing import Any, Final, Protocol, final

import torch
from torch import Tensor, nn

from legion.neuro_architecture.anatomy import ModelAnatomy
from legion.neuro_architecture.packed.attention import (
    Context,
    Kernel,
    attend,
    attend_states,
    causal_context,
    heads,
    padding_context,
    prefers_states,
    take,
)
from legion.neuro_architecture.packed.inputs import Reading
from legion.neuro_architecture.packed.sites import Sites

__all__ = ["Trunk", "find_trunk", "through"]


class Trunk(Protocol):
    """A base model whose forward pass is known block by block."""

    @property
    def num_blocks(self) -> int: ...

    @property
    def reading(self) -> Reading:
        """Where its head reads."""
        ...

    @property
    def head_name(self) -> str:
        """The module that makes logits of `rows`."""
        ...

    def embed(self, input_ids_BT: Tensor) -> Tensor:
        """Hidden states before the first block, [1, B, T, D]."""
        ...

    def context(self, mask_BT: Tensor) -> Context:
        """What the blocks need of the batch."""
        ...

    def attended(self, index: int, x_gBTD: Tensor, context: Context, sites: Sites, read_BR: Tensor | None) -> Tensor:
        """The stream h behind a block's attention; with `read_BR` only at those positions, [g, B, R, D]."""
        ...

    def fed(self, index: int, h_gBRD: Tensor, sites: Sites) -> Tensor:
        """What the block's feed-forward network makes of h, before corrections of the whole network."""
        ...

    def joined(self, index: int, h_gBTD: Tensor, y_gBRD: Tensor, sites: Sites, read_BR: Tensor | None = None) -> Tensor:
        """The block's output, from h and the network's output y; with `read_BR` y and the output are at those positions
        of h, where routers still see all of it.
        """
        ...

    def rows(self, x_gND: Tensor) -> Tensor:
        """What the head is given, of the last block's output at the positions that count."""
        ...


def through(
    trunk: Trunk,
    index: int,
    x_gBTD: Tensor,
    context: Context,
    sites: Sites,
    read_BR: Tensor | None,
    *,
    routes_all: bool = False,
) -> Tensor:
    """Through one block; with `read_BR` only those positions of its output are computed, [g, B, R, D].

    With `routes_all` the stream behind its attention is computed at all positions, for routers to see.
    """
    h = trunk.attended(index, x_gBTD, context, sites, None if routes_all else read_BR)
    narrow = read_BR if routes_all else None
    return trunk.joined(index, h, trunk.fed(index, take(h, narrow), sites), sites, narrow)


def find_trunk(model: Any, anatomy: ModelAnatomy, kernel: Kernel) -> Trunk | None:
    """The trunk of a bare base in eval mode, or None where its family's blocks are not known one by one."""
    name, config = type(model).__name__, model.config
    if name in _BERTS and not config.is_decoder:
        return _BertTrunk(model, anatomy, kernel)
    if name in _LLAMAS and _sees_everything(config):
        return _LlamaTrunk(model, anatomy, kernel)
    if name in _GPTS and not (config.reorder_and_upcast_attn or config.add_cross_attention):
        return _Gpt2Trunk(model, anatomy, kernel)
    return None


_BERTS: Final = (
    "BertForSequenceClassification",
    "RobertaForSequenceClassification",
    "XLMRobertaForSequenceClassification",
)
_LLAMAS: Final = tuple(
    f"{family}For{task}" for family in ("Llama", "Mistral", "Qwen2") for task in ("CausalLM", "SequenceClassification")
)
_GPTS: Final = ("GPT2LMHeadModel", "GPT2ForSequenceClassification")


def _sees_everything(config: Any) -> bool:
    """Whether no block's attention ends at a window; Mistral's holds for all blocks without a word for each."""
    window = getattr(config, "sliding_window", None)
    kinds = getattr(config, "layer_types", None) or ["full_attention" if window is None else "sliding_attention"]
    return set(kinds) == {"full_attention"} or (window is not None and window >= config.max_position_embeddings)


@final
class _BertTrunk:
    """Blocks that end in a norm: BERT, RoBERTa, XLM-R."""

    def __init__(self, model: Any, anatomy: ModelAnatomy, kernel: Kernel) -> None:
        self._core = model.base_model
        self._blocks = tuple(self._core.encoder.layer)
        self._paths = tuple(layer.path for layer in anatomy.layers)
        self._kernel: Kernel = kernel
        self.num_blocks = len(self._blocks)
        self.reading: Reading = "first"
        self.head_name = "classifier"

    def embed(self, input_ids_BT: Tensor) -> Tensor:
        return self._core.embeddings(input_ids=input_ids_BT).unsqueeze(0)

    def context(self, mask_BT: Tensor) -> Context:
        return padding_context(mask_BT, self._core.dtype, self._kernel)

    def attended(self, index: int, x_gBTD: Tensor, context: Context, sites: Sites, read_BR: Tensor | None) -> Tensor:
        block, path = self._blocks[index], self._paths[index]
        read, out = take(x_gBTD, read_BR), block.attention.output
        mixed = self._mixed(block.attention.self, f"{path}.attention.self", x_gBTD, read, context, sites, read_BR)
        return out.LayerNorm(sites.linear(f"{path}.attention.output.dense", out.dense, mixed) + read)

    def _mixed(
        self, own: Any, path: str, x: Tensor, read: Tensor, context: Context, sites: Sites, read_BR: Tensor | None
    ) -> Tensor:
        key, value, width = f"{path}.key", f"{path}.value", own.attention_head_size
        bias = context.bias_at(read_BR)

        def queries() -> Tensor:
            return heads(sites.linear(f"{path}.query", own.query, read), width)

        is_few = prefers_states(read.shape[2], x.shape[2], own.num_attention_heads, x.shape[3])
        if is_few and sites.is_linear(key) and sites.is_linear(value):
            return attend_states(
                queries(),
                x,
                bias,
                scale=own.scaling,
                back=lambda rows: sites.back(key, own.key, rows),
                ahead=lambda rows: sites.ahead(value, own.value, rows),
            )
        k = heads(sites.linear(key, own.key, x), width)
        v = heads(sites.linear(value, own.value, x), width)
        return attend(queries(), k, v, bias, scale=own.scaling, kernel=context.kernel)

    def fed(self, index: int, h_gBRD: Tensor, sites: Sites) -> Tensor:
        block, path = self._blocks[index], self._paths[index]
        rising = block.intermediate
        inner = rising.intermediate_act_fn(sites.linear(f"{path}.intermediate.dense", rising.dense, h_gBRD))
        return sites.linear(f"{path}.output.dense", block.output.dense, inner)

    def joined(self, index: int, h_gBTD: Tensor, y_gBRD: Tensor, sites: Sites, read_BR: Tensor | None = None) -> Tensor:
        block, path = self._blocks[index], self._paths[index]
        y = sites.corrected(f"{path}.output.dense", y_gBRD, y_gBRD)
        return block.output.LayerNorm(y + sites.corrected(f"{path}.output", take(h_gBTD, read_BR), h_gBTD, read_BR))

    def rows(self, x_gND: Tensor) -> Tensor:
        pooler = getattr(self._core, "pooler", None)
        return x_gND if pooler is None else pooler.activation(pooler.dense(x_gND))


@final
class _LlamaTrunk:
    """Blocks that write to a bare residual stream, with rotary positions: Llama, Mistral, Qwen2."""

    def __init__(self, model: Any, anatomy: ModelAnatomy, kernel: Kernel) -> None:
        self._core = model.base_model
        self._blocks = tuple(self._core.layers)
        self._paths = tuple(layer.path for layer in anatomy.layers)
        self._kernel: Kernel = kernel
        self.num_blocks = len(self._blocks)
        self.reading: Reading = "targets" if anatomy.is_causal else "last"
        self.head_name = "lm_head" if anatomy.is_causal else "score"

    def embed(self, input_ids_BT: Tensor) -> Tensor:
        return self._core.embed_tokens(input_ids_BT).unsqueeze(0)

    def context(self, mask_BT: Tensor) -> Context:
        reference = self._core.embed_tokens.weight
        positions = torch.arange(mask_BT.shape[1], device=mask_BT.device).unsqueeze(0)
        cos, sin = self._core.rotary_emb(reference, position_ids=positions)
        return causal_context(mask_BT, reference.dtype, self._kernel, cos=cos, sin=sin)

    def attended(self, index: int, x_gBTD: Tensor, context: Context, sites: Sites, read_BR: Tensor | None) -> Tensor:
        block, path = self._blocks[index], self._paths[index]
        own = block.self_attn
        normed = block.input_layernorm(x_gBTD)
        k = heads(sites.linear(f"{path}.self_attn.k_proj", own.k_proj, normed), own.head_dim)
        v = heads(sites.linear(f"{path}.self_attn.v_proj", own.v_proj, normed), own.head_dim)
        q = heads(sites.linear(f"{path}.self_attn.q_proj", own.q_proj, take(normed, read_BR)), own.head_dim)
        mixed = attend(
            _rotate(q, context, read_BR),
            _rotate(k, context, None),
            v,
            context.bias_at(read_BR),
            scale=own.scaling,
            kernel=context.kernel,
        )
        return take(x_gBTD, read_BR) + sites.linear(f"{path}.self_attn.o_proj", own.o_proj, mixed)

    def fed(self, index: int, h_gBRD: Tensor, sites: Sites) -> Tensor:
        block, place = self._blocks[index], f"{self._paths[index]}.mlp"
        mlp = block.mlp

        def network(x: Tensor) -> Tensor:
            gate = mlp.act_fn(sites.linear(f"{place}.gate_proj", mlp.gate_proj, x))
            inner = gate * sites.linear(f"{place}.up_proj", mlp.up_proj, x)
            return sites.linear(f"{place}.down_proj", mlp.down_proj, inner)

        return sites.replaced(place, block.post_attention_layernorm(h_gBRD), network)

    def joined(self, index: int, h_gBTD: Tensor, y_gBRD: Tensor, sites: Sites, read_BR: Tensor | None = None) -> Tensor:
        norm = self._blocks[index].post_attention_layernorm
        return _joined_stream(self._paths[index], norm, h_gBTD, y_gBRD, sites, read_BR)

    def rows(self, x_gND: Tensor) -> Tensor:
        return self._core.norm(x_gND)


def _joined_stream(
    path: str, norm: nn.Module, h_gBTD: Tensor, y_gBRD: Tensor, sites: Sites, read_BR: Tensor | None
) -> Tensor:
    """The output of a block that writes to a bare residual stream; `norm` stands before its network."""
    place = f"{path}.mlp"
    if sites.corrects(place):
        y_gBRD = sites.corrected(place, y_gBRD, norm(h_gBTD), read_BR)
    out = take(h_gBTD, read_BR) + y_gBRD
    return sites.corrected(path, out, out)


def _rotate(x_gBHTD: Tensor, context: Context, read_BR: Tensor | None) -> Tensor:
    """Rotary positions, as `apply_rotary_pos_emb` of transformers turns them."""
    if context.cos is None or context.sin is None:
        raise RuntimeError("a context without rotary tables")
    if read_BR is None:
        cos, sin = context.cos[:, None], context.sin[:, None]
    else:
        cos, sin = context.cos[0][read_BR][:, None], context.sin[0][read_BR][:, None]
    first, second = x_gBHTD.chunk(2, dim=-1)
    return x_gBHTD * cos + torch.cat((-second, first), dim=-1) * sin


@final
class _Gpt2Trunk:
    """GPT-2: learned positions, one linear for queries, keys and values."""

    def __init__(self, model: Any, anatomy: ModelAnatomy, kernel: Kernel) -> None:
        self._core = model.base_model
        self._blocks = tuple(self._core.h)
        self._paths = tuple(layer.path for layer in anatomy.layers)
        self._kernel: Kernel = kernel
        self.num_blocks = len(self._blocks)
        self.reading: Reading = "targets" if anatomy.is_causal else "last"
        self.head_name = "lm_head" if anatomy.is_causal else "score"

    def embed(self, input_ids_BT: Tensor) -> Tensor:
        positions = torch.arange(input_ids_BT.shape[1], device=input_ids_BT.device)
        return (self._core.wte(input_ids_BT) + self._core.wpe(positions)).unsqueeze(0)

    def context(self, mask_BT: Tensor) -> Context:
        return causal_context(mask_BT, self._core.wte.weight.dtype, self._kernel)

    def attended(self, index: int, x_gBTD: Tensor, context: Context, sites: Sites, read_BR: Tensor | None) -> Tensor:
        block, path = self._blocks[index], self._paths[index]
        own = block.attn
        joined = sites.linear(f"{path}.attn.c_attn", own.c_attn, block.ln_1(x_gBTD))
        q, k, v = joined.split(own.split_size, dim=-1)
        width = own.head_dim
        mixed = attend(
            heads(take(q, read_BR), width),
            heads(k, width),
            heads(v, width),
            context.bias_at(read_BR),
            scale=own.scaling,
            kernel=context.kernel,
        )
        return take(x_gBTD, read_BR) + sites.linear(f"{path}.attn.c_proj", own.c_proj, mixed)

    def fed(self, index: int, h_gBRD: Tensor, sites: Sites) -> Tensor:
        block, place = self._blocks[index], f"{self._paths[index]}.mlp"
        mlp = block.mlp

        def network(x: Tensor) -> Tensor:
            inner = mlp.act(sites.linear(f"{place}.c_fc", mlp.c_fc, x))
            return sites.linear(f"{place}.c_proj", mlp.c_proj, inner)

        return sites.replaced(place, block.ln_2(h_gBRD), network)

    def joined(self, index: int, h_gBTD: Tensor, y_gBRD: Tensor, sites: Sites, read_BR: Tensor | None = None) -> Tensor:
        norm = self._blocks[index].ln_2
        return _joined_stream(self._paths[index], norm, h_gBTD, y_gBRD, sites, read_BR)

    def rows(self, x_gND: Tensor) -> Tensor:
        return self._core.ln_f(x_gND)
