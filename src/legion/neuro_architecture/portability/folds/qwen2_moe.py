"""A mixture of gated bottlenecks beside a frozen network: Qwen2-MoE, whose shared expert is the frozen network.

Qwen2-MoE computes sigmoid(w_g x) * shared(x) + sum over the top_k of softmax(W_r x)_e expert_e(x). With w_g next to
zero the sigmoid is 1/2, which twice the shared `down_proj` undoes exactly. Blocks without an adapter get experts that
write nothing, because llama.cpp knows no Qwen2-MoE with dense blocks.
"""

from __future__ import annotations

from typing import Any, Final

import torch
from torch.nn.functional import pad

from legion.foundation.errors import NotPortableError
from legion.neuro_architecture.adapters.experts import ExpertMixture
from legion.neuro_architecture.anatomy import LayerAnatomy
from legion.neuro_architecture.portability.checkpoint import StockCheckpoint
from legion.neuro_architecture.portability.folds.stock_configs import carried_over, task_class
from legion.neuro_architecture.portability.folds.units import ffn_names, mixture_at, padding_to_block
from legion.neuro_architecture.portability.trained import TrainedForm

__all__ = ["fold_qwen2_moe"]

# Not zero: llama.cpp answers NaN for a shared-expert gate that is exactly zero.
_NEXT_TO_ZERO: Final = 1e-12


def fold_qwen2_moe(trained: TrainedForm) -> StockCheckpoint:
    """The base as a Qwen2-MoE of the adapter's experts, their inner width padded to a multiple of `BLOCK`.

    Raises:
        NotPortableError: a mixture is not gated, or no block carries one.
    """
    found = {layer.index: mixture_at(trained, layer.par.path) for layer in trained.layers}
    first = next((mixture for mixture in found.values() if mixture is not None), None)
    if first is None or first.gate is None or first.router is None:
        raise NotPortableError("Qwen2-MoE's experts are gated and routed", cause="this adapter's are not")
    num_experts, size, width = first.up.shape
    size += padding_to_block(size)
    tensors = trained.base_tensors()
    for layer in trained.layers:
        _replace_network(tensors, layer, found[layer.index], (num_experts, size, width))
        _add_attention_biases(tensors, layer)
    return StockCheckpoint(
        config=_config(trained, num_experts, first.top_k, size),
        architecture=task_class("Qwen2Moe", trained),
        tensors=tensors,
    )


def _replace_network(
    tensors: dict[str, torch.Tensor],
    layer: LayerAnatomy,
    mixture: ExpertMixture | None,
    shape: tuple[int, int, int],
) -> None:
    names, prefix = ffn_names(layer), layer.par.path
    if names.gate is None:
        raise NotPortableError(f"{prefix} is not gated")
    gate = tensors.pop(f"{names.gate.path}.weight")
    tensors[f"{prefix}.shared_expert.gate_proj.weight"] = gate
    tensors[f"{prefix}.shared_expert.up_proj.weight"] = tensors.pop(f"{names.up.path}.weight")
    tensors[f"{prefix}.shared_expert.down_proj.weight"] = 2.0 * tensors.pop(f"{names.down.path}.weight")
    tensors[f"{prefix}.shared_expert_gate.weight"] = gate.new_full((1, gate.shape[1]), _NEXT_TO_ZERO)
    num_experts, size, width = shape
    router = None if mixture is None else mixture.router
    tensors[f"{prefix}.gate.weight"] = gate.new_zeros(num_experts, width) if router is None else router.detach()
    for expert in range(num_experts):
        for name, weight_mD in _expert(mixture, expert, size, gate.new_zeros(size, width)).items():
            tensors[f"{prefix}.experts.{expert}.{name}.weight"] = weight_mD


def _expert(mixture: ExpertMixture | None, expert: int, size: int, silent_mD: torch.Tensor) -> dict[str, torch.Tensor]:
    """One expert's projections, [m, D] or [D, m], with silent units up to `size`."""
    if mixture is None or mixture.gate is None:
        return {"gate_proj": silent_mD, "up_proj": silent_mD.clone(), "down_proj": silent_mD.T.clone()}
    extra = size - mixture.up.shape[1]
    rows = {
        name: pad(weight[expert].detach(), (0, 0, 0, extra))
        for name, weight in (("gate_proj", mixture.gate), ("up_proj", mixture.up), ("down_proj", mixture.down))
    }
    return rows | {"down_proj": rows["down_proj"].T.contiguous()}


def _add_attention_biases(tensors: dict[str, torch.Tensor], layer: LayerAnatomy) -> None:
    """Qwen2-MoE's queries, keys and values have biases, which are zero here."""
    for name in ("q_proj", "k_proj", "v_proj"):
        weight = tensors[f"{layer.path}.self_attn.{name}.weight"]
        tensors[f"{layer.path}.self_attn.{name}.bias"] = weight.new_zeros(weight.shape[0])


def _config(trained: TrainedForm, num_experts: int, top_k: int, size: int) -> Any:
    from transformers import Qwen2MoeConfig

    return Qwen2MoeConfig(
        **carried_over(trained),
        intermediate_size=trained.facts.anatomy.intermediate_size,
        shared_expert_intermediate_size=trained.facts.anatomy.intermediate_size,
        moe_intermediate_size=size,
        num_experts=num_experts,
        num_experts_per_tok=top_k,
        norm_topk_prob=False,  # llama.cpp ignores True; our router is trained without renormalising
        decoder_sparse_step=1,
        qkv_bias=True,
    )
