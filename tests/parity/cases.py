"""The pairs of adapter and engine that are proven: every row of the matrix, and shapes at its edges."""

from __future__ import annotations

import functools
from typing import Any

from legion.neuro_architecture.portability import Target, plan
from legion.neuro_architecture.portability.matrix import family_facts, variants

HIDDEN_SIZE = 128  # four heads of 32, the narrowest that vLLM's attention on a processor takes
_GATED = {"bottleneck_size": 8, "is_gated": True, "non_linearity": "silu"}
_LORA = {"strategy": "LoRA", "rank": 4}
_PATTERNS = {"use_rslora": True, "rank_pattern": {"q_proj": 2}, "alpha_pattern": {"v_proj": 3.0}}
_MIXTURE = {"strategy": "MoE", **_GATED}
_EDGES: dict[str, dict[str, Any]] = {
    "LoRA, patterns": {**_LORA, **_PATTERNS},
    "LoRA, some layers": {**_LORA, "layers": [0, 2], "target_modules": ["q_proj", "down_proj"]},
    "Adapter, odd width": {"strategy": "Adapter", **_GATED, "bottleneck_size": 5},
    "MoE, odd width and number": {**_MIXTURE, "num_experts": 3, "bottleneck_size": 5},
    "MoE, one layer": {**_MIXTURE, "num_experts": 4, "layers": [1]},
    "SparseRouting, 3 of 8": {"strategy": "SparseRouting", "rank": 2, "num_experts": 8, "top_k": 3},
    **{
        f"MoE, top {top_k} of {num_experts}": {**_MIXTURE, "num_experts": num_experts, "top_k": top_k}
        for num_experts in (2, 4, 8)
        for top_k in (1, 2)
    },
}


@functools.cache
def cases(target: Target) -> dict[str, tuple[str, dict[str, Any]]]:
    """Family and architecture by name, of everything that `plan` says the target can serve."""
    found: dict[str, tuple[str, dict[str, Any]]] = {}
    for family in ("llama", "gpt2"):
        facts = family_facts(family)
        for label, architecture in variants(facts).items():
            if plan(architecture, facts, target).is_possible:
                found[f"{family}: {label}"] = (family, architecture.to_dict())
    return found | {f"llama: {label}": ("llama", config) for label, config in _EDGES.items()}
