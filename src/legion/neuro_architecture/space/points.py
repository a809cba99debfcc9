"""A search space as points on named axes: what generators walk on, whatever an architecture looks like."""

from __future__ import annotations

import copy
import random
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import cached_property
from typing import Final, final

from legion.foundation.errors import InvalidValueError
from legion.neuro_architecture.anatomy.values import ModelAnatomy
from legion.neuro_architecture.space.axes import each_start
from legion.neuro_architecture.space.branch import Axis, Branch, Candidate
from legion.neuro_architecture.space.members import default_member, members, variants
from legion.neuro_architecture.space.narrowing import Narrowing
from legion.neuro_architecture.space.recipes import default_recipe
from legion.neuro_architecture.space.search_space import check_strategies
from legion.neuro_architecture.space.traits import Trait
from legion.neuro_architecture.spec.architecture import AnyArchitecture
from legion.neuro_architecture.spec.proposal import TrainingRecipe
from legion.neuro_architecture.spec.task import TaskKind

__all__ = ["Point", "PointSpace"]

# The branch's number, then one code on each of its axes.
Point = tuple[int, ...]

_ANY_MEMBER_TRIES: Final = 200


@final
class PointSpace:
    """Everything that one study may propose.

    A point is a strategy and one choice on each of that strategy's axes. Not all choices go together (a rank above a
    width, a mixture's two experts with four on top): `holds` says which do, from the list of all valid architectures.

    Args:
        anatomy: The model, with the head of its task.
        strategies: Families to look among.
        narrow: For each strategy, or `*` for all, the values that stay on an axis.
        allow: What else an architecture has to meet.
        has_each_start: Whether adapters may begin at every block, or at a few well-known ones.

    Raises:
        UnknownNameError: no such strategy, axis or value.
        InvalidValueError: nothing is left.
    """

    def __init__(
        self,
        anatomy: ModelAnatomy,
        strategies: Sequence[str],
        *,
        narrow: Mapping[str, Mapping[str, Sequence[Trait]]] | None = None,
        allow: Callable[[AnyArchitecture], bool] = lambda _architecture: True,
        has_each_start: bool = True,
    ) -> None:
        self.anatomy = anatomy
        self.kind: TaskKind = "summarization" if anatomy.is_causal else "classification"
        named = check_strategies(strategies)
        narrowing = Narrowing(narrow or {}, named)
        blocks = each_start(anatomy) if has_each_start else None
        branches: list[Branch] = []
        for strategy in named:
            plain = members(strategy, anatomy, blocks)
            found = [*plain, *variants(strategy, anatomy, plain, blocks)]
            allowed = [member for member in found if allow(member[0])]
            kept = narrowing.members(strategy, allowed, anatomy, self.kind) if allowed else []
            if kept:
                branches.append(narrowing.branch(Branch(strategy, kept, anatomy, self.kind)))
        if not branches:
            raise InvalidValueError(
                f"nothing of {', '.join(named)} is left to search in",
                cause=f"no architecture is valid for this {anatomy.model_type}, allowed and within the recipe",
                hint="widen [space] in the recipe, or name more strategies",
            )
        self.branches = tuple(branches)
        self.shares = (1.0 / len(branches),) * len(branches)

    @property
    def size(self) -> int:
        """Distinct candidates, exactly."""
        return sum(branch.size for branch in self.branches)

    def holds(self, point: Point) -> bool:
        """Whether the point is a candidate."""
        return self.branches[point[0]].holds(point[1:])

    def points(self) -> Iterator[Point]:
        """Every point, in a fixed order."""
        return ((number, *codes) for number, branch in enumerate(self.branches) for codes in branch.all_codes())

    def candidate(self, point: Point) -> Candidate:
        """The candidate at a point.

        Raises:
            KeyError: the space does not hold it.
        """
        return self.branches[point[0]].candidate(point[1:])

    def point_of(self, architecture: AnyArchitecture, recipe: TrainingRecipe) -> Point | None:
        """Where a candidate lies, or None outside."""
        for number, branch in enumerate(self.branches):
            if branch.strategy == architecture.strategy:
                codes = branch.codes_of(architecture, recipe)
                return None if codes is None else (number, *codes)
        return None

    def draw(self, draw: random.Random) -> Point:
        """A point by prior weight: a strategy by its share, then by weight within."""
        number = draw.choices(range(len(self.branches)), weights=self.shares)[0]
        return (number, *self.branches[number].draw(draw))

    def point_with(self, traits: Mapping[str, Trait]) -> Point | None:
        """Where a candidate described in words lies; the training's values go to the nearest there are. None where its
        strategy or architecture is not here.
        """
        for number, branch in enumerate(self.branches):
            if branch.strategy == traits.get("strategy"):
                codes = branch.codes_with(traits)
                return None if codes is None else (number, *codes)
        return None

    def axes(self, point: Point) -> tuple[Axis, ...]:
        """The axes on which the point lies."""
        return self.branches[point[0]].axes

    def traits(self, point: Point) -> dict[str, Trait]:
        """The point in words: strategy and each choice."""
        branch = self.branches[point[0]]
        found: dict[str, Trait] = {"strategy": branch.strategy}
        return found | {axis.name: axis.values[code] for axis, code in zip(branch.axes, point[1:], strict=True)}

    def biased(
        self, shares: Sequence[float], weights: Sequence[Sequence[Sequence[float]]], starts: Sequence[Point]
    ) -> PointSpace:
        """The same candidates under another prior.

        Args:
            shares: Of the strategies.
            weights: Probability of each value, axis by axis, strategy by strategy.
            starts: What is looked at first, before the well-known good starts.
        """
        other = copy.copy(self)
        other.branches = tuple(branch.reweighted(rows) for branch, rows in zip(self.branches, weights, strict=True))
        other.shares = tuple(shares)
        other.__dict__["starts"] = tuple(dict.fromkeys((*starts, *self.starts)))
        return other

    @cached_property
    def starts(self) -> tuple[Point, ...]:
        """The well-known good start of each strategy, where the space holds it."""
        found = (
            self.point_of(default_member(branch.strategy, self.anatomy), default_recipe(self.kind, branch.strategy))
            for branch in self.branches
        )
        return tuple(point for point in found if point is not None)

    def nearest(self, point: Point, draw: random.Random) -> Point | None:
        """The point itself where the space holds it, else one that shares as many choices as a few draws find."""
        if self.holds(point):
            return point
        branch = self.branches[point[0]]
        best: tuple[int, tuple[int, ...]] | None = None
        for _ in range(_ANY_MEMBER_TRIES):
            drawn = branch.draw(draw)
            shared = sum(one == other for one, other in zip(drawn, point[1:], strict=True))
            if best is None or shared > best[0]:
                best = (shared, drawn)
        return None if best is None else (point[0], *best[1])
