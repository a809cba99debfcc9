"""How the units of a feed-forward network are dealt out to experts of equal size."""

from __future__ import annotations

from typing import Final, Literal

import torch

__all__ = ["partition"]

_ROUNDS: Final = 12


def partition(gate_ID: torch.Tensor, num_experts: int, split: Literal["contiguous", "clusters"] | str) -> torch.Tensor:
    """Each unit's expert as a float index [I]; every expert gets I / num_experts units.

    `contiguous` cuts the units in order. `clusters` groups units whose rows of `gate_ID` point the same way, by k-means
    on directions with equal sizes; the first centre is drawn from torch's generator on the CPU, the rest follows from
    the weights. Source: arXiv:2110.01786, section 3.2. Weights without storage are cut in order.

    Args:
        gate_ID: What each unit listens to, [I, D].
        num_experts: Divides I.
        split: `contiguous` or `clusters`.
    """
    num_units = gate_ID.shape[0]
    in_order_I = torch.arange(num_units) // (num_units // num_experts)
    if split == "contiguous" or gate_ID.is_meta:
        return in_order_I.float()
    direction_ID = torch.nn.functional.normalize(gate_ID.detach().float().cpu(), dim=-1)
    centre_ED = direction_ID[_spread(direction_ID, num_experts)]
    expert_I = in_order_I
    for _ in range(_ROUNDS):
        previous_I, expert_I = expert_I, _fill(direction_ID @ centre_ED.T)
        if torch.equal(previous_I, expert_I):
            break
        sum_ED = torch.zeros_like(centre_ED).index_add(0, expert_I, direction_ID)
        centre_ED = torch.nn.functional.normalize(sum_ED, dim=-1)
    return expert_I.float()


def _spread(direction_ID: torch.Tensor, count: int) -> torch.Tensor:
    """Units far apart: a drawn one, then again and again the one least like all before it."""
    chosen = [int(torch.randint(direction_ID.shape[0], ()))]
    nearest_I = direction_ID @ direction_ID[chosen[0]]
    while len(chosen) < count:
        nearest_I[chosen] = torch.inf
        chosen.append(int(nearest_I.argmin()))
        nearest_I = nearest_I.maximum(direction_ID @ direction_ID[chosen[-1]])
    return torch.tensor(chosen)


def _fill(likeness_IE: torch.Tensor) -> torch.Tensor:
    """Each unit's expert, the likeliest with room left: where too many ask, those most alike get in."""
    num_units, num_experts = likeness_IE.shape
    room = [num_units // num_experts] * num_experts
    expert_I = torch.full((num_units,), -1)
    left_IE = likeness_IE.clone()
    while (expert_I < 0).any():
        wanted_I = left_IE.argmax(-1)
        for expert in range(num_experts):
            asking = ((expert_I < 0) & (wanted_I == expert)).nonzero().squeeze(-1)
            order = likeness_IE[asking, expert].argsort(descending=True, stable=True)
            accepted = asking[order[: room[expert]]]
            expert_I[accepted] = expert
            room[expert] -= len(accepted)
            if room[expert] == 0:
                left_IE[:, expert] = -torch.inf
    return expert_I
