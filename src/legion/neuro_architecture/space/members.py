"""Every architecture worth proposing for one model, with its prior weight.

Each axis is a small grid; axes are conditional (a rank below the width of its own targets, gating only where the
base's feed-forward network is gated). Axes that came after the first release (rsLoRA, DoRA, patterns, bottlenecks
behind the block, sixteen experts, random routing) are `variants`: together they hold a small share of their strategy's
prior, so that what a seed proposes changes little.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import Final

from legion.neuro_architecture.anatomy.values import ModelAnatomy
from legion.neuro_architecture.space.axes import BlockSets, Member, layer_axis
from legion.neuro_architecture.space.combinations import combined_members, default_combined
from legion.neuro_architecture.space.first_families import adapter_members, first_default, lora_members, moe_members
from legion.neuro_architecture.space.other_families import (
    default_method,
    default_split,
    method_members,
    split_members,
    virtual_token_members,
)
from legion.neuro_architecture.space.validity import find_mistakes
from legion.neuro_architecture.space.variants import adapter_variants, lora_variants, moe_variants
from legion.neuro_architecture.spec.architecture import AnyArchitecture, Strategy, VirtualTokensArchitecture
from legion.neuro_architecture.spec.semantics import semantic_hash

__all__ = ["Member", "default_member", "members", "variants"]

_VARIANTS_SHARE: Final = 0.06


def members(strategy: Strategy, anatomy: ModelAnatomy, blocks: BlockSets | None = None) -> list[Member]:
    """Every distinct valid architecture of the strategy but its variants, in a fixed order, with its positive prior
    weight.

    Axes hold canonical spellings only, so equal hashes are equal architectures and nothing is proposed twice.

    Args:
        strategy: The family.
        anatomy: The model.
        blocks: Which blocks may be adapted, with prior weights; a few well-known sets by default.
    """
    blocks = layer_axis(anatomy) if blocks is None else blocks
    match strategy:
        case "LoRA":
            made = lora_members(anatomy, blocks)
        case "Adapter":
            made = adapter_members(anatomy, blocks)
        case "MoE":
            made = moe_members(anatomy, blocks)
        case "SplitLayer" | "SparseRouting":
            made = split_members(strategy, blocks)
        case "Combined":
            made = combined_members(anatomy, blocks)
        case "PrefixTuning" | "PromptTuning":
            made = virtual_token_members(strategy)
        case _:
            made = method_members(strategy, anatomy, blocks)
    return _distinct_and_valid(made, anatomy)


def variants(
    strategy: Strategy, anatomy: ModelAnatomy, others: Iterable[Member], blocks: BlockSets | None = None
) -> list[Member]:
    """The valid architectures of the strategy's later axes, none among the `others`, weighted to a fixed share."""
    blocks = layer_axis(anatomy) if blocks is None else blocks
    match strategy:
        case "LoRA":
            made = lora_variants(anatomy, blocks)
        case "Adapter":
            made = adapter_variants(anatomy, blocks)
        case "MoE":
            made = moe_variants(anatomy, blocks)
        case _:
            return []
    known = {semantic_hash(architecture): weight for architecture, weight in others}
    fresh = [member for member in _distinct_and_valid(made, anatomy) if semantic_hash(member[0]) not in known]
    total = math.fsum(weight for _, weight in fresh)
    wanted = math.fsum(known.values()) * _VARIANTS_SHARE / (1.0 - _VARIANTS_SHARE)
    return [(architecture, weight * wanted / total) for architecture, weight in fresh] if wanted else fresh


def _distinct_and_valid(made: Iterable[Member], anatomy: ModelAnatomy) -> list[Member]:
    distinct: dict[str, Member] = {}
    for architecture, weight in made:
        if not find_mistakes(architecture, anatomy):
            distinct.setdefault(semantic_hash(architecture), (architecture, weight))
    return list(distinct.values())


def default_member(strategy: Strategy, anatomy: ModelAnatomy) -> AnyArchitecture:
    """The well-known good start of the strategy, on all blocks.

    In a model too narrow for it, the widest that fits; the value may still be invalid where none fits.
    """
    match strategy:
        case "LoRA" | "Adapter" | "MoE":
            return first_default(strategy, anatomy)
        case "SplitLayer" | "SparseRouting":
            return default_split(strategy, anatomy)
        case "Combined":
            return default_combined(anatomy)
        case "PrefixTuning" | "PromptTuning":
            return VirtualTokensArchitecture(strategy=strategy)
        case _:
            return default_method(strategy, anatomy)
