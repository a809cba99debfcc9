"""What is never computed in less than fp32, whatever the base is held in."""

from __future__ import annotations

import torch
from torch import Tensor

__all__ = ["widened", "wider"]


def wider(dtype: torch.dtype) -> torch.dtype:
    """fp32 for a base in fp32 or less, fp64 for one in fp64: of weights that are trained, losses and sums."""
    return torch.promote_types(dtype, torch.float32)


def widened(x: Tensor) -> Tensor:
    """The tensor in `wider` of its dtype."""
    return x.to(wider(x.dtype))
