"""Bottleneck experts without a router: one is drawn at each step, their average serves. Source: arXiv:2205.12410."""

from __future__ import annotations

from typing import final

import torch
from torch import nn
from torch.nn.functional import linear
from transformers.activations import ACT2FN

from legion.neuro_architecture.adapters.correction import drawn

__all__ = ["RandomMixture", "average_experts"]


@final
class RandomMixture(nn.Module):
    """AdaMix: while training, the up- and the down-projection of experts drawn apart; else of the experts' average.

    Experts are stacked as in `ExpertMixture`: `up` and `gate` are [num_experts, inner, width], `up_bias`
    [num_experts, inner], `down` [num_experts, inner, width] (its rows are what an inner unit writes), `down_bias`
    [num_experts, width]; there is no `router`. `down` and its bias start at zero, so a fresh mixture corrects nothing.

    The two draws of a pass come from `generator`, or from torch's default generator on the CPU as dropout's do where it
    is None: whoever seeds a step (the trainer does) gets the same step again, also in a process that resumes.

    Args:
        width: Width of the residual stream.
        inner: Inner width of one expert.
        activation: f, as transformers spells it.
        num_experts: Experts to draw from.
        is_gated: The gated form, without biases.
    """

    def __init__(self, width: int, inner: int, activation: str, *, num_experts: int, is_gated: bool) -> None:
        super().__init__()
        self.gate = drawn(num_experts, inner, width, fan_in=width) if is_gated else None
        self.up = drawn(num_experts, inner, width, fan_in=width)
        self.up_bias = None if is_gated else drawn(num_experts, inner, fan_in=width)
        self.down = nn.Parameter(torch.zeros(num_experts, inner, width))
        self.down_bias = None if is_gated else nn.Parameter(torch.zeros(num_experts, width))
        self.activation = ACT2FN[activation]
        self.generator: torch.Generator | None = None

    def forward(self, x_BTD: torch.Tensor) -> torch.Tensor:
        tensors = self._drawn() if self.training else average_experts(self)
        inner_BTM = linear(x_BTD, tensors["up"], tensors.get("up_bias"))
        if self.gate is None:
            inner_BTM = self.activation(inner_BTM)
        else:
            inner_BTM = self.activation(linear(x_BTD, tensors["gate"])) * inner_BTM
        return linear(inner_BTM, tensors["down"], tensors.get("down_bias"))

    def _drawn(self) -> dict[str, torch.Tensor]:
        rising, falling = torch.randint(len(self.up), (2,), generator=self.generator).tolist()
        return {
            name: weight[falling].T if name == "down" else weight[falling if name == "down_bias" else rising]
            for name, weight in self.named_parameters()
        }


def average_experts(mixture: RandomMixture) -> dict[str, torch.Tensor]:
    """The tensors of the one `Bottleneck` that the mixture serves as: `up`, `down` [width, inner], `gate` or biases."""
    return {name: weight.mean(0).T if name == "down" else weight.mean(0) for name, weight in mixture.named_parameters()}
