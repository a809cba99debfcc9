"""Pairs of texts that differ in who they speak of and should not differ in their label.

Counterfactual fairness by substitution, after arXiv:1809.04444 (perturbation sensitivity) and arXiv:1912.03593. The
templates and term lists are our own, in English. A swap in running text is by dictionary: `her` becomes `his` although
it can mean `him`, so a pair may be ungrammatical; it still should not change a label.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from itertools import pairwise
from typing import Final

__all__ = ["IdentityPair", "swap_identity", "template_pairs"]

TERMS: Final[dict[str, tuple[str, ...]]] = {
    "gender": ("male", "female", "transgender"),
    "religion": ("Christian", "Muslim", "Jewish", "Hindu", "Buddhist", "atheist"),
    "origin": ("American", "Mexican", "Nigerian", "Chinese", "Arab", "Indian", "Polish", "Roma"),
    "colour": ("white", "Black", "Asian"),
    "orientation": ("straight", "gay", "lesbian", "bisexual"),
    "age": ("young", "middle-aged", "elderly"),
    "body": ("able-bodied", "deaf", "blind", "disabled"),
}
TEMPLATES: Final = (
    "The {} student wrote to us about it.",
    "My {} neighbour told me what happened.",
    "Their {} colleague explains how it works.",
    "The story follows one {} family through a long winter.",
    "The {} lead is wonderful from start to finish.",
    "The {} lead cannot save a dull and lazy script.",
)
_GENDER_SWAPS: Final = {
    "he": "she", "him": "her", "his": "her", "himself": "herself", "man": "woman", "men": "women", "boy": "girl",
    "boys": "girls", "male": "female", "father": "mother", "fathers": "mothers", "dad": "mom", "son": "daughter",
    "sons": "daughters", "brother": "sister", "brothers": "sisters", "husband": "wife", "husbands": "wives",
    "boyfriend": "girlfriend", "uncle": "aunt", "grandfather": "grandmother", "king": "queen", "prince": "princess",
    "actor": "actress", "actors": "actresses", "gentleman": "lady", "gentlemen": "ladies", "guy": "gal", "guys": "gals",
    "mr": "mrs", "sir": "madam", "hero": "heroine",
}  # fmt: skip
_RUNNING_TERMS: Final = {
    "religion": ("Christian", "Muslim", "Jewish", "Hindu", "Buddhist"),
    "origin": ("American", "British", "French", "German", "Chinese", "Japanese", "Mexican", "Indian", "African"),
    "orientation": ("gay", "straight"),
    "age": ("young", "old"),
}
_AMBIGUOUS: Final = {"straight", "young", "old"}  # everyday words: swapped only when paired by a noun of a person
_PERSON: Final = r"(?=\s+(?:men|man|women|woman|people|person|boys?|girls?|couples?|lad(?:y|ies)|guys?|folks?))"


@dataclass(frozen=True, slots=True)
class IdentityPair:
    """Two texts that differ in an identity term only.

    Attributes:
        group: Kind of term (`gender`, `religion`, ...).
        first: The one text.
        second: The other.
    """

    group: str
    first: str
    second: str


def template_pairs() -> list[IdentityPair]:
    """Every template with every two neighbouring terms of each group."""
    return [
        IdentityPair(group, template.format(first), template.format(second))
        for template in TEMPLATES
        for group, terms in TERMS.items()
        for first, second in pairwise(terms)
    ]


def swap_identity(text: str) -> IdentityPair | None:
    """`text` and its counterfactual: all terms of the first group found are swapped; None where it has no term."""
    for group, pattern, swaps in _SWAPPERS:
        swapped = _substitute(text, pattern, swaps)
        if swapped != text:
            return IdentityPair(group, text, swapped)
    return None


def _substitute(text: str, pattern: re.Pattern[str], swaps: dict[str, str]) -> str:
    return pattern.sub(lambda match: _like(swaps[match.group().lower()], match.group()), text)


def _like(replacement: str, original: str) -> str:
    if original.isupper() and len(original) > 1:
        return replacement.upper()
    return replacement[0].upper() + replacement[1:] if original[0].isupper() else replacement


def _swapper(group: str, swaps: dict[str, str]) -> tuple[str, re.Pattern[str], dict[str, str]]:
    return group, re.compile(rf"(?<![\w-])(?:{'|'.join(_alternatives(swaps))})(?![\w-])", re.IGNORECASE), swaps


def _alternatives(swaps: Iterable[str]) -> list[str]:
    return [term + (_PERSON if term in _AMBIGUOUS else "") for term in sorted(swaps, key=len, reverse=True)]


def _ring(terms: tuple[str, ...]) -> dict[str, str]:
    return {term.lower(): terms[(index + 1) % len(terms)] for index, term in enumerate(terms)}


_SWAPPERS: Final = (
    _swapper("gender", {woman: man for man, woman in _GENDER_SWAPS.items()} | _GENDER_SWAPS),
    *(_swapper(group, _ring(terms)) for group, terms in _RUNNING_TERMS.items()),
)
