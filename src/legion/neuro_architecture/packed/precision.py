"""What is never computed in less than fp32, whatever the base is held in."""

from __future__ import annotations

import contextlib

import torch
from torch import Tensor

__all__ = ["halved_products", "widened", "wider"]


def wider(dtype: torch.dtype) -> torch.dtype:
    """fp32 for a base in fp32 or less, fp64 for one in fp64: of weights that are trained, losses and sums."""
    return torch.promote_types(dtype, torch.float32)


def halved_products(dtype: torch.dtype, device: torch.device) -> contextlib.AbstractContextManager[object]:
    """Within, modules whose weights are in fp32 take activations of a base in bf16; nothing for a base in fp32."""
    if wider(dtype) is dtype:
        return contextlib.nullcontext()
    return torch.autocast(device.type, dtype=dtype)


def widened(x: Tensor) -> Tensor:
    """The tensor in `wider` of its dtype."""
    return x.to(wider(x.dtype))
