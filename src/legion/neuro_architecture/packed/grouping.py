"""Which members pass through the base together."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from legion.neuro_architecture.packed.cut import Cut
from legion.neuro_architecture.packed.dispatch import Dispatch
from legion.neuro_architecture.packed.member import Member

__all__ = ["partition"]

# What a member costs that begins behind the last block's network, in blocks.
_LEAST_BLOCKS: Final = 0.5


def partition(members: Sequence[Member], dispatch: Dispatch, *, num_blocks: int) -> list[list[Member]]:
    """The groups, in an order that only the members decide.

    Members of one group begin where its lowest does: those above pass through blocks that others have computed for
    them. With `dispatch.group_overhead` that is accepted where a group of their own would cost more.
    """
    found: list[list[Member]] = []
    for alike in _alike(members, is_merging=dispatch.group_overhead > 0.0):
        for tier in _tiers(alike, dispatch.group_overhead, num_blocks):
            size = 1 if tier[0].form == "whole" else _most(tier, dispatch, num_blocks)
            found += [tier[start : start + size] for start in range(0, len(tier), size)]
    return found


def _alike(members: Sequence[Member], *, is_merging: bool) -> list[list[Member]]:
    """Members that may share a group, each list sorted by where they begin."""
    kinds: dict[tuple[object, ...], list[Member]] = {}
    ordered = sorted(
        members, key=lambda member: (member.cut, member.form, member.reads_all, member.family, member.name)
    )
    for member in ordered:
        is_whole = member.form == "whole"
        own = () if is_merging else (member.cut, member.form, member.reads_all)
        kinds.setdefault((is_whole, member.has_own_networks, *own), []).append(member)
    return list(kinds.values())


def _tiers(members: list[Member], overhead: float, num_blocks: int) -> list[list[Member]]:
    """Consecutive members, cut where the sum over the parts of (overhead + members) * blocks to pass is least."""
    starts = [place for place, member in enumerate(members) if place == 0 or member.cut != members[place - 1].cut]
    ends = [*starts[1:], len(members)]
    costs: list[float] = [0.0]  # of everything before each start
    parts: list[list[int]] = [[]]  # with the tiers' first places
    for end in ends:
        options = [
            (costs[number] + (overhead + end - start) * _blocks(members[start].cut, num_blocks), number)
            for number, start in enumerate(starts[: len(costs)])
        ]
        cost, number = min(options)
        costs.append(cost)
        parts.append([*parts[number], starts[number]])
    firsts = parts[-1]
    return [members[start:end] for start, end in zip(firsts, [*firsts[1:], len(members)], strict=True)]


def _most(tier: Sequence[Member], dispatch: Dispatch, num_blocks: int) -> int:
    return max(1, int(dispatch.group_blocks / _blocks(tier[0].cut, num_blocks)))


def _blocks(cut: Cut, num_blocks: int) -> float:
    """Block passes above a cut."""
    return max(_LEAST_BLOCKS, num_blocks - cut.passes)
