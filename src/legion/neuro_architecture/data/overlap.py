"""Texts that stand in two splits, or twice in one."""

from __future__ import annotations

import unicodedata
from collections.abc import Mapping, Sequence
from itertools import combinations

from legion.neuro_architecture.data.examples import Example
from legion.neuro_architecture.spec.task import Split

__all__ = ["find_overlaps", "normalise_text"]


def normalise_text(text: str) -> str:
    """The text for comparisons: NFKC, case folded, white space collapsed."""
    return " ".join(unicodedata.normalize("NFKC", text).casefold().split())


def find_overlaps(splits: Mapping[Split, Sequence[Example]]) -> list[str]:
    """A warning for each pair of splits that share texts, and for texts that repeat or contradict inside one."""
    keyed = {name: [(normalise_text(example.text), example) for example in rows] for name, rows in splits.items()}
    warnings = []
    for earlier, later in combinations(keyed, 2):
        known = {key for key, _ in keyed[earlier]}
        shared = [example for key, example in keyed[later] if key in known]
        if shared:
            examples = "; ".join(f"{example.id}: {_shorten(example.text)}" for example in shared[:3])
            warnings.append(
                f"{earlier} and {later} overlap: {len(shared)} of {len(keyed[later])} {later} texts are also in "
                f"{earlier}, so a score on {later} flatters ({examples})"
            )
    for name, rows in keyed.items():
        targets: dict[str, set[str]] = {}
        for key, example in rows:
            targets.setdefault(key, set()).add(example.target)
        if len(targets) < len(rows):
            torn = sum(len(values) > 1 for values in targets.values())
            warnings.append(f"{name} repeats {len(rows) - len(targets)} texts, {torn} of them with different targets")
    return warnings


def _shorten(text: str) -> str:
    return repr(text if len(text) <= 60 else text[:57] + "...")
