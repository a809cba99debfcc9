"""What an architecture computes, in one form; equal forms have equal names, whatever the spelling.

The rules, each with the code that it rests on, are in docs/semantic-hash.md. Two things follow from them:

- A form says which function of which trained tensors is computed on any model, drawn and trained how. So equal names
  mean equal computations; dropout and auxiliary losses belong to them, for they change which weights a training ends
  with.
- A form fits every model that its spelling fits. What can only be told of one model (that it has no seventh block, that
  its `dense` are three) is `space.canonical`'s to say.

The form of a version never changes: `tests/spec/semantic_hash_vectors.json` and `tools/semantic_hash/` hold it.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

from legion.foundation.canonical import digest_json
from legion.neuro_architecture.spec.architecture import (
    AdapterArchitecture,
    AnyArchitecture,
    CombinedArchitecture,
    LoRAArchitecture,
    MoEArchitecture,
    PeftArchitecture,
    SplitArchitecture,
    VirtualTokensArchitecture,
)
from legion.neuro_architecture.spec.scaling import scale_of, scaling_form, significant

__all__ = ["SEMANTIC_HASH_HEX_DIGITS", "SEMANTIC_VERSION", "semantic_digest", "semantic_form", "semantic_hash"]

SEMANTIC_VERSION: Final = 1
SEMANTIC_HASH_HEX_DIGITS: Final = 16
_ALL_LINEAR: Final = "all-linear"


def semantic_hash(architecture: AnyArchitecture) -> str:
    """16 hex digits that name the architecture: the beginning of `semantic_digest`."""
    return semantic_digest(architecture).removeprefix("sha256:")[:SEMANTIC_HASH_HEX_DIGITS]


def semantic_digest(architecture: AnyArchitecture) -> str:
    """`sha256:<64 hex>` of the canonical JSON of `semantic_form`.

    Raises:
        InvalidValueError: a number is too large for JSON.
    """
    return digest_json(semantic_form(architecture))


def semantic_form(architecture: AnyArchitecture) -> dict[str, Any]:
    """What the architecture computes, as plain JSON; the same for all spellings of it.

    Raises:
        InvalidValueError: a rank is too large for JSON.
    """
    match architecture:
        case LoRAArchitecture():
            body = _lora(architecture)
        case AdapterArchitecture():
            body = _bottleneck(architecture) | _layers(architecture.layers)
        case MoEArchitecture():
            body = _mixture(architecture)
        case SplitArchitecture():
            body = _split(architecture)
        case PeftArchitecture():
            body = {"target_modules": _targets(architecture.target_modules), "size": architecture.size}
            body |= _layers(architecture.layers)
        case VirtualTokensArchitecture():
            body = {"num_virtual_tokens": architecture.num_virtual_tokens}
        case CombinedArchitecture():
            body = _combined(architecture)
    return {"version": SEMANTIC_VERSION, "strategy": architecture.strategy} | body


def _lora(architecture: LoRAArchitecture) -> dict[str, Any]:
    targets = _targets(architecture.target_modules)
    endings = None if targets == [_ALL_LINEAR] else {name.rpartition(".")[2] for name in targets}
    return {
        "target_modules": targets,
        "dropout": significant(architecture.dropout),
        "use_dora": architecture.use_dora,
        **scaling_form(architecture, endings),
        **_layers(architecture.layers),
    }


def _bottleneck(architecture: AdapterArchitecture | CombinedArchitecture) -> dict[str, Any]:
    return {
        "bottleneck_size": architecture.bottleneck_size,
        "non_linearity": architecture.non_linearity,
        "placement": architecture.placement,
        "is_gated": architecture.is_gated,
        "dropout": significant(architecture.dropout),
    }


def _mixture(architecture: MoEArchitecture) -> dict[str, Any]:
    """Drawn experts have no router, hence no loss of one."""
    return {
        "num_experts": architecture.num_experts,
        "top_k": architecture.top_k,
        "bottleneck_size": architecture.bottleneck_size,
        "non_linearity": architecture.non_linearity,
        "is_gated": architecture.is_gated,
        "routing": architecture.routing,
        "balance": _balance(architecture) if architecture.routing == "learned" else 0.0,
        **_layers(architecture.layers),
    }


def _split(architecture: SplitArchitecture) -> dict[str, Any]:
    """Where all experts are kept there is nothing to balance."""
    return {
        "num_experts": architecture.num_experts,
        "top_k": architecture.experts_per_token,
        "rank": architecture.rank,
        "scale": scale_of(architecture.rank, architecture.alpha),
        "split": architecture.split,
        "balance": _balance(architecture) if architecture.strategy == "SparseRouting" else 0.0,
        **_layers(architecture.layers),
    }


def _combined(architecture: CombinedArchitecture) -> dict[str, Any]:
    return {
        "first_layer": architecture.first_layer,
        "boundary": architecture.boundary,
        "target_modules": _targets(architecture.target_modules),
        "rank": architecture.rank,
        "scale": scale_of(architecture.rank, architecture.alpha),
        **_bottleneck(architecture),
    }


def _balance(architecture: MoEArchitecture | SplitArchitecture) -> float:
    """The weight of the auxiliary loss: 0 where it is switched off, for 0 times a loss trains like none.

    A mixture that sends tokens to all experts keeps its weight, although its loss is a constant: rounding leaves it a
    gradient, and at the first step, when nothing else moves the router yet, Adam makes a whole step of it.
    """
    return significant(architecture.load_balancing_coefficient) if architecture.load_balancing else 0.0


def _layers(layers: Sequence[int] | None) -> dict[str, Any]:
    return {"layers": None if layers is None else list(layers)}


def _targets(names: Sequence[str]) -> list[str]:
    """Without the names whose linear layers another one names too.

    `all-linear` names every one. A short name (`dense`) names each linear layer whose path ends so, those of a longer
    name with the same ending (`output.dense`) among them (`adapters.targets.choose_linears`).
    """
    if _ALL_LINEAR in names:
        return [_ALL_LINEAR]
    return [name for name in names if "." not in name or name.rpartition(".")[2] not in names]
