"""Arithmetic of LoRAs: what the changes of weights do when added, scaled, averaged, and cut to a smaller rank.

B1 A1 + B2 A2 = [B1 B2] [A1; A2], so sums, differences and averages are exact and their ranks add up. Adding A to A and
B to B, as is often done, is not the sum of the changes. Cutting the rank is the one operation that loses something, and
it says how much.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from legion.foundation.errors import AdapterError, InvalidValueError
from legion.neuro_architecture.portability.canonical_lora import CanonicalLoRA, pad_to_one_rank
from legion.neuro_architecture.portability.low_rank import LowRank, Residual, concatenate_factors, truncate

__all__ = ["add", "average", "concatenate", "merge", "rerank", "scale", "subtract"]


def concatenate(adapters: Sequence[CanonicalLoRA]) -> CanonicalLoRA:
    """The sum of the changes, exactly; its rank is the sum of the ranks, less components that are zero.

    A layer that only some adapters change is changed as they do.

    Raises:
        InvalidValueError: there is none.
        AdapterError: they belong to different bases, a layer's shapes differ, or one carries a trained head, which has
            no change that could be added.
    """
    for adapter in adapters:
        if adapter.head:
            raise AdapterError(
                f"an adapter with a trained head ({', '.join(adapter.head_modules)}) cannot be added or scaled",
                cause="its head was trained from scratch and is no change of the base's",
            )
    return _joined(adapters, head={})


def add(first: CanonicalLoRA, second: CanonicalLoRA) -> CanonicalLoRA:
    """The change of both together; raises as `concatenate`."""
    return concatenate([first, second])


def subtract(first: CanonicalLoRA, second: CanonicalLoRA) -> CanonicalLoRA:
    """The change of the first without that of the second; raises as `concatenate`."""
    return concatenate([first, scale(second, -1.0)])


def scale(adapter: CanonicalLoRA, factor: float) -> CanonicalLoRA:
    """`factor` times the change.

    Raises:
        InvalidValueError: the factor is not finite.
        AdapterError: the adapter carries a trained head.
    """
    return concatenate([_scaled(adapter, factor)])


def average(adapters: Sequence[CanonicalLoRA]) -> CanonicalLoRA:
    """The mean of the changes, exactly, and of the trained heads where all carry one.

    Raises:
        InvalidValueError: there is none.
        AdapterError: they belong to different bases, or shapes differ.
    """
    count = len(adapters)
    heads = [adapter.head for adapter in adapters]
    if any(head.keys() != heads[0].keys() for head in heads):
        raise AdapterError("only some of the adapters carry this trained head", cause=_heads_of(adapters))
    for name in heads[0] if heads else ():
        if len({head[name].shape for head in heads}) > 1:
            raise AdapterError(f"the heads' {name} differ in shape")
    head = {name: torch.stack([one[name] for one in heads]).mean(0) for name in heads[0]} if heads else {}
    return _joined([_scaled(adapter, 1.0 / count) for adapter in adapters], head=head)


def rerank(adapter: CanonicalLoRA, rank: int) -> tuple[CanonicalLoRA, dict[str, Residual]]:
    """The nearest adapter of `rank` and what it leaves out of each layer; `Residual.total` gives the whole.

    A rank above the adapter's own pads with zeros. A trained head stays.

    Raises:
        InvalidValueError: the rank is below 1.
    """
    layers: dict[str, LowRank] = {}
    residuals: dict[str, Residual] = {}
    for path, change in adapter.layers.items():
        layers[path], residuals[path] = truncate(change, rank)
    return dataclasses.replace(adapter, layers=layers, residuals=residuals), residuals


@torch.no_grad()
def merge(adapter: CanonicalLoRA, model: nn.Module) -> dict[str, Tensor]:
    """The weights of the base `model` that the adapter changes, as they are afterwards, with its trained head.

    `model.load_state_dict(merge(adapter, model), strict=False)` does it in place.

    Raises:
        AdapterError: a layer is missing or has another shape.
    """
    weights = dict(model.named_parameters())
    state: dict[str, Tensor] = {}
    for path, change in adapter.layers.items():
        weight = _weight(weights, f"{path}.weight")
        delta = change.dense().T if adapter.fan_in_fan_out else change.dense()
        if weight.shape != delta.shape:
            raise AdapterError(
                f"{path} does not fit the adapter",
                cause=f"the base's weight is {list(weight.shape)}, the change {list(delta.shape)}",
            )
        state[f"{path}.weight"] = (weight.float() + delta).to(weight.dtype)
    for name, value in adapter.head.items():
        if _weight(weights, name).shape != value.shape:
            raise AdapterError(f"{name} of the adapter's head does not fit the base")
        state[name] = value
    return state


def _weight(weights: Mapping[str, Any], name: str) -> Any:
    if name not in weights:
        raise AdapterError(f"the base has no {name}", hint="was the adapter trained on another base?")
    return weights[name]


def _scaled(adapter: CanonicalLoRA, factor: float) -> CanonicalLoRA:
    if not math.isfinite(factor):
        raise InvalidValueError(f"an adapter cannot be scaled by {factor}")
    layers = {path: change.scaled(factor) for path, change in adapter.layers.items()}
    return dataclasses.replace(adapter, layers=layers)


def _joined(adapters: Sequence[CanonicalLoRA], *, head: Mapping[str, Tensor]) -> CanonicalLoRA:
    if not adapters:
        raise InvalidValueError("there is no adapter to work on")
    first = adapters[0]
    for other in adapters[1:]:
        _refuse_other_base(first, other)
    paths = list(dict.fromkeys(path for adapter in adapters for path in adapter.layers))
    layers: dict[str, LowRank] = {}
    for path in paths:
        changes = [adapter.layers[path] for adapter in adapters if path in adapter.layers]
        if len({change.shape for change in changes}) > 1:
            raise AdapterError(f"{path} differs in shape", cause=", ".join(str(list(one.shape)) for one in changes))
        layers[path] = concatenate_factors(changes)
    is_same_choice = all(adapter.target_modules == first.target_modules for adapter in adapters)
    return CanonicalLoRA(
        layers=pad_to_one_rank(layers),
        target_modules=first.target_modules if is_same_choice else tuple(paths),
        fan_in_fan_out=first.fan_in_fan_out,
        task_type=first.task_type,
        base_name=next((one.base_name for one in adapters if one.base_digest), first.base_name),
        base_digest=next((one.base_digest for one in adapters if one.base_digest), None),
        head=head,
    )


def _refuse_other_base(first: CanonicalLoRA, other: CanonicalLoRA) -> None:
    """By digest where both tell one, else by name; shapes are compared anyway."""
    digests, names = (first.base_digest, other.base_digest), (first.base_name, other.base_name)
    told, hint = (digests, None) if all(digests) else (names, "tell what they stand on: --base BASE")
    if all(told) and told[0] != told[1]:
        raise AdapterError("the adapters belong to different bases", cause=f"{told[0]} and {told[1]}", hint=hint)
    if first.fan_in_fan_out != other.fan_in_fan_out:
        raise AdapterError("the adapters belong to different bases", cause="one stores its weights transposed")


def _heads_of(adapters: Sequence[CanonicalLoRA]) -> str:
    return "\n".join(", ".join(adapter.head_modules) or "no head" for adapter in adapters)
