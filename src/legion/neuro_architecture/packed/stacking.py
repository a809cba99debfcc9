"""One tensor for the same weight of many members: zero-padded, each member's part a view of it.

Padding needs no mask. A padded row of LoRA's A meets a zero row of B, a padded unit of a bottleneck sends f(0) = 0
through a zero row of `down`: its output and all its gradients are exactly zero, and AdamW leaves a zero with zero
gradients where it is.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import final

import torch
from torch import Tensor, nn

__all__ = ["Piece", "Stack", "own_piece"]


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


def own_piece(parameter: nn.Parameter) -> Piece:
    """A weight that is not stacked: the parameter itself, with a gradient that stays where it is."""
    parameter.data = parameter.data.contiguous()
    parameter.grad = torch.zeros_like(parameter.data)
    return Piece(parameter=parameter, weight=parameter.data, gradient=parameter.grad)


@final
class Stack:
    """The weights of several members as one leaf tensor [S, ...], padded with zeros to the largest.

    The members' parameters become views of it, so what reads a member's model reads the stack.

    Args:
        parameters: One of each member, of one number of dimensions and the same trailing sizes once turned.
        is_transposed: Whether the stack holds their transposes, so that what is padded comes first and each member's
            part is contiguous.
    """

    def __init__(self, parameters: Sequence[nn.Parameter], *, is_transposed: bool = False) -> None:
        turned = [item.data.T if is_transposed else item.data for item in parameters]
        shape = [max(sizes) for sizes in zip(*(item.shape for item in turned), strict=True)]
        self.leaf = torch.zeros(len(turned), *shape, dtype=turned[0].dtype, device=turned[0].device)
        for place, item in enumerate(turned):
            self.leaf[place, : item.shape[0]] = item
        self.leaf.requires_grad_()
        self.leaf.grad = torch.zeros_like(self.leaf)
        weights, gradients = self.leaf.detach(), self.leaf.grad
        pieces = []
        for place, (parameter, item) in enumerate(zip(parameters, turned, strict=True)):
            weight, gradient = (whole[place, : item.shape[0]] for whole in (weights, gradients))
            parameter.grad = None
            parameter.data = weight.T if is_transposed else weight
            pieces.append(Piece(parameter=parameter, weight=weight, gradient=gradient, is_transposed=is_transposed))
        self.pieces = tuple(pieces)
