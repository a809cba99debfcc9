"""The choices that make up an architecture, under the names that recipes, generators and pictures use."""

from __future__ import annotations

from typing import Final

from legion.neuro_architecture.anatomy.values import ModelAnatomy
from legion.neuro_architecture.space.sites import target_sets
from legion.neuro_architecture.spec.architecture import (
    AdapterArchitecture,
    AnyArchitecture,
    CombinedArchitecture,
    LoRAArchitecture,
    MoEArchitecture,
    SplitArchitecture,
    VirtualTokensArchitecture,
)

__all__ = ["ALL_BLOCKS", "Trait", "block_label", "traits_of"]

Trait = str | int | float

ALL_BLOCKS: Final = "all"


def traits_of(architecture: AnyArchitecture, anatomy: ModelAnatomy) -> dict[str, Trait]:
    """Each choice by its name: numbers where there is an order, words elsewhere.

    `scale` is alpha over rank, but alpha itself for rsLoRA; `activation` says whether it is gated; `layers` is
    `all`, a range (`3-5`) or a list (`1,3,5`); `boundary` is the lowest block with a combination's bottleneck.
    """
    match architecture:
        case LoRAArchitecture():
            rank = min(architecture.rank, *architecture.rank_pattern.values(), architecture.rank)
            found: dict[str, Trait] = {
                "form": _form(architecture),
                "rank": rank,
                "scale": architecture.alpha / (1 if architecture.use_rslora else architecture.rank),
                "dropout": architecture.dropout,
                "targets": _targets(architecture.target_modules, anatomy),
            }
        case AdapterArchitecture():
            found = {
                "placement": architecture.placement,
                "bottleneck_size": architecture.bottleneck_size,
                "activation": _activation(architecture),
            }
        case MoEArchitecture():
            found = {
                "num_experts": architecture.num_experts,
                "top_k": architecture.top_k,
                "routing": _routing(architecture),
                "bottleneck_size": architecture.bottleneck_size,
                "activation": _activation(architecture),
            }
        case SplitArchitecture():
            found = {
                "num_experts": architecture.num_experts,
                "top_k": architecture.experts_per_token,
                "rank": architecture.rank,
                "scale": architecture.alpha / architecture.rank,
                "split": architecture.split,
                "balance": "on" if architecture.load_balancing else "off",
            }
        case CombinedArchitecture():
            first = architecture.first_layer
            return {
                "boundary": architecture.boundary,
                "rank": architecture.rank,
                "targets": _targets(architecture.target_modules, anatomy),
                "placement": architecture.placement,
                "bottleneck_size": architecture.bottleneck_size,
                "activation": _activation(architecture),
                "layers": block_label(tuple(range(first, anatomy.num_layers)) if first else None),
            }
        case VirtualTokensArchitecture():
            return {"num_virtual_tokens": architecture.num_virtual_tokens}
        case _:
            found = {"size": architecture.size or 0, "targets": _targets(architecture.target_modules, anatomy)}
    return found | {"layers": block_label(architecture.layers)}


def block_label(layers: tuple[int, ...] | None) -> str:
    """The blocks as a recipe writes them."""
    if layers is None:
        return ALL_BLOCKS
    first, last = layers[0], layers[-1]
    if len(layers) > 1 and layers == tuple(range(first, last + 1)):
        return f"{first}-{last}"
    return ",".join(map(str, layers))


def _form(architecture: LoRAArchitecture) -> str:
    if architecture.use_dora:
        return "dora"
    if architecture.use_rslora:
        return "rslora"
    return "wider_feed_forward" if architecture.rank_pattern else "plain"


def _activation(architecture: AdapterArchitecture | MoEArchitecture | CombinedArchitecture) -> str:
    return f"gated_{architecture.non_linearity}" if architecture.is_gated else architecture.non_linearity


def _routing(architecture: MoEArchitecture) -> str:
    if architecture.routing == "random":
        return "random"
    return "balanced" if architecture.load_balancing else "learned"


def _targets(names: tuple[str, ...], anatomy: ModelAnatomy) -> str:
    """The label of the set, or the names themselves where it is none of the well-known."""
    return next((label for label, known in target_sets(anatomy).items() if known == names), ",".join(names))
