"""What a trained PEFT adapter adds to each weight, in the layer's own [out, in] orientation.

A plain LoRA keeps its factors. Of every other method that PEFT can merge, the change is the merged weight minus the
base's. Only the one layer is copied, and in fp64: in fp32 the subtraction would leave the base's rounding in the change
and give every change full rank.
"""

from __future__ import annotations

import copy
from collections.abc import Iterator
from dataclasses import dataclass
from typing import final

import torch
from peft import PeftModel
from peft.tuners.lora import Linear as LoRALinear
from peft.tuners.tuners_utils import BaseTunerLayer
from torch import Tensor, nn
from transformers.pytorch_utils import Conv1D

from legion.foundation.errors import AdapterError, NotPortableError
from legion.neuro_architecture.portability.low_rank import LowRank

__all__ = ["LayerDelta", "layer_deltas", "refuse_non_finite_adapter", "weight_deltas"]


@final
@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class LayerDelta:
    """The change of one layer, in fp32.

    Attributes:
        path: The layer's path in the base model.
        is_transposed: Whether the base stores the weight as [in, out] (GPT-2's Conv1D).
        is_embedding: Whether the layer looks up tokens; its change is then given as stored, [token, width].
        factors: The change in factors, for a plain LoRA; else None.
        full: The change as a matrix [out, in], for everything else; else None.
        bias: The change of the bias [out], where there is one.
    """

    path: str
    is_transposed: bool
    is_embedding: bool
    factors: LowRank | None
    full: Tensor | None
    bias: Tensor | None

    def dense(self) -> Tensor:
        """The change of the weight, [out, in]."""
        if self.factors is not None:
            return self.factors.dense()
        if self.full is None:
            raise AdapterError(f"{self.path} has neither factors nor a matrix")
        return self.full

    def as_stored(self) -> Tensor:
        """The change of the weight in the orientation that the base stores."""
        return self.dense().T if self.is_transposed else self.dense()


def weight_deltas(model: PeftModel, *, original: nn.Module | None = None) -> dict[str, LayerDelta]:
    """All of `layer_deltas` by path; holds as much memory as the changed weights unless they are in factors."""
    return {delta.path: delta for delta in layer_deltas(model, original=original)}


def layer_deltas(model: PeftModel, *, original: nn.Module | None = None) -> Iterator[LayerDelta]:
    """The changes of the model's one active adapter, layer by layer in the model's order.

    Biases that PEFT trains in place (`bias="all"`) are the base model's by now and are no part of this, unless
    `original` tells what they were.

    Args:
        model: The adapted model; it stays as it is.
        original: The base before anything was changed, for adapters whose initialisation changed the base (PiSSA,
            OLoRA, CorDA, LoftQ); by default the base inside `model`.

    Raises:
        AdapterError: there is not one active adapter, it is merged already, or a tensor of it is not finite.
        NotPortableError: a layer of the adapter is no change of a weight.
    """
    adapter = _active_adapter(model)
    layers = [
        (path.replace(".base_layer", ""), module)
        for path, module in model.get_base_model().named_modules()
        if isinstance(module, BaseTunerLayer)
    ]
    if not layers:
        raise NotPortableError(
            "the adapter changes no weight", cause=f"{model.peft_config[adapter].peft_type} adapts no linear layer"
        )
    for path, layer in layers:
        yield _delta(path, layer, adapter, original)


def refuse_non_finite_adapter(path: str, layer: nn.Module) -> None:
    """Raises AdapterError, naming the tensor, where an adapter's weight is NaN or infinite."""
    for name, weight in layer.named_parameters():
        if not name.startswith("base_layer.") and not torch.isfinite(weight).all():
            raise AdapterError(f"{path}.{name} holds NaN or infinity", cause="nothing was written")


def _active_adapter(model: PeftModel) -> str:
    names = list(model.active_adapters)
    if len(names) != 1:
        raise AdapterError(
            f"the model has {len(names)} active adapters, not one",
            cause=", ".join(names) or None,
            hint="choose one: model.set_adapter(NAME); to join several: legion adapter add",
        )
    return str(names[0])


@torch.no_grad()
def _delta(path: str, layer: BaseTunerLayer, adapter: str, original: nn.Module | None) -> LayerDelta:
    base = layer.get_base_layer()
    if not isinstance(base, nn.Linear | Conv1D | nn.Embedding):
        raise NotPortableError(
            f"the adapter at {path} is no change of a weight", cause=f"it wraps a {type(base).__name__}"
        )
    if layer.merged:
        raise AdapterError(
            f"the adapter at {path} is merged already", hint="take it out first: model.unmerge_adapter()"
        )
    refuse_non_finite_adapter(path, layer)
    start = base if original is None else original.get_submodule(path)
    if _is_plain_lora(layer, adapter) and _same(start, base):
        factors, full, bias = _factors(layer, adapter), None, _lora_bias(layer, adapter)
    else:
        factors = None
        full, bias = _merged_minus(start, path, layer, adapter)
        full = full.T.contiguous() if isinstance(base, Conv1D) else full
    return LayerDelta(
        path=path,
        is_transposed=isinstance(base, Conv1D),
        is_embedding=isinstance(base, nn.Embedding),
        factors=factors,
        full=full,
        bias=bias,
    )


def _is_plain_lora(layer: BaseTunerLayer, adapter: str) -> bool:
    return type(layer) is LoRALinear and adapter in layer.lora_A and adapter not in layer.lora_variant


def _same(start: nn.Module, base: nn.Module) -> bool:
    """Whether two layers hold the same tensors."""
    if start is base:
        return True
    others = dict(base.named_parameters())
    return all(torch.equal(weight, others[name]) for name, weight in start.named_parameters())


def _factors(layer: LoRALinear, adapter: str) -> LowRank:
    A, B = layer.lora_A[adapter].weight.detach(), layer.lora_B[adapter].weight.detach()
    return LowRank(A=A.float(), B=B.float() * layer.scaling[adapter])


def _lora_bias(layer: LoRALinear, adapter: str) -> Tensor | None:
    if not layer.lora_bias[adapter]:
        return None
    bias: Tensor = layer.lora_B[adapter].bias.detach().float() * layer.scaling[adapter]
    return bias


def _merged_minus(start: nn.Module, path: str, layer: BaseTunerLayer, adapter: str) -> tuple[Tensor, Tensor | None]:
    merged = copy.deepcopy(layer).double()
    try:
        merged.merge(safe_merge=True, adapter_names=[adapter])
    except (NotImplementedError, RuntimeError, ValueError) as error:
        raise NotPortableError(f"the adapter at {path} cannot be merged", cause=str(error) or None) from error
    before = dict(start.named_parameters())
    changes = {
        name: (weight - before[name].double()).float() for name, weight in merged.get_base_layer().named_parameters()
    }
    bias = changes.get("bias")
    return changes["weight"], bias if bias is not None and bias.any() else None
