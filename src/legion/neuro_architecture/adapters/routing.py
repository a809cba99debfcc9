"""What a router did in the last forward pass: its logits, the balance loss made from them, and who was used."""

from __future__ import annotations

import inspect
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, final

import torch
from torch import nn

__all__ = ["ExpertUsage", "RoutingTrace", "load_balance_loss"]


@final
class RoutingTrace:
    """Router logits of the last forward pass with its attention mask.

    One trace belongs to one model and is written by its forward pass, so a model is used by one thread at a time. A
    copy of a trace starts empty: logits hold on to their graph.
    """

    def __init__(self) -> None:
        self.attention_mask: torch.Tensor | None = None
        self.logits: dict[str, torch.Tensor] = {}

    def __deepcopy__(self, memo: dict[int, Any]) -> RoutingTrace:
        return RoutingTrace()

    def __reduce__(self) -> tuple[type[RoutingTrace], tuple[()]]:
        return RoutingTrace, ()

    def begin(self, model: nn.Module, inputs: tuple[Any, ...], named: dict[str, Any]) -> None:
        """Forward pre-hook of the model: forgets the last pass and keeps this one's attention mask."""
        self.logits = {}
        if "attention_mask" not in named and len(inputs) > 1:
            named = inspect.signature(model.forward).bind_partial(*inputs, **named).arguments
        mask = named.get("attention_mask")
        self.attention_mask = mask if isinstance(mask, torch.Tensor) and mask.dim() == 2 else None

    def note(self, path: str, logits_BTE: torch.Tensor) -> None:
        self.logits[path] = logits_BTE

    def mask_of(self, logits_BTE: torch.Tensor) -> torch.Tensor | None:
        """1 where a token counts, [B, T], or None where no mask is known. A cached prefix's columns are cut off."""
        mask = self.attention_mask
        batch, length = logits_BTE.shape[:2]
        if mask is None or logits_BTE.dim() != 3 or mask.shape[0] != batch or mask.shape[1] < length:
            return None
        return mask[:, mask.shape[1] - length :].to(logits_BTE.device)


def load_balance_loss(
    logits: Sequence[torch.Tensor], *, top_k: int, masks: Sequence[torch.Tensor | None]
) -> torch.Tensor:
    """num_experts * sum_e f_e p_e over the tokens of all layers together. Source: arXiv:2101.03961, eq. 4 to 6.

    f_e is how often expert e is among a token's top_k, p_e its mean probability; f_e sums to top_k, as in transformers'
    `load_balancing_loss_func`.

    Args:
        logits: Router logits of each layer, [..., num_experts].
        top_k: Experts a token is sent to.
        masks: For each layer, 1 where a token counts ([...]), or None for all tokens.
    """
    num_experts = logits[0].shape[-1]
    device = logits[0].device
    used_E = torch.zeros(num_experts, device=device)
    probability_E = torch.zeros(num_experts, device=device)
    num_tokens = torch.zeros((), device=device)
    for layer_logits, mask in zip(logits, masks, strict=True):
        p_NE = layer_logits.float().softmax(-1).reshape(-1, num_experts).to(device)
        weight_N = p_NE.new_ones(p_NE.shape[0]) if mask is None else mask.reshape(-1).to(p_NE)
        chosen_NE = torch.zeros_like(p_NE).scatter(-1, p_NE.topk(top_k, dim=-1).indices, 1.0)
        used_E = used_E + weight_N @ chosen_NE
        probability_E = probability_E + weight_N @ p_NE
        num_tokens = num_tokens + weight_N.sum()
    num_tokens = num_tokens.clamp(min=1.0)
    return num_experts * ((used_E / num_tokens) * (probability_E / num_tokens)).sum()


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class ExpertUsage:
    """How the tokens of one layer were spread over its experts.

    Usages of the same layer add up with `+`, batch after batch.

    Attributes:
        path: The wrapped feed-forward network.
        counts: Tokens sent to each expert; a token counts once for each of its top_k experts.
    """

    path: str
    counts: tuple[int, ...]

    def __add__(self, other: ExpertUsage) -> ExpertUsage:
        if (self.path, len(self.counts)) != (other.path, len(other.counts)):
            raise ValueError(f"usage of {self.path} and of {other.path} cannot be added")
        return ExpertUsage(path=self.path, counts=tuple(a + b for a, b in zip(self.counts, other.counts, strict=True)))

    @property
    def shares(self) -> tuple[float, ...]:
        """Each expert's part of all assignments; zeros where no token was seen."""
        total = sum(self.counts)
        return tuple(count / total if total else 0.0 for count in self.counts)

    @property
    def entropy_nats(self) -> float:
        """0 when one expert takes all, log(num_experts) when all take the same."""
        return -sum(share * math.log(share) for share in self.shares if share > 0)

    @property
    def dead_experts(self) -> tuple[int, ...]:
        """Experts that no token was sent to."""
        return tuple(index for index, count in enumerate(self.counts) if count == 0)
