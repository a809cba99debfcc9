"""Where the members of a group change what the frozen base computes."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Protocol, final, runtime_checkable

import torch
from torch import Tensor, nn

from legion.neuro_architecture.packed.precision import halved_products

__all__ = ["Correction", "LinearCorrection", "Replacement", "Sites", "add_at", "rows_of"]

# One member's own layer in place of the base's: [B, T, D] to [B, T, E].
Replacement = Callable[[Tensor], Tensor]


class Correction(Protocol):
    """What some members of a group add at one place."""

    def add(self, y: Tensor, x: Tensor, read_BR: Tensor | None) -> Tensor:
        """The members' output y [g, B, T, E] with their corrections of the input x [g, B, T, D]; g as in `trunk`. With
        `read_BR` y is [g, B, R, E], at those positions of x.
        """
        ...


@runtime_checkable
class LinearCorrection(Correction, Protocol):
    """One that is a matrix dW [E, D] for each member. E falls into heads: E = H d, head by head."""

    @property
    def is_linear(self) -> bool:
        """Whether nothing is drawn on the way, such as dropout."""
        ...

    def add_back(self, u: Tensor, q: Tensor) -> Tensor:
        """The rows u [g, N, H, D] with q' dW of each head added, q [g, N, H, d]."""
        ...

    def add_ahead(self, v: Tensor, c: Tensor) -> Tensor:
        """The rows v [g, N, H, d] with dW c of each head added, c [g, N, H, D]."""
        ...


def rows_of(x: Tensor, index: Tensor | None) -> Tensor:
    """The rows of the members at `index` (all for None); what all share stays one row."""
    return x if index is None or x.shape[0] == 1 else x.index_select(0, index)


def add_at(y: Tensor, delta: Tensor, index: Tensor | None, size: int) -> Tensor:
    """Y with `delta` [S, ...] added to the rows of the members at `index`."""
    if index is None:
        return y + delta
    if y.shape[0] == 1 and size > 1:
        y = y.expand(size, *y.shape[1:])
    return y.index_add(0, index, delta)


def _by_head(x_gNHA: Tensor, weight_HAB: Tensor) -> Tensor:
    """One product for each head: [g, N, H, B]."""
    g, n = x_gNHA.shape[:2]
    found = torch.bmm(x_gNHA.flatten(0, 1).transpose(0, 1), weight_HAB)
    return found.transpose(0, 1).unflatten(0, (g, n))


def _linear(correction: Correction) -> LinearCorrection:
    if not isinstance(correction, LinearCorrection):
        raise TypeError(f"{type(correction).__name__} is no matrix")
    return correction


@final
class Sites:
    """The corrections and replacements of a group, by the dotted path of what they change.

    Args:
        size: Members of the group.
        linears: Corrections of single linear layers.
        networks: Corrections of whole feed-forward networks or blocks.
        own_linears: Members' own layers, by path and by the member's place in the group.
        own_networks: Members' own networks, likewise; a group that has any corrects nothing inside its networks.
    """

    def __init__(
        self,
        size: int,
        linears: Mapping[str, Sequence[Correction]],
        networks: Mapping[str, Sequence[Correction]],
        own_linears: Mapping[str, Mapping[int, Replacement]],
        own_networks: Mapping[str, Mapping[int, Replacement]],
    ) -> None:
        self._size = size
        self._linears = linears
        self._networks = networks
        self._own_linears = own_linears
        self._own_networks = own_networks

    @classmethod
    def none(cls) -> Sites:
        """The bare base."""
        return cls(1, {}, {}, {}, {})

    def linear(self, path: str, module: nn.Module, x: Tensor) -> Tensor:
        """A linear layer of the base with what members make of it."""
        y = self._compute(self._own_linears.get(path), x, module)
        for correction in self._linears.get(path, ()):
            y = correction.add(y, x, None)
        return y

    def is_linear(self, path: str) -> bool:
        """Whether every member's layer at `path` is a matrix and a bias: `back` and `ahead` need that."""
        corrections = self._linears.get(path, ())
        return path not in self._own_linears and all(
            isinstance(item, LinearCorrection) and item.is_linear for item in corrections
        )

    def back(self, path: str, module: nn.Linear, q: Tensor) -> Tensor:
        """The product q' W of each head: [g, N, H, d] to [g, N, H, D], W [H d, D] the members' weight."""
        u = _by_head(q, module.weight.unflatten(0, (q.shape[2], q.shape[3])))
        for correction in self._linears.get(path, ()):
            u = _linear(correction).add_back(u, q)
        return u

    def ahead(self, path: str, module: nn.Linear, c: Tensor) -> Tensor:
        """W c + b of each head's own c: [g, N, H, D] to [g, N, H, d], W [H d, D] the members' weight."""
        weight = module.weight.unflatten(0, (c.shape[2], -1))
        v = _by_head(c, weight.transpose(1, 2))
        for correction in self._linears.get(path, ()):
            v = _linear(correction).add_ahead(v, c)
        return v if module.bias is None else v + module.bias.unflatten(0, (c.shape[2], -1))

    def replaced(self, path: str, x: Tensor, compute: Replacement) -> Tensor:
        """A feed-forward network, or the members' own in its place."""
        return self._compute(self._own_networks.get(path), x, compute)

    def corrects(self, path: str) -> bool:
        """Whether `corrected` adds anything at `path`."""
        return path in self._networks

    def corrected(self, path: str, y: Tensor, x: Tensor, read_BR: Tensor | None = None) -> Tensor:
        """A feed-forward network's output y of x, or the stream (y is x), with what members add to it; with `read_BR`
        y has those positions of x alone.
        """
        for correction in self._networks.get(path, ()):
            y = correction.add(y, x, read_BR)
        return y

    def _compute(self, own: Mapping[int, Replacement] | None, x: Tensor, compute: Replacement) -> Tensor:
        if not own:
            return compute(x)
        each = x.expand(self._size, *x.shape[1:])
        with halved_products(x.dtype, x.device):
            owned = {place: layer(each[place]).to(x.dtype) for place, layer in own.items()}
        rest = [place for place in range(self._size) if place not in own]
        if not rest:
            return torch.stack([owned[place] for place in range(self._size)])
        # A list as an index would be copied to the device, which no recorded step may do.
        shared = compute(x if x.shape[0] == 1 else torch.stack([x[place] for place in rest]))
        rows = {place: shared[0 if x.shape[0] == 1 else number] for number, place in enumerate(rest)}
        return torch.stack([owned[place] if place in own else rows[place] for place in range(self._size)])
