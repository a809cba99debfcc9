"""What a bottleneck and a mixture have in common: how a correction joins the feed-forward network that it wraps."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import torch
from torch import nn

__all__ = ["active", "correct", "drawn", "settle"]


def correct(
    base_layer: nn.Module,
    corrections: Sequence[nn.Module],
    inputs: tuple[Any, ...],
    named: dict[str, Any],
    *,
    style: str,
    placement: str,
) -> Any:
    """The output of `base_layer` with the corrections added where its style says.

    `residual`: base_layer(h, x) normalises W h + x, so the correction of x is added to x. `output`: the correction of
    the input (`par`) or of the output (`seq`, `seq_layer`) is added to the output. A block may give a tuple, whose
    first item is the hidden state.
    """
    if style == "residual":
        hidden, x_BTD, *rest = inputs
        return base_layer(hidden, _add(x_BTD, x_BTD, corrections), *rest, **named)
    y_BTD = base_layer(*inputs, **named)
    if isinstance(y_BTD, tuple):
        first_BTD, *others = y_BTD
        return (_add(first_BTD, inputs[0] if placement == "par" else first_BTD, corrections), *others)
    return _add(y_BTD, inputs[0] if placement == "par" else y_BTD, corrections)


def _add(y_BTD: torch.Tensor, x_BTD: torch.Tensor, corrections: Sequence[nn.Module]) -> torch.Tensor:
    for correction in corrections:
        dtype = next(correction.parameters()).dtype
        y_BTD = y_BTD + correction(x_BTD.to(dtype)).to(y_BTD.dtype)
    return y_BTD


def settle(module: nn.Module, base_layer: nn.Module) -> nn.Module:
    """`module` on the device and in the dtype of what it corrects; weights without storage stay where they are."""
    reference = next((weight for weight in base_layer.parameters() if weight.is_floating_point()), None)
    if reference is None or any(weight.is_meta for weight in module.parameters()):
        return module
    return module.to(reference.device, reference.dtype)


def active(layer: Any, adapters: nn.ModuleDict) -> list[nn.Module]:
    """Those of a tuner layer's `adapters` that are switched on."""
    if layer.disable_adapters:
        return []
    return [adapters[name] for name in layer.active_adapters if name in adapters]


def drawn(*shape: int, fan_in: int) -> nn.Parameter:
    """A parameter as `nn.Linear` draws its weights and biases: uniform within 1 / sqrt(fan_in)."""
    bound = 1.0 / math.sqrt(fan_in)
    return nn.Parameter(torch.empty(*shape).uniform_(-bound, bound))
