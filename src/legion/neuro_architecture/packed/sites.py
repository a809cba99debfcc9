"""Where the members of a group change what the frozen base computes."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Protocol, final

import torch
from torch import Tensor, nn

from legion.neuro_architecture.packed.precision import halved_products

__all__ = ["Correction", "Replacement", "Sites", "add_at", "rows_of"]

# One member's own layer in place of the base's: [B, T, D] to [B, T, E].
Replacement = Callable[[Tensor], Tensor]


class Correction(Protocol):
    """What some members of a group add at one place."""

    def add(self, y: Tensor, x: Tensor) -> Tensor:
        """The members' output y [g, B, T, E] with their corrections of the input x [g, B, T, D]; g as in `trunk`."""
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
            y = correction.add(y, x)
        return y

    def network(self, path: str, x: Tensor, compute: Replacement) -> Tensor:
        """A feed-forward network, or a block whose output is x, with what members make of it."""
        y = self._compute(self._own_networks.get(path), x, compute)
        for correction in self._networks.get(path, ()):
            y = correction.add(y, x)
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
        shared = compute(x if x.shape[0] == 1 else x[rest])
        rows = {place: shared[0 if x.shape[0] == 1 else number] for number, place in enumerate(rest)}
        return torch.stack([owned[place] if place in own else rows[place] for place in range(self._size)])
