"""Attention over a population: queries, keys and values of one member (g = 1, shared by all) or of each."""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final, Literal, final

import torch
from torch import Tensor
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.nn.functional import pad, scaled_dot_product_attention

from legion.neuro_architecture.packed.precision import widened

__all__ = [
    "Context",
    "Kernel",
    "attend",
    "attend_states",
    "causal_context",
    "heads",
    "padding_context",
    "prefers_states",
    "take",
]

# cuDNN's kernels, which torch prefers on some devices, are planned anew for each shape, which takes milliseconds.
_PLANLESS: Final = [SDPBackend.FLASH_ATTENTION, SDPBackend.EFFICIENT_ATTENTION, SDPBackend.MATH]
# `eager` is two batched products and a softmax, which beats torch's own on CPUs with short texts; `sdpa` is torch's.
Kernel = Literal["eager", "sdpa"]

_FEWEST_ROWS: Final = 4  # of a product: fewer are multiplied by another kernel, which rounds otherwise


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class Context:
    """What every block needs of a batch beside the hidden states.

    Attributes:
        bias: Added to the scores: [B, 1, 1, T] where all positions see the same, [B, 1, T, T] where they do not;
            None where nothing is masked.
        kernel: How attention is computed.
        cos: Rotary tables [1, T, D], where the family has them.
        sin: Likewise.
    """

    bias: Tensor | None
    kernel: Kernel
    cos: Tensor | None = None
    sin: Tensor | None = None

    def bias_at(self, read_BR: Tensor | None) -> Tensor | None:
        """The rows of `bias` for the positions that are read, all of them for None."""
        if self.bias is None or read_BR is None or self.bias.shape[2] == 1:
            return self.bias
        index = read_BR[:, None, :, None].expand(-1, 1, -1, self.bias.shape[-1])
        return self.bias.gather(2, index)


def padding_context(mask_BT: Tensor, dtype: torch.dtype, kernel: Kernel) -> Context:
    """For encoders: every position sees every token that is no padding."""
    if bool(mask_BT.all()):
        return Context(bias=None, kernel=kernel)
    hidden = mask_BT[:, None, None, :] == 0
    bias = torch.zeros(hidden.shape, dtype=dtype, device=mask_BT.device)
    return Context(bias=bias.masked_fill_(hidden, torch.finfo(dtype).min), kernel=kernel)


def causal_context(
    mask_BT: Tensor, dtype: torch.dtype, kernel: Kernel, *, cos: Tensor | None = None, sin: Tensor | None = None
) -> Context:
    """For decoders: every position sees itself and the tokens before it that are no padding."""
    length = mask_BT.shape[1]
    future = torch.ones(length, length, dtype=torch.bool, device=mask_BT.device).triu(1)
    hidden = future | (mask_BT[:, None, None, :] == 0)
    bias = torch.zeros(hidden.shape, dtype=dtype, device=mask_BT.device)
    return Context(bias=bias.masked_fill_(hidden, torch.finfo(dtype).min), kernel=kernel, cos=cos, sin=sin)


def take(x_gBTD: Tensor, read_BR: Tensor | None) -> Tensor:
    """The positions that are read, [g, B, R, D]; all for None."""
    if read_BR is None:
        return x_gBTD
    index = read_BR[None, :, :, None].expand(x_gBTD.shape[0], -1, -1, x_gBTD.shape[-1])
    return x_gBTD.gather(2, index)


def heads(x_gBTD: Tensor, head_dim: int) -> Tensor:
    """Split into heads: [g, B, H, T, head_dim]."""
    return x_gBTD.unflatten(-1, (-1, head_dim)).transpose(2, 3)


def attend(q: Tensor, k: Tensor, v: Tensor, bias: Tensor | None, *, scale: float, kernel: Kernel) -> Tensor:
    """softmax(q k' scale + bias) v, heads joined again: [g, B, R, H * D].

    Args:
        q: [g, B, H, R, D].
        k: [g, B, K, T, D]; where K < H, each head of k serves H / K heads of q (grouped queries).
        v: Likewise. g is 1 or the same number in all three.
        bias: As `Context.bias`, for the rows of q.
        scale: Of the products.
        kernel: How.
    """
    size = max(q.shape[0], k.shape[0], v.shape[0])
    q, k, v = (part.expand(size, *part.shape[1:]) for part in (q, k, v))
    found = _torch_kernel(q, k, v, bias, scale) if kernel == "sdpa" else _eager(q, k, v, bias, scale)
    return found.transpose(2, 3).flatten(3)


