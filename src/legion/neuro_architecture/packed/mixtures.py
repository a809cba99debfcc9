"""Mixtures of experts of several members at one place, as batched products; experts padded to the largest number."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, final

import torch
from torch import Tensor, nn

from legion.neuro_architecture.packed.attention import take
from legion.neuro_architecture.packed.corrections import index_of, rise
from legion.neuro_architecture.packed.sites import add_at, rows_of
from legion.neuro_architecture.packed.stacking import Stack

__all__ = ["Balance", "Mixtures", "balance_losses"]


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class Balance:
    """What one member's routers are weighed by.

    Attributes:
        num_experts: Of each mixture.
        coefficient: Of the loss.
    """

    num_experts: int
    coefficient: float


@final
class Mixtures:
    """`ExpertMixture` of several members, computed densely; of one form and one inner width.

    A padded expert is never chosen: its probability is 0, and so are its output and all its gradients.

    Args:
        places: The members' places in the group, rising.
        size: Members of the group.
        tensors: `router` [S, E, D], `up` and `down` [S, E, M, D], and `gate` [S, E, M, D], `up_bias` [S, E, M],
            `down_bias` [S, E, D] where the form has them.
        num_experts: Experts of each member.
        top_k: Experts a token is sent to, of each.
        activation: f.
        is_traced: Whether any member's routers are weighed after a pass (`take_usage`).
    """

    def __init__(
        self,
        places: Sequence[int],
        size: int,
        tensors: dict[str, Stack],
        *,
        num_experts: Sequence[int],
        top_k: Sequence[int],
        activation: nn.Module,
        is_traced: bool,
    ) -> None:
        router = tensors["router"].leaf
        device, most = router.device, router.shape[1]
        self.places = tuple(places)
        self._size = size
        self._index = index_of(places, size, device)
        self._tensors = {name: stack.leaf for name, stack in tensors.items()}
        self._activation = activation
        self._is_traced = is_traced
        self._deepest = max(top_k)
        barred = [[0.0 if expert < own else -math.inf for expert in range(most)] for own in num_experts]
        counted = [[1.0 if rank < own else 0.0 for rank in range(self._deepest)] for own in top_k]
        self._barred_S1E = torch.tensor(barred, device=device).unsqueeze(1)
        self._counted_S1K = torch.tensor(counted, device=device).unsqueeze(1)
        self._logits_SBTE: Tensor | None = None

    def add(self, y: Tensor, x: Tensor, read_BR: Tensor | None) -> Tensor:
        tensors = {name: leaf.to(x.dtype) for name, leaf in self._tensors.items()}
        logits = rise(rows_of(x, self._index).flatten(1, 2), tensors["router"], None).unflatten(1, x.shape[1:3])
        self._logits_SBTE = logits if self._is_traced else None
        rows = rows_of(take(x, read_BR), self._index)
        batch, length = rows.shape[1:3]
        weight_SNE = self._weights(take(logits, read_BR).flatten(1, 2)).to(x.dtype)
        hidden = self._hidden(rows.flatten(1, 2), tensors)
        scaled = hidden.unflatten(-1, tensors["up"].shape[1:3]) * weight_SNE.unsqueeze(-1)
        delta = torch.bmm(scaled.flatten(2), tensors["down"].flatten(1, 2))
        if "down_bias" in tensors:
            delta = delta + torch.bmm(weight_SNE, tensors["down_bias"])
        return add_at(y, delta.unflatten(1, (batch, length)), self._index, self._size)

    def take_usage(self, mask_BT: Tensor) -> tuple[Tensor, Tensor]:
        """Of the last pass: how many tokens each expert was sent, and the sum of its probabilities, [S, E] each;
        padding excluded.
        """
        logits, self._logits_SBTE = self._logits_SBTE, None
        if logits is None:
            raise RuntimeError("the mixtures have not run since their usage was taken")
        p_SNE, top = self._routed(logits.flatten(1, 2))
        chosen_SNE = torch.zeros_like(p_SNE).scatter(-1, top.indices, self._counted_S1K.expand_as(top.values))
        weight_N = mask_BT.flatten().to(p_SNE)
        return torch.einsum("n,sne->se", weight_N, chosen_SNE), torch.einsum("n,sne->se", weight_N, p_SNE)

    def forget(self) -> None:
        """Lets go of the last pass."""
        self._logits_SBTE = None

    def _routed(self, logits_SNE: Tensor) -> tuple[Tensor, Any]:
        p_SNE = (logits_SNE.float() + self._barred_S1E).softmax(-1)
        return p_SNE, p_SNE.topk(self._deepest, dim=-1)

    def _weights(self, logits_SNE: Tensor) -> Tensor:
        """Of each token on each expert; 0 where it is not sent."""
        p_SNE, top = self._routed(logits_SNE)
        return torch.zeros_like(p_SNE).scatter(-1, top.indices, top.values * self._counted_S1K)

    def _hidden(self, rows: Tensor, tensors: dict[str, Tensor]) -> Tensor:
        """All experts' inner units, [S, N, E * M]."""
        bias = tensors.get("up_bias")
        risen = rise(rows, tensors["up"].flatten(1, 2), None if bias is None else bias.flatten(1))
        gate = tensors.get("gate")
        if gate is None:
            return self._activation(risen)
        return self._activation(rise(rows, gate.flatten(1, 2), None)) * risen


def balance_losses(
    mixtures: Sequence[Mixtures], balances: Sequence[Balance | None], mask_BT: Tensor
) -> list[Tensor | None]:
    """The weighted load-balance loss of each member over all its mixtures (`load_balance_loss`), or None.

    Args:
        mixtures: All of the group.
        balances: By the member's place in the group.
        mask_BT: 1 where a token is no padding.
    """
    used: dict[int, list[Tensor]] = {}
    probable: dict[int, list[Tensor]] = {}
    for each in mixtures:
        if all(balances[place] is None for place in each.places):
            each.forget()
            continue
        used_SE, probability_SE = each.take_usage(mask_BT)
        for row, place in enumerate(each.places):
            used.setdefault(place, []).append(used_SE[row])
            probable.setdefault(place, []).append(probability_SE[row])
    num_tokens = mask_BT.sum().float().clamp(min=1.0)
    found: list[Tensor | None] = []
    for place, balance in enumerate(balances):
        if balance is None or place not in used:
            found.append(None)
            continue
        tokens = num_tokens * len(used[place])
        shares = (_total(used[place], balance) / tokens) * (_total(probable[place], balance) / tokens)
        found.append(balance.coefficient * balance.num_experts * shares.sum())
    return found


def _total(parts_E: Sequence[Tensor], balance: Balance) -> Tensor:
    return torch.stack([part[: balance.num_experts] for part in parts_E]).sum(dim=0)
