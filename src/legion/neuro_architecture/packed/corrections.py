"""The corrections of a group's members, those of one family as one batched product."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import final

import torch
from torch import Tensor, nn
from torch.nn.functional import linear

from legion.neuro_architecture.adapters.norms import BlockNorm
from legion.neuro_architecture.packed.attention import take
from legion.neuro_architecture.packed.precision import halved_products, widened
from legion.neuro_architecture.packed.sites import add_at, rows_of
from legion.neuro_architecture.packed.stacking import Stack

__all__ = ["Bottlenecks", "Draw", "LowRanks", "SingleCorrection", "index_of", "rise"]

# Gives a member's own 0-1 mask for one pass: (place in the group, shape, share that is dropped) to a tensor scaled by
# 1 / (1 - share), or None outside training.
Draw = Callable[[int, tuple[int, ...], float], Tensor | None]


def index_of(places: Sequence[int], size: int, device: torch.device) -> Tensor | None:
    """Where the corrected members stand in their group; None where they are all of it, in order."""
    if list(places) == list(range(size)):
        return None
    return torch.tensor(list(places), device=device)


@final
class LowRanks:
    """LoRA of several members at one linear layer: y + scale (x A') B', ranks padded to the largest.

    Args:
        places: The members' places in the group, rising.
        size: Members of the group.
        a: [S, rank, D].
        b: [S, rank, E]: B' of PEFT.
        scales: alpha / rank, or as the method says, of each.
        dropouts: Share of the inputs of A dropped while training, of each.
        draw: Where masks come from.
    """

    def __init__(
        self,
        places: Sequence[int],
        size: int,
        a: Stack,
        b: Stack,
        *,
        scales: Sequence[float],
        dropouts: Sequence[float],
        draw: Draw,
    ) -> None:
        device = a.leaf.device
        self._places = tuple(places)
        self._size = size
        self._index = index_of(places, size, device)
        self._a, self._b = a.leaf, b.leaf
        self._scales_S11 = torch.tensor(scales, device=device, dtype=a.leaf.dtype)[:, None, None]
        self._dropouts = tuple(dropouts)
        self._draw = draw

    def add(self, y: Tensor, x: Tensor, read_BR: Tensor | None) -> Tensor:
        x = take(x, read_BR)
        dtype, (batch, length, _) = x.dtype, x.shape[1:]
        a, b = self._a.to(dtype), self._b.to(dtype)
        rows = self._dropped(rows_of(x, self._index))
        if rows.shape[0] == 1:
            # one product with all members' A side by side: the shared input is read once
            inner = linear(rows.flatten(0, 2), a.flatten(0, 1)).unflatten(-1, a.shape[:2]).transpose(0, 1)
        else:
            inner = torch.bmm(rows.flatten(1, 2), a.transpose(1, 2))
        delta = torch.bmm(inner * self._scales_S11.to(dtype), b).unflatten(1, (batch, length))
        return add_at(y, delta, self._index, self._size)

    @property
    def is_linear(self) -> bool:
        return not any(self._dropouts)

    def add_back(self, u: Tensor, q: Tensor) -> Tensor:
        a, b_SHdR = self._a.to(q.dtype), self._heads(q.shape[2]).to(q.dtype).transpose(2, 3)
        rows = self._each(q)
        inner = torch.matmul(rows.transpose(1, 2), b_SHdR) * self._scales_S11.to(q.dtype).unsqueeze(-1)
        delta = torch.bmm(inner.flatten(1, 2), a).unflatten(1, (q.shape[2], q.shape[1]))
        return add_at(u, delta.transpose(1, 2), self._index, self._size)

    def add_ahead(self, v: Tensor, c: Tensor) -> Tensor:
        a, b_SHRd = self._a.to(c.dtype), self._heads(c.shape[2]).to(c.dtype)
        rows = self._each(c)
        inner = torch.bmm(rows.flatten(1, 2), a.transpose(1, 2)).unflatten(1, rows.shape[1:3])
        scaled = inner.transpose(1, 2) * self._scales_S11.to(c.dtype).unsqueeze(-1)
        delta = torch.matmul(scaled, b_SHRd)
        return add_at(v, delta.transpose(1, 2), self._index, self._size)

    def _heads(self, count: int) -> Tensor:
        """B' head by head, [S, H, rank, d]."""
        return self._b.unflatten(-1, (count, -1)).transpose(1, 2)

    def _each(self, x: Tensor) -> Tensor:
        """A row for each of the members."""
        rows = rows_of(x, self._index)
        return rows.expand(len(self._places), *rows.shape[1:])

    def _dropped(self, rows: Tensor) -> Tensor:
        if not any(self._dropouts):
            return rows
        shape = tuple(rows.shape[1:])
        masks = [self._draw(place, shape, share) for place, share in zip(self._places, self._dropouts, strict=True)]
        found = next((mask for mask in masks if mask is not None), None)
        if found is None:
            return rows
        whole = torch.ones_like(found)
        return rows * torch.stack([whole if mask is None else mask for mask in masks]).to(rows.dtype)


@final
class Bottlenecks:
    """Bottlenecks of several members at one place, of one form; inner widths padded to the largest.

    Args:
        places: The members' places in the group, rising.
        size: Members of the group.
        tensors: `up` [S, M, D], `down` [S, M, D], and `gate`, `up_bias` [S, M], `down_bias` [S, D], `norm` [S, D],
            `norm_bias` where the form has them.
        widths: Inner width of each member.
        activation: f.
        norm: The norm in front, or None.
        dropouts: Share of inner activations dropped while training, of each.
        is_parallel: Whether the input is corrected, or the output.
        draw: Where masks come from.
    """

    def __init__(
        self,
        places: Sequence[int],
        size: int,
        tensors: dict[str, Stack],
        *,
        widths: Sequence[int],
        activation: nn.Module,
        norm: BlockNorm | None,
        dropouts: Sequence[float],
        is_parallel: bool,
        draw: Draw,
    ) -> None:
        self._places = tuple(places)
        self._size = size
        self._index = index_of(places, size, tensors["up"].leaf.device)
        self._tensors = {name: stack.leaf for name, stack in tensors.items()}
        self._widths = tuple(widths)
        self._activation = activation
        self._norm = norm
        self._dropouts = tuple(dropouts)
        self._is_parallel = is_parallel
        self._draw = draw

    def add(self, y: Tensor, x: Tensor, read_BR: Tensor | None) -> Tensor:
        source = take(x, read_BR) if self._is_parallel else y
        batch, length = source.shape[1:3]
        tensors = {name: leaf.to(source.dtype) for name, leaf in self._tensors.items()}
        rows = self._normed(rows_of(source, self._index).flatten(1, 2), tensors)
        inner = rise(rows, tensors["up"], tensors.get("up_bias"))
        gate = tensors.get("gate")
        inner = self._activation(inner) if gate is None else self._activation(rise(rows, gate, None)) * inner
        delta = torch.bmm(self._dropped(inner), tensors["down"])
        bias = tensors.get("down_bias")
        delta = delta if bias is None else delta + bias.unsqueeze(1)
        return add_at(y, delta.unflatten(1, (batch, length)), self._index, self._size)

    def _normed(self, rows: Tensor, tensors: dict[str, Tensor]) -> Tensor:
        if self._norm is None:
            return rows
        wide = widened(rows)
        if self._norm.kind == "rms":
            normed = wide * torch.rsqrt(wide.pow(2).mean(-1, keepdim=True) + self._norm.eps)
        else:
            normed = nn.functional.layer_norm(wide, wide.shape[-1:], eps=self._norm.eps)
        normed = tensors["norm"].unsqueeze(1) * normed.to(rows.dtype)
        bias = tensors.get("norm_bias")
        return normed if bias is None else normed + bias.unsqueeze(1)

    def _dropped(self, inner: Tensor) -> Tensor:
        if not any(self._dropouts):
            return inner
        masks = torch.ones_like(inner)
        for number, (place, share, width) in enumerate(zip(self._places, self._dropouts, self._widths, strict=True)):
            mask = self._draw(place, (inner.shape[1], width), share)
            if mask is not None:
                masks[number, :, :width] = mask.to(inner.dtype)
        return inner * masks


def rise(rows: Tensor, weight_SMD: Tensor, bias_SM: Tensor | None) -> Tensor:
    """X W' + b for each member, [S, N, M]; one product where all members share x."""
    if rows.shape[0] == 1:
        flat = linear(rows[0], weight_SMD.flatten(0, 1), None if bias_SM is None else bias_SM.flatten())
        return flat.unflatten(-1, weight_SMD.shape[:2]).transpose(0, 1)
    risen = torch.bmm(rows, weight_SMD.transpose(1, 2))
    return risen if bias_SM is None else risen + bias_SM.unsqueeze(1)


@final
class SingleCorrection:
    """One member's correction that is not stacked: its own module, on its own rows.

    Args:
        place: The member's place in the group.
        size: Members of the group.
        module: Gives the correction of [B, T, D].
        is_parallel: Whether the input is corrected, or the output.
    """

    def __init__(self, place: int, size: int, module: Callable[[Tensor], Tensor], *, is_parallel: bool) -> None:
        self._place = place
        self._size = size
        self._module = module
        self._is_parallel = is_parallel
        self._index: Tensor | None = None

    def add(self, y: Tensor, x: Tensor, read_BR: Tensor | None) -> Tensor:
        source = x if self._is_parallel else y
        if self._index is None or self._index.device != y.device:
            self._index = torch.tensor([self._place], device=y.device)
        row = source[0 if source.shape[0] == 1 else self._place]
        with halved_products(row.dtype, row.device):
            delta = self._module(row).to(y.dtype).unsqueeze(0)  # a router sees all positions
        if self._is_parallel:
            delta = take(delta, read_BR)
        return add_at(y, delta, None if self._size == 1 else self._index, self._size)