def prefers_states(num_read: int, length: int, num_heads: int, width: int) -> bool:
    """Whether `attend_states` takes fewer products than keys and values of all positions would."""
    return num_read * (width + num_heads * length) < length * width


def attend_states(
    q: Tensor,
    x: Tensor,
    bias: Tensor | None,
    *,
    scale: float,
    back: Callable[[Tensor], Tensor],
    ahead: Callable[[Tensor], Tensor],
) -> Tensor:
    """`attend` for few queries, without keys and values: q' (W_k x) = (q' W_k) x, and sum_t a_t (W_v x_t + b) =
    W_v (sum_t a_t x_t) + b since the a_t sum to 1. A key's bias adds one number to all scores of a query, which softmax
    does not see.

    Args:
        q: [g, B, H, R, d].
        x: What keys and values would be made of, [g, B, T, D]; g is 1 or the same number in both.
        bias: As `Context.bias`, for the rows of q.
        scale: Of the scores.
        back: q' W_k of each head, [g, N, H, d] to [g, N, H, D].
        ahead: W_v c + b of each head, [g, N, H, D] to [g, N, H, d].

    Returns:
        [g, B, R, H * d].
    """
    batch, num_heads, num_read = q.shape[1:4]
    u = back(q.transpose(2, 3).flatten(1, 2)).unflatten(1, (batch, num_read))  # [g, B, R, H, D]
    scores = torch.matmul(u.flatten(2, 3) * scale, x.transpose(2, 3)).unflatten(2, (num_read, num_heads))
    if bias is not None:
        scores = scores + bias.transpose(1, 2)
    weights = widened(scores).softmax(-1).to(q.dtype)
    c = torch.matmul(weights.flatten(2, 3), x).unflatten(2, (num_read, num_heads))  # [g, B, R, H, D]
    return ahead(c.flatten(1, 2)).unflatten(1, (batch, num_read)).flatten(3)


def _eager(q: Tensor, k: Tensor, v: Tensor, bias: Tensor | None, scale: float) -> Tensor:
    repeats = q.shape[2] // k.shape[2]
    rows = q.shape[3]
    folded = q.unflatten(2, (k.shape[2], repeats)).flatten(3, 4)  # [g, B, K, repeats * R, D]
    scores = _product(folded, k.transpose(-1, -2))
    # scaled behind the product, as transformers' own eager attention is: before it, every query would be rounded anew
    if bias is None:
        scores = scores * scale
    else:
        scores = torch.add(bias.unsqueeze(2), scores.unflatten(3, (repeats, rows)), alpha=scale).flatten(3, 4)
    weights = widened(scores).softmax(-1).to(q.dtype)
    return _product(weights, v).unflatten(3, (repeats, rows)).flatten(2, 3)


def _product(x: Tensor, matrix: Tensor) -> Tensor:
    """X times a matrix, x filled up to `_FEWEST_ROWS` with zeros: a position read alone is rounded as among all."""
    count = x.shape[-2]
    if count >= _FEWEST_ROWS:
        return x @ matrix
    return (pad(x, (0, 0, 0, _FEWEST_ROWS - count)) @ matrix)[..., :count, :]


def _torch_kernel(q: Tensor, k: Tensor, v: Tensor, bias: Tensor | None, scale: float) -> Tensor:
    size, batch = q.shape[:2]
    flat_bias = None if bias is None else bias.expand(size, *bias.shape).flatten(0, 1)
    with sdpa_kernel(_PLANLESS) if q.is_cuda else contextlib.nullcontext():
        found = scaled_dot_product_attention(
            q.flatten(0, 1),
            k.flatten(0, 1),
            v.flatten(0, 1),
            attn_mask=flat_bias,
            scale=scale,
            enable_gqa=q.shape[2] != k.shape[2],
        )
    return found.unflatten(0, (size, batch))
