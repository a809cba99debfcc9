"""Bottleneck experts behind a softmax router, computed two ways that give the same numbers."""

from __future__ import annotations

from typing import final

import torch
from torch import nn
from transformers.activations import ACT2FN

from legion.neuro_architecture.adapters.correction import drawn
from legion.neuro_architecture.spec.architecture import WIDEST_DENSE_MIXTURE

__all__ = ["ExpertMixture"]


@final
class ExpertMixture(nn.Module):
    """sum over the top_k largest p_e of p_e * expert_e(x), p = softmax(W_r x), not renormalised.

    An expert is W_down f(W_up x + b_up) + b_down, or gated and without biases: W_down (f(W_gate x) * (W_up x)). Experts
    are stacked: `up` and `gate` are [num_experts, inner, width], `down` is [num_experts, inner, width] (its rows are
    what an inner unit writes). `down` and its bias start at zero, so a fresh mixture corrects nothing; the router
    starts random, so that experts part.

    Args:
        width: Width of the residual stream.
        inner: Inner width of one expert.
        activation: f, as transformers spells it.
        num_experts: Experts to choose from.
        top_k: Experts a token is sent to.
        is_gated: The gated form.
    """

    def __init__(
        self, width: int, inner: int, activation: str, *, num_experts: int, top_k: int, is_gated: bool
    ) -> None:
        super().__init__()
        self.top_k = top_k
        self.router = drawn(num_experts, width, fan_in=width)
        self.gate = drawn(num_experts, inner, width, fan_in=width) if is_gated else None
        self.up = drawn(num_experts, inner, width, fan_in=width)
        self.up_bias = None if is_gated else drawn(num_experts, inner, fan_in=width)
        self.down = nn.Parameter(torch.zeros(num_experts, inner, width))
        self.down_bias = None if is_gated else nn.Parameter(torch.zeros(num_experts, width))
        self.activation = ACT2FN[activation]
        self._logits: torch.Tensor | None = None

    def take_logits(self) -> torch.Tensor:
        """The router's logits of the last pass, [..., num_experts], given away once."""
        logits, self._logits = self._logits, None
        if logits is None:
            raise RuntimeError("the mixture has not run since its logits were taken")
        return logits

    @property
    def is_dense(self) -> bool:
        """Whether all experts are computed for every token: cheaper, but for wide mixtures on the CPU."""
        num_experts, inner, _ = self.up.shape
        return self.up.device.type != "cpu" or num_experts * inner <= WIDEST_DENSE_MIXTURE

    def forward(self, x_BTD: torch.Tensor) -> torch.Tensor:
        self._logits = nn.functional.linear(x_BTD, self.router)
        x_ND = x_BTD.reshape(-1, x_BTD.shape[-1])
        p_NE = self._logits.float().softmax(-1).reshape(x_ND.shape[0], -1).to(x_ND.dtype)
        top = p_NE.topk(self.top_k, dim=-1)
        if self.is_dense:
            y_ND = self._dense(x_ND, torch.zeros_like(p_NE).scatter(-1, top.indices, top.values))
        else:
            y_ND = self._sparse(x_ND, top.values, top.indices)
        return y_ND.reshape(x_BTD.shape)

    def _dense(self, x_ND: torch.Tensor, weight_NE: torch.Tensor) -> torch.Tensor:
        """All experts as one wide bottleneck, whose units are scaled by their expert's weight (0 where not chosen)."""
        num_experts, inner, width = self.up.shape
        hidden = nn.functional.linear(x_ND, self.up.flatten(0, 1), _flat(self.up_bias))
        if self.gate is None:
            hidden = self.activation(hidden)
        else:
            hidden = self.activation(nn.functional.linear(x_ND, self.gate.flatten(0, 1))) * hidden
        hidden_NEM = hidden.view(-1, num_experts, inner) * weight_NE.unsqueeze(-1)
        y_ND = hidden_NEM.flatten(1) @ self.down.view(num_experts * inner, width)
        return y_ND if self.down_bias is None else y_ND + weight_NE @ self.down_bias

    def _sparse(self, x_ND: torch.Tensor, weight_NK: torch.Tensor, expert_NK: torch.Tensor) -> torch.Tensor:
        """Each expert over its own tokens only."""
        y_ND = torch.zeros_like(x_ND)
        for expert in range(self.up.shape[0]):
            token, slot = (expert_NK == expert).nonzero(as_tuple=True)
            x_nD = x_ND[token]
            hidden = nn.functional.linear(x_nD, self.up[expert], None if self.up_bias is None else self.up_bias[expert])
            if self.gate is None:
                hidden = self.activation(hidden)
            else:
                hidden = self.activation(nn.functional.linear(x_nD, self.gate[expert])) * hidden
            y_nD = hidden @ self.down[expert]
            y_nD = y_nD if self.down_bias is None else y_nD + self.down_bias[expert]
            weighted_nD = y_nD * weight_NK[token, slot].unsqueeze(-1)
            y_ND = y_ND.index_add(0, token, weighted_nD.to(y_ND.dtype))  # fp32 biases beside bf16 tokens widen it
        return y_ND


def _flat(bias_EM: torch.Tensor | None) -> torch.Tensor | None:
    return None if bias_EM is None else bias_EM.flatten()
