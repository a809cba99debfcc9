"""Rank and scale of each linear layer that a LoRA corrects, in one form whatever the rule that they are spelled by.

PEFT multiplies by alpha / rank, or by alpha / sqrt(rank) for rsLoRA, where both may be a single layer's own: a key of
`rank_pattern` or `alpha_pattern` is a regular expression for the end of a path from a dot on, and of those that fit the
alphabetically first holds (`adapters.targets.rank_at`).
"""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Collection, Mapping
from typing import Any, Final, TypeVar

from legion.foundation.errors import InvalidValueError
from legion.neuro_architecture.spec.architecture import LoRAArchitecture

__all__ = ["SIGNIFICANT_DIGITS", "scale_of", "scaling_form", "significant"]

SIGNIFICANT_DIGITS: Final = 12
_LARGEST_RANK: Final = 2**53 - 1
_EVERYTHING: Final = ".*"
_PLAIN: Final = re.compile(r"[A-Za-z0-9_.-]+")  # a dot is any character; the others mean themselves
_Number = TypeVar("_Number", int, float)
_Value = TypeVar("_Value")
_Pair = tuple[int, float]


def significant(value: float) -> float:
    """The number to twelve significant digits.

    alpha / sqrt(rank) of a rounded alpha misses alpha / rank by an ulp or two, 1e-16; weights of 24 bits see 6e-8.
    """
    return float(f"{value:.{SIGNIFICANT_DIGITS - 1}e}") + 0.0  # of -0.0, 0.0


def scale_of(rank: int, alpha: float, *, is_root: bool = False) -> float:
    """What B A x is multiplied by, to twelve significant digits.

    Raises:
        InvalidValueError: the rank is too large for JSON.
    """
    if rank > _LARGEST_RANK:
        raise InvalidValueError(f"rank {rank} is too large to be written as JSON")
    return significant(alpha / (math.sqrt(rank) if is_root else rank))


def scaling_form(architecture: LoRAArchitecture, endings: Collection[str] | None) -> dict[str, Any]:
    """`rank`, `scale` and `exceptions`, a list of key, rank and scale; or, where two patterns interlock so that
    this cannot be told from the keys alone, what was written without its idle entries.

    Args:
        architecture: The LoRA.
        endings: Last parts of the paths that its targets may have, or None for any.
    """
    rank, ranks = _reduced(architecture.rank, architecture.rank_pattern)
    alpha, alphas = _reduced(architecture.alpha, architecture.alpha_pattern)
    is_root = architecture.use_rslora

    def pair(own_rank: int, own_alpha: float) -> _Pair:
        return own_rank, scale_of(own_rank, own_alpha, is_root=is_root)

    common = pair(rank, alpha)
    if _interlock(ranks, alphas) or _interlock(alphas, ranks):
        return {
            "rank": rank,
            "alpha": significant(alpha),
            "use_rslora": is_root,
            "rank_pattern": [[key, ranks[key]] for key in sorted(ranks)],
            "alpha_pattern": [[key, significant(alphas[key])] for key in sorted(alphas)],
        }
    pairs = {key: pair(ranks.get(key, rank), alphas.get(key, alpha)) for key in ranks.keys() | alphas.keys()}
    exceptions = _without_idle(common, pairs)
    if endings is not None:
        common, exceptions = _by_ending(common, exceptions, endings)
    return {
        "rank": common[0],
        "scale": common[1],
        "exceptions": [[key, *exceptions[key]] for key in sorted(exceptions)],
    }


def _reduced(default: _Number, pattern: Mapping[str, _Number]) -> tuple[_Number, dict[str, _Number]]:
    """The same values: `.*` fits every layer, so it is the default, and what comes behind it is never reached."""
    if _EVERYTHING in pattern:
        default, pattern = (
            pattern[_EVERYTHING],
            {key: value for key, value in pattern.items() if key < _EVERYTHING},
        )
    kept = _without_idle(_rounded(default), {key: _rounded(value) for key, value in pattern.items()})
    return default, {key: pattern[key] for key in kept}


def _rounded(value: float) -> float:
    """An alpha as it is compared; a rank as it is."""
    return significant(value) if isinstance(value, float) else value


def _without_idle(default: _Value, pattern: Mapping[str, _Value]) -> dict[str, _Value]:
    """Without the entries of the default's value, unless a later one that may fit the same layer says otherwise."""
    kept: dict[str, _Value] = {}
    for key in sorted(pattern, reverse=True):
        if pattern[key] != default or any(_may_meet(key, other) and kept[other] != default for other in kept):
            kept[key] = pattern[key]
    return kept


def _interlock(ones: Collection[str], others: Collection[str]) -> bool:
    """Whether a layer that one of `ones` decides may be decided by another key among `others`."""
    return any(_may_meet(key, other) for key in ones if key not in others for other in others if other > key)


def _may_meet(one: str, other: str) -> bool:
    """Whether some path may end as both keys say; told for keys of plain letters, assumed for the rest."""
    if not (_PLAIN.fullmatch(one) and _PLAIN.fullmatch(other)):
        return True
    short, long = sorted((one, other), key=len)
    before, tail = long[: -len(short)], long[-len(short) :]
    return before[-1:] in {"", "."} and all(a == b or "." in {a, b} for a, b in zip(short, tail, strict=True))


def _by_ending(
    common: _Pair, exceptions: Mapping[str, _Pair], endings: Collection[str]
) -> tuple[_Pair, dict[str, _Pair]]:
    """The targets' most frequent pair as the common one (the largest of several), and the targets of other pairs.

    Only where every key is one plain ending, which fits the paths with that last part and no others.
    """
    if any("." in key or not _PLAIN.fullmatch(key) for key in exceptions):
        return common, dict(exceptions)
    pairs = {ending: exceptions.get(ending, common) for ending in endings}
    counts = Counter(pairs.values())
    most = max(counts, key=lambda value: (counts[value], value))
    return most, {ending: value for ending, value in pairs.items() if value != most}
