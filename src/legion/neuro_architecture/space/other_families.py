"""Split networks, PEFT's other methods and virtual tokens: every one worth proposing, with its prior weight."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import product
from typing import Final, Literal

from legion.neuro_architecture.anatomy.values import ModelAnatomy
from legion.neuro_architecture.space.axes import TARGET_SETS, BlockSets, Member, widest_below
from legion.neuro_architecture.space.peft_methods import METHODS
from legion.neuro_architecture.space.sites import canonical, target_sets
from legion.neuro_architecture.space.validity import find_mistakes
from legion.neuro_architecture.spec.architecture import (
    PEFT_SIZES,
    PeftArchitecture,
    PeftStrategy,
    SplitArchitecture,
    VirtualTokensArchitecture,
)

__all__ = [
    "default_method",
    "default_split",
    "method_members",
    "split_members",
    "virtual_token_members",
]

SplitStrategy = Literal["SplitLayer", "SparseRouting"]
VirtualStrategy = Literal["PrefixTuning", "PromptTuning"]

_RANKS: Final = {4: 1, 8: 3, 16: 3, 32: 1}
_ALPHA_OVER_RANK: Final = {1: 1, 2: 3}
_NUM_EXPERTS: Final = {2: 1, 4: 3, 8: 2, 16: 1}
_TOP_K: Final = {1: 1, 2: 3, 4: 2}
_SPLITS: Final[dict[Literal["clusters", "contiguous"], int]] = {"clusters": 3, "contiguous": 1}
_LOAD_BALANCING: Final = {True: 5, False: 1}
_NUM_VIRTUAL_TOKENS: Final = {4: 1, 8: 2, 16: 4, 32: 3, 64: 1}

_DEFAULT_RANK: Final = 8
_DEFAULT_NUM_EXPERTS: Final = 4


def split_members(strategy: SplitStrategy, blocks: BlockSets) -> Iterator[Member]:
    """Networks cut into experts, all of them kept or the top few."""
    inner = list(product(_RANKS.items(), _ALPHA_OVER_RANK.items(), _SPLITS.items(), blocks))
    for num_experts, top_k, is_balanced, expert_weight in _expert_choices(strategy):
        for (rank, rank_weight), (scale, scale_weight), (split, split_weight), (layers, layer_weight) in inner:
            architecture = SplitArchitecture(
                strategy=strategy,
                num_experts=num_experts,
                top_k=top_k,
                rank=rank,
                alpha=float(scale * rank),
                load_balancing=is_balanced,
                split=split,
                layers=layers,
            )
            yield architecture, expert_weight * rank_weight * scale_weight * split_weight * layer_weight


def _expert_choices(strategy: SplitStrategy) -> list[tuple[int, int, bool, int]]:
    """Experts, how many of them a token is sent to, whether their load is balanced, and the prior weight."""
    if strategy == "SplitLayer":
        return [(num_experts, num_experts, True, weight) for num_experts, weight in _NUM_EXPERTS.items()]
    return [
        (num_experts, top_k, is_balanced, weight * top_weight * balance_weight)
        for (num_experts, weight), (top_k, top_weight), (is_balanced, balance_weight) in product(
            _NUM_EXPERTS.items(), _TOP_K.items(), _LOAD_BALANCING.items()
        )
        if top_k < num_experts
    ]


def default_split(strategy: SplitStrategy, anatomy: ModelAnatomy) -> SplitArchitecture:
    """Four experts, or what divides the network; all of them, or half; a correction of rank 8."""
    divisors = [count for count in _NUM_EXPERTS if anatomy.intermediate_size % count == 0]
    num_experts = max((count for count in divisors if count <= _DEFAULT_NUM_EXPERTS), default=_DEFAULT_NUM_EXPERTS)
    rank = widest_below(min(anatomy.hidden_size, anatomy.intermediate_size), _RANKS, _DEFAULT_RANK)
    return SplitArchitecture(strategy=strategy, num_experts=num_experts, rank=rank, alpha=2.0 * rank)


def method_members(strategy: PeftStrategy, anatomy: ModelAnatomy, blocks: BlockSets) -> Iterator[Member]:
    """One of PEFT's methods: where, and which size."""
    sizes = METHODS[strategy].sizes or {0: 1}
    for (label, targets), (layers, layer_weight), (size, size_weight) in product(
        target_sets(anatomy).items(), blocks, sizes.items()
    ):
        architecture = _method(strategy, size, targets, layers)
        yield canonical(architecture, anatomy), TARGET_SETS[label] * layer_weight * size_weight


def _method(
    strategy: PeftStrategy, size: int, targets: tuple[str, ...], layers: tuple[int, ...] | None
) -> PeftArchitecture:
    word = PEFT_SIZES[strategy]
    sized = {} if word is None else {word: size}
    return PeftArchitecture.model_validate({"strategy": strategy, "target_modules": targets, "layers": layers} | sized)


def default_method(strategy: PeftStrategy, anatomy: ModelAnatomy) -> PeftArchitecture:
    """The method at its default size on all linear layers, or at the largest below it that fits."""
    wanted = PeftArchitecture(strategy=strategy)
    smaller = sorted((size for size in METHODS[strategy].sizes if size < (wanted.size or 0)), reverse=True)
    others = [_method(strategy, size, wanted.target_modules, None) for size in smaller]
    fitting = (method for method in (wanted, *others) if not find_mistakes(method, anatomy))
    return canonical(next(fitting, wanted), anatomy)


def virtual_token_members(strategy: VirtualStrategy) -> Iterator[Member]:
    """How many virtual tokens."""
    for count, weight in _NUM_VIRTUAL_TOKENS.items():
        yield VirtualTokensArchitecture(strategy=strategy, num_virtual_tokens=count), weight
