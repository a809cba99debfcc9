"""What dominated means: the one definition that evaluator, charts and searches share."""

from __future__ import annotations

from collections.abc import Sequence

__all__ = ["dominates", "non_domination_ranks"]


def dominates(left: Sequence[float], right: Sequence[float], signs: Sequence[int]) -> bool:
    """Whether `left` is at least as good as `right` everywhere and better somewhere.

    Args:
        left: Values of one candidate, one for each objective.
        right: Values of the other.
        signs: +1 where more is better, -1 where less is.
    """
    gains = [sign * (one - other) for one, other, sign in zip(left, right, signs, strict=True)]
    return all(gain >= 0.0 for gain in gains) and any(gain > 0.0 for gain in gains)


def non_domination_ranks(points: Sequence[Sequence[float]], signs: Sequence[int]) -> list[int]:
    """Rank of each point: 1 for the non-dominated ones, 2 for those left once rank 1 is taken away, and so on.

    Equal points never dominate each other, so they share a rank.

    Source: NSGA-II, doi:10.1109/4235.996017, section III-A.
    """
    ranks = [0] * len(points)
    left, rank = set(range(len(points))), 0
    while left:
        rank += 1
        front = {
            index
            for index in left
            if not any(dominates(points[other], points[index], signs) for other in left if other != index)
        }
        for index in front:
            ranks[index] = rank
        left -= front
    return ranks
