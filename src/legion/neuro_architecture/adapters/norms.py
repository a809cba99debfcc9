"""The norm of a family's blocks, as a correction behind a whole block repeats it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal, final

import torch
from torch.nn.functional import layer_norm

from legion.foundation.errors import AdapterError
from legion.neuro_architecture.anatomy import ModelAnatomy

__all__ = ["BlockNorm", "apply_norm", "norm_of"]


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class BlockNorm:
    """`rms` has weights alone, `layer` weights and biases.

    Attributes:
        kind: Which.
        eps: What is added to the variance: the base's own.
    """

    kind: Literal["rms", "layer"]
    eps: float


def norm_of(model: Any, anatomy: ModelAnatomy) -> BlockNorm:
    """The norm before a block's parts.

    Raises:
        AdapterError: the blocks end in a norm (BERT), or the config does not tell the norm's epsilon.
    """
    config = model.config.get_text_config()
    for key, kind in (("rms_norm_eps", "rms"), ("layer_norm_epsilon", "layer"), ("layer_norm_eps", "layer")):
        eps = getattr(config, key, None)
        if eps is not None and anatomy.final_norm_parameters:
            return BlockNorm(kind="rms" if kind == "rms" else "layer", eps=float(eps))
    raise AdapterError(
        f"{anatomy.model_type} takes no correction behind a whole block",
        cause="seq_layer needs blocks that read the residual stream through a norm and write to it without one",
        hint="choose placement par or seq",
    )


def apply_norm(
    x_BTD: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor | None, *, kind: str, eps: float
) -> torch.Tensor:
    """X normalised; `rms` is computed in no less than float32 inside, as transformers' `LlamaRMSNorm` is."""
    if kind == "layer":
        return layer_norm(x_BTD, weight.shape, weight, bias, eps)
    wide_BTD = x_BTD.to(torch.promote_types(x_BTD.dtype, torch.float32))
    variance_BT1 = wide_BTD.pow(2).mean(-1, keepdim=True)
    return weight * (wide_BTD * torch.rsqrt(variance_BT1 + eps)).to(x_BTD.dtype)
