"""The one form of a LoRA that every reader computes alike: one rank, alpha equal to it, the scale inside B.

PEFT scales by alpha / rank, or alpha / sqrt(rank) for rsLoRA, with patterns for single layers; vLLM did so for the
whole adapter before it learnt patterns; llama.cpp divides alpha by the tensor's own rank and knows neither rsLoRA nor
patterns. With alpha = rank everywhere all of them scale by 1. What is no low-rank product (DoRA, orthogonal and
Hadamard methods) becomes the nearest one by a singular value decomposition, with the error stated.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, final

from peft import PeftModel
from peft.utils import ModulesToSaveWrapper
from torch import Tensor, nn

from legion.foundation.errors import AdapterError, NotPortableError
from legion.neuro_architecture.anatomy.inspection import base_modules
from legion.neuro_architecture.portability.deltas import LayerDelta, layer_deltas
from legion.neuro_architecture.portability.lora_rules import (
    alters_base,
    bias_error,
    check_head_tensor,
    head_module,
    rank_error,
    refuse_shared_layer,
)
from legion.neuro_architecture.portability.low_rank import LowRank, Residual, factorize, truncate
from legion.neuro_architecture.spec.proposal import BaseReference

__all__ = ["CanonicalLoRA", "canonical_lora", "pad_to_one_rank"]


@final
@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class CanonicalLoRA:
    """A LoRA as values.

    Attributes:
        layers: The change of each layer by its path in the base; all have the same rank.
        target_modules: How an `adapter_config.json` names these layers: last names where these name no other layer,
            else paths.
        fan_in_fan_out: Whether the base stores these weights as [in, out] (GPT-2), as PEFT's config wants to know it.
        task_type: PEFT's word for the task, or None.
        base_name: What the base is called, where it is known.
        base_digest: Digest of the base's weights, where it is known.
        head: Tensors of a trained classification head by their names in the model.
        residuals: What was left out of a layer's change, for the layers that were decomposed.

    Raises:
        AdapterError: there is no layer, or their ranks differ.
    """

    layers: Mapping[str, LowRank]
    target_modules: tuple[str, ...]
    fan_in_fan_out: bool = False
    task_type: str | None = None
    base_name: str | None = None
    base_digest: str | None = None
    head: Mapping[str, Tensor] = field(default_factory=dict)
    residuals: Mapping[str, Residual] = field(default_factory=dict)

    def __post_init__(self) -> None:
        ranks = sorted({change.rank for change in self.layers.values()})
        if len(ranks) != 1:
            raise AdapterError("a canonical LoRA has layers of one rank", cause=f"ranks here: {ranks or 'no layer'}")

    @property
    def rank(self) -> int:
        """The rank of every layer."""
        return next(iter(self.layers.values())).rank

    @property
    def residual(self) -> Residual:
        """What was left out, of all decomposed layers together."""
        return Residual.total(self.residuals.values())

    @property
    def head_modules(self) -> tuple[str, ...]:
        """The modules whose tensors are in `head`."""
        return tuple(sorted({module for name in self.head if (module := head_module(name))}))


def pad_to_one_rank(layers: Mapping[str, LowRank], rank: int | None = None) -> dict[str, LowRank]:
    """The same changes, padded to `rank` or to the largest rank among them."""
    widest = max([rank or 1, *(change.rank for change in layers.values())])
    return {path: change.padded(widest) for path, change in layers.items()}


def canonical_lora(
    model: PeftModel,
    *,
    max_rank: int | None = None,
    rank: int | None = None,
    base: BaseReference | None = None,
    original: nn.Module | None = None,
) -> CanonicalLoRA:
    """The canonical LoRA of a trained adapter.

    A plain LoRA (with rsLoRA, rank and alpha patterns, on any subset of layers) is kept exactly. Everything else is
    decomposed; its rank is `rank`, or the one that it has within fp32 rounding but at most `max_rank`.

    Args:
        model: The adapted model; it stays as it is.
        max_rank: The largest rank that the server takes, or None for any.
        rank: The rank of the result; layers of a higher one are cut to it, with the error stated.
        base: What the base is, to be remembered.
        original: The base before the adapter's initialisation changed it; needed for PiSSA, OLoRA, CorDA and LoftQ.

    Raises:
        NotPortableError: the rank is above `max_rank`, or the adapter changes what no LoRA folder can carry: a bias, an
            embedding, `lm_head`, a module trained whole other than a classification head, or no weight at all.
        AdapterError: a tensor is not finite, or `original` is missing.
    """
    if rank is not None and max_rank is not None and rank > max_rank:
        raise rank_error(rank, max_rank)
    config = model.peft_config[model.active_adapter]
    _check_config(config.to_dict(), original)
    layers: dict[str, LowRank] = {}
    residuals: dict[str, Residual] = {}
    is_transposed = False
    for delta in layer_deltas(model, original=original):
        _refuse_layer(delta, model.get_base_model())
        change, residual = _to_factors(delta, rank, max_rank)
        layers[delta.path] = change
        residuals |= {} if residual is None else {delta.path: residual}
        is_transposed |= delta.is_transposed
    return CanonicalLoRA(
        layers=pad_to_one_rank(layers, rank),
        target_modules=_target_modules(model.get_base_model(), tuple(layers)),
        fan_in_fan_out=is_transposed,
        task_type=config.task_type and str(getattr(config.task_type, "value", config.task_type)),
        base_name=base.name if base else config.base_model_name_or_path,
        base_digest=base.digest if base else None,
        head=_trained_head(model),
        residuals=residuals,
    )


def _check_config(config: Mapping[str, Any], original: nn.Module | None) -> None:
    if original is None and alters_base(config.get("init_lora_weights")):
        raise AdapterError(
            f"init_lora_weights={config['init_lora_weights']} changed the base's weights",
            cause="a server adds the adapter to the original ones",
            hint="give the original base: canonical_lora(model, original=BASE)",
        )
    if config.get("bias", "none") != "none":
        raise bias_error(f"bias={config['bias']}")
    if config.get("layer_replication"):
        raise NotPortableError("the adapter repeats layers of its base", cause="layer_replication is set")


def _refuse_layer(delta: LayerDelta, base: Any) -> None:
    is_output = base.get_submodule(delta.path) is base.get_output_embeddings()
    refuse_shared_layer(delta.path, is_shared=delta.is_embedding or is_output)
    if delta.bias is not None:
        raise bias_error(f"{delta.path}.bias")


def _to_factors(delta: LayerDelta, rank: int | None, max_rank: int | None) -> tuple[LowRank, Residual | None]:
    if delta.factors is None:
        return factorize(delta.dense(), rank or max_rank)
    if rank is not None and delta.factors.rank > rank:
        return truncate(delta.factors, rank)
    if max_rank is not None and delta.factors.rank > max_rank:
        raise rank_error(delta.factors.rank, max_rank)
    return delta.factors, None


def _target_modules(base: nn.Module, paths: tuple[str, ...]) -> tuple[str, ...]:
    last = {path.rpartition(".")[2] for path in paths}
    reached = {path for path, _ in base_modules(base) if path.rpartition(".")[2] in last}
    return tuple(sorted(last)) if reached == set(paths) else paths


def _trained_head(model: PeftModel) -> dict[str, Tensor]:
    head = {
        f"{path}.{name}": weight.detach().float().clone()
        for path, module in model.get_base_model().named_modules()
        if isinstance(module, ModulesToSaveWrapper) and model.active_adapter in module.modules_to_save
        for name, weight in module.modules_to_save[model.active_adapter].state_dict().items()
    }
    for name, weight in head.items():
        check_head_tensor(name, weight)
    return head
