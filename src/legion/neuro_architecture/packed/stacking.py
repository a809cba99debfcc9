"""One tensor for the same weight of many members: zero-padded, each member's part a view of it.

Padding needs no mask. A padded row of LoRA's A meets a zero row of B, a padded unit of a bottleneck sends f(0) = 0
through a zero row of `down`: its output and all its gradients are exactly zero, and AdamW leaves a zero with zero
gradients where it is.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, final

import torch
from torch import Tensor, nn

__all__ = ["Arena", "Gradients", "Piece", "Stack", "loose_piece", "own_piece"]

_ALIGNMENT: Final = 64


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class Piece:
    """One weight of one member, where it lies.

    Attributes:
        parameter: As the member's model holds it: the same memory, seen transposed where `is_transposed`.
        weight: Contiguous.
        gradient: Likewise; autograd adds to it in place.
        is_transposed: Whether `weight` is the parameter's transpose.
    """

    parameter: nn.Parameter
    weight: Tensor
    gradient: Tensor
    is_transposed: bool = False

    def oriented(self, other: Tensor) -> Tensor:
        """A tensor of `weight`'s shape, seen as the parameter is."""
        return other.T if self.is_transposed else other


@final
class Arena:
    """Memory for gradients, one and the same for all groups that step one after another.

    A group zeroes its gradients before a pass and has used them up after its update, so the next may write over them.
    """

    def __init__(self) -> None:
        self._storage: torch.UntypedStorage | None = None

    def gradients(self) -> Gradients:
        """For a group: its gradients begin where every other's do."""
        return Gradients(self)

    def view(self, like: Tensor, begin: int) -> Tensor:
        """A tensor like the contiguous `like`, `begin` bytes into the memory, which grows as needed."""
        if self._storage is None:
            self._storage = torch.empty(0, dtype=torch.uint8, device=like.device).untyped_storage()
        end = begin + like.numel() * like.element_size()
        if end > self._storage.nbytes():
            self._storage.resize_(end)
        empty = torch.empty(0, dtype=like.dtype, device=like.device)
        return empty.set_(self._storage, begin // like.element_size(), like.shape, like.stride())


@final
class Gradients:
    """The gradients of one group, one behind the other in an arena."""

    def __init__(self, arena: Arena) -> None:
        self._arena = arena
        self._end = 0

    def of(self, weight: Tensor) -> Tensor:
        """The gradient of a weight: contiguous, of its shape and type, holding whatever was there."""
        view = self._arena.view(weight, self._end)
        self._end += -(-view.numel() * view.element_size() // _ALIGNMENT) * _ALIGNMENT
        return view


def loose_piece(parameter: nn.Parameter) -> Piece:
    """A weight that no group holds yet: it cannot be stepped."""
    parameter.data = parameter.data.contiguous()
    return Piece(parameter=parameter, weight=parameter.data, gradient=torch.empty(0))


def own_piece(parameter: nn.Parameter, gradients: Gradients) -> Piece:
    """A weight that is not stacked: the parameter itself, with a gradient that stays where it is."""
    parameter.data = parameter.data.contiguous()
    parameter.grad = gradients.of(parameter.data)
    return Piece(parameter=parameter, weight=parameter.data, gradient=parameter.grad)


@final
class Stack:
    """The weights of several members as one leaf tensor [S, ...], padded with zeros to the largest.

    The members' parameters become views of it, so what reads a member's model reads the stack.

    Args:
        parameters: One of each member, of one number of dimensions and the same trailing sizes once turned.
        gradients: Where the gradient goes.
        is_transposed: Whether the stack holds their transposes, so that what is padded comes first and each member's
            part is contiguous.
    """

    def __init__(
        self, parameters: Sequence[nn.Parameter], gradients: Gradients, *, is_transposed: bool = False
    ) -> None:
        turned = [item.data.T if is_transposed else item.data for item in parameters]
        shape = [max(sizes) for sizes in zip(*(item.shape for item in turned), strict=True)]
        self.leaf = torch.zeros(len(turned), *shape, dtype=turned[0].dtype, device=turned[0].device)
        for place, item in enumerate(turned):
            self.leaf[place, : item.shape[0]] = item
        self.leaf.requires_grad_()
        self.leaf.grad = gradients.of(self.leaf.detach())
        whole_weight, whole_gradient = self.leaf.detach(), self.leaf.grad
        pieces = []
        for place, (parameter, item) in enumerate(zip(parameters, turned, strict=True)):
            weight, gradient = (whole[place, : item.shape[0]] for whole in (whole_weight, whole_gradient))
            parameter.grad = None
            parameter.data = weight.T if is_transposed else weight
            pieces.append(Piece(parameter=parameter, weight=weight, gradient=gradient, is_transposed=is_transposed))
        self.pieces = tuple(pieces)
