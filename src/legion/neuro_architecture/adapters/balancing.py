"""What training adds for the sake of balance, and who was used, for every adapter that has routers."""

from __future__ import annotations

from typing import Any

import torch
from peft import PeftModel

from legion.neuro_architecture.adapters.mixture import MixtureModel
from legion.neuro_architecture.adapters.routing import ExpertUsage, load_balance_loss
from legion.neuro_architecture.adapters.split import SplitModel

__all__ = ["auxiliary_loss", "expert_usage"]


def auxiliary_loss(model: Any) -> torch.Tensor | None:
    """The weighted load-balance loss of the last forward pass, padding excluded where an attention mask was given.

    Returns:
        A scalar with its graph, or None: no routers, balancing off, no expert left out, or no forward pass yet.
    """
    tuner = _routed(model)
    if tuner is None or not tuner.trace.logits:
        return None
    config = tuner.peft_config[tuner.active_adapters[0]]
    if not config.load_balancing or (isinstance(tuner, SplitModel) and config.top_k == config.num_experts):
        return None
    logits = list(tuner.trace.logits.values())
    masks = [tuner.trace.mask_of(layer_logits) for layer_logits in logits]
    return config.load_balancing_coefficient * load_balance_loss(logits, top_k=config.top_k, masks=masks)


def expert_usage(model: Any) -> tuple[ExpertUsage, ...]:
    """Who was used in the last forward pass, a value for each adapted layer; empty where there are no routers."""
    tuner = _routed(model)
    if tuner is None:
        return ()
    config = tuner.peft_config[tuner.active_adapters[0]]
    usages = []
    for path, logits_BTE in tuner.trace.logits.items():
        chosen_NK = logits_BTE.detach().topk(config.top_k, dim=-1).indices.reshape(-1, config.top_k)
        mask = tuner.trace.mask_of(logits_BTE)
        if mask is not None:
            chosen_NK = chosen_NK[mask.reshape(-1).bool()]
        counts = torch.bincount(chosen_NK.reshape(-1), minlength=config.num_experts)
        usages.append(ExpertUsage(path=path, counts=tuple(counts.tolist())))
    return tuple(usages)


def _routed(model: Any) -> MixtureModel | SplitModel | None:
    tuner = model.base_model if isinstance(model, PeftModel) else None
    return tuner if isinstance(tuner, MixtureModel | SplitModel) else None
