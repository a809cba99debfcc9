"""A dense network cut into experts: Mixtral.

Mixtral computes sum over the top_k of p_e / (sum of the top_k largest p) * expert_e(x). The trained form scales the
units of expert e by top_k times that weight, so each expert's `down` carries the factor top_k. The low-rank correction
is merged before the cut. Experts get silent units up to a multiple of `BLOCK`. A block that is not cut is cut all the
same, with a silent router, which is exact where no expert is left out.
"""

from __future__ import annotations

from typing import Any

import torch

from legion.foundation.errors import NotPortableError
from legion.neuro_architecture.adapters.split import SplitExperts
from legion.neuro_architecture.anatomy import LayerAnatomy
from legion.neuro_architecture.portability.checkpoint import StockCheckpoint
from legion.neuro_architecture.portability.folds.stock_configs import carried_over, task_class
from legion.neuro_architecture.portability.folds.units import ffn_names, padding_to_block, widen_columns, widen_rows
from legion.neuro_architecture.portability.trained import TrainedForm
from legion.neuro_architecture.spec.architecture import SplitArchitecture

__all__ = ["fold_mixtral"]


def fold_mixtral(trained: TrainedForm) -> StockCheckpoint:
    """The base as a Mixtral of its own units.

    Raises:
        NotPortableError: the adapter does not cut the network, or leaves some blocks whole that Mixtral would thin out.
    """
    architecture = trained.architecture
    if not isinstance(architecture, SplitArchitecture):
        raise NotPortableError(f"{architecture.strategy} does not cut the feed-forward network")
    tensors = trained.base_tensors()
    for layer in trained.layers:
        module = trained.correction(layer.par.path, "split_adapter")
        split = module if isinstance(module, SplitExperts) else None
        if split is None and architecture.experts_per_token < architecture.num_experts:
            raise NotPortableError(f"block {layer.index} keeps all its units, and Mixtral would leave some out")
        _cut(tensors, layer, split, architecture)
    return StockCheckpoint(
        config=_config(trained, architecture), architecture=task_class("Mixtral", trained), tensors=tensors
    )


def _cut(
    tensors: dict[str, torch.Tensor], layer: LayerAnatomy, split: SplitExperts | None, architecture: SplitArchitecture
) -> None:
    names = ffn_names(layer)
    if names.gate is None:
        raise NotPortableError(f"{layer.par.path} is not gated")
    gate, up, down = (tensors.pop(f"{site.path}.weight") for site in (names.gate, names.up, names.down))
    num_experts = architecture.num_experts
    if split is None:
        assignment = torch.arange(gate.shape[0]) // (gate.shape[0] // num_experts)
        router = gate.new_zeros(num_experts, gate.shape[1])
    else:
        gate, up, down = (
            weight + delta.to(weight) for weight, delta in zip((gate, up, down), _corrections(split), strict=True)
        )
        assignment, router = split.assignment.long(), split.router.detach()
    prefix = f"{layer.path}.block_sparse_moe"
    tensors[f"{prefix}.gate.weight"] = router
    for expert in range(num_experts):
        units = (assignment == expert).nonzero().flatten()
        extra = padding_to_block(len(units))
        tensors[f"{prefix}.experts.{expert}.w1.weight"] = widen_rows(gate[units], extra)
        tensors[f"{prefix}.experts.{expert}.w3.weight"] = widen_rows(up[units], extra)
        kept = architecture.experts_per_token * down[:, units]
        tensors[f"{prefix}.experts.{expert}.w2.weight"] = widen_columns(kept, extra)


def _config(trained: TrainedForm, architecture: SplitArchitecture) -> Any:
    from transformers import MixtralConfig

    width = trained.facts.anatomy.intermediate_size // architecture.num_experts
    return MixtralConfig(
        **carried_over(trained),
        intermediate_size=width + padding_to_block(width),
        num_local_experts=architecture.num_experts,
        num_experts_per_tok=architecture.experts_per_token,
        sliding_window=None,
    )


def _corrections(split: SplitExperts) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """What the low-rank corrections add to gate, up and down."""
    pairs = (
        (split.gate_lora_a, split.gate_lora_b),
        (split.up_lora_a, split.up_lora_b),
        (split.down_lora_a, split.down_lora_b),
    )
    gate, up, down = (split.scale * (b.detach() @ a.detach()) for a, b in pairs)
    return gate, up, down
