"""A search space as points on named axes: what generators walk on, whatever an architecture looks like."""

from __future__ import annotations

import bisect
import copy
import itertools
import math
import random
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Final, final

from legion.foundation.errors import InvalidValueError, UnknownNameError
from legion.neuro_architecture.anatomy.values import ModelAnatomy
from legion.neuro_architecture.space.axes import each_start
from legion.neuro_architecture.space.members import Member, default_member, members, variants
from legion.neuro_architecture.space.recipes import default_recipe, recipe_axes, recipe_of
from legion.neuro_architecture.space.search_space import check_strategies
from legion.neuro_architecture.space.traits import Trait, traits_of
from legion.neuro_architecture.spec.architecture import AnyArchitecture, Strategy, semantic_hash
from legion.neuro_architecture.spec.proposal import TrainingRecipe
from legion.neuro_architecture.spec.task import TaskKind

__all__ = ["Axis", "Branch", "Candidate", "Point", "PointSpace"]

# The branch's number, then one code on each of its axes.
Point = tuple[int, ...]
Candidate = tuple[AnyArchitecture, TrainingRecipe]

_ANY_MEMBER_TRIES: Final = 200


@final
@dataclass(frozen=True, slots=True)
class Axis:
    """One choice.

    Attributes:
        name: As recipes write it.
        values: What may be chosen; rising where they are numbers.
        weights: Prior probability of each value, summing to 1.
        is_ordered: Whether neighbours are alike.
    """

    name: str
    values: tuple[Trait, ...]
    weights: tuple[float, ...]
    is_ordered: bool


@final
class Branch:
    """All candidates of one strategy: architectures that are valid together, times the training's own axes.

    Args:
        strategy: Its name.
        candidates: Valid architectures with prior weights.
        anatomy: The model.
        kind: Kind of the task, which decides the training's axes.
    """

    def __init__(self, strategy: Strategy, candidates: Sequence[Member], anatomy: ModelAnatomy, kind: TaskKind) -> None:
        self.strategy = strategy
        rows = [(traits_of(architecture, anatomy), architecture, weight) for architecture, weight in candidates]
        names = tuple(rows[0][0])
        self.axes = tuple(_axis(name, [(row[name], weight) for row, _, weight in rows]) for name in names)
        self.num_architecture_axes = len(self.axes)
        codes = [{value: code for code, value in enumerate(axis.values)} for axis in self.axes]
        self._members: dict[tuple[int, ...], AnyArchitecture] = {}
        weights: list[float] = []
        for row, architecture, weight in rows:
            key = tuple(code[row[name]] for code, name in zip(codes, names, strict=True))
            if key not in self._members:
                self._members[key] = architecture
                weights.append(weight)
        self._keys = list(self._members)
        self._weights = weights
        self._cumulative = list(itertools.accumulate(weights))
        self._by_hash = {semantic_hash(found): key for key, found in self._members.items()}
        self.recipe_axes = tuple(
            Axis(name, tuple(grid), _shares(list(grid.values())), is_ordered=not isinstance(next(iter(grid)), str))
            for name, grid in recipe_axes(kind, strategy).items()
        )
        self.axes += self.recipe_axes
        self._kind: TaskKind = kind

    @property
    def size(self) -> int:
        """Distinct candidates."""
        return len(self._members) * math.prod(len(axis.values) for axis in self.recipe_axes)

    @property
    def num_architectures(self) -> int:
        return len(self._members)

    @property
    def architectures(self) -> tuple[AnyArchitecture, ...]:
        """All of them, in a fixed order."""
        return tuple(self._members.values())

    def holds(self, codes: tuple[int, ...]) -> bool:
        """Whether the choices go together; the training's go with everything."""
        return codes[: self.num_architecture_axes] in self._members

    def all_codes(self) -> Iterator[tuple[int, ...]]:
        """Every candidate's choices, in a fixed order."""
        recipes = list(itertools.product(*(range(len(axis.values)) for axis in self.recipe_axes)))
        return (key + recipe for key in self._keys for recipe in recipes)

    def candidate(self, codes: tuple[int, ...]) -> Candidate:
        """The architecture and recipe of valid choices."""
        cut = self.num_architecture_axes
        chosen = {axis.name: axis.values[code] for axis, code in zip(self.recipe_axes, codes[cut:], strict=True)}
        return self._members[codes[:cut]], recipe_of(self._kind, self.strategy, chosen)

    def draw(self, draw: random.Random) -> tuple[int, ...]:
        """Choices by prior weight."""
        place = bisect.bisect_right(self._cumulative, draw.random() * self._cumulative[-1])
        key = self._keys[min(place, len(self._keys) - 1)]
        return key + tuple(_draw(axis, draw) for axis in self.recipe_axes)

    def codes_with(self, traits: Mapping[str, Trait]) -> tuple[int, ...] | None:
        """The choices in words; None where an axis lacks one, or they do not go together."""
        cut = self.num_architecture_axes
        try:
            key = tuple(axis.values.index(traits[axis.name]) for axis in self.axes[:cut])
        except (KeyError, ValueError):
            return None
        if key not in self._members:
            return None
        return key + tuple(_nearest(axis, traits.get(axis.name, axis.values[0])) for axis in self.recipe_axes)

    def reweighted(self, weights: Sequence[Sequence[float]]) -> Branch:
        """The same candidates under another prior.

        Args:
            weights: Probability of each value, axis by axis.
        """
        other = copy.copy(self)
        other.axes = tuple(
            Axis(axis.name, axis.values, tuple(row), axis.is_ordered)
            for axis, row in zip(self.axes, weights, strict=True)
        )
        other.recipe_axes = other.axes[self.num_architecture_axes :]
        gains = [
            [after / before for after, before in zip(row, axis.weights, strict=True)]
            for axis, row in zip(self.axes[: self.num_architecture_axes], weights, strict=False)
        ]
        other._weights = [
            weight * math.prod(gain[code] for gain, code in zip(gains, key, strict=True))
            for key, weight in zip(self._keys, self._weights, strict=True)
        ]
        other._cumulative = list(itertools.accumulate(other._weights))
        return other

    def codes_of(self, architecture: AnyArchitecture, recipe: TrainingRecipe) -> tuple[int, ...] | None:
        """Where a candidate lies; None where it is not of this branch. A recipe's value goes to the nearest one."""
        key = self._by_hash.get(semantic_hash(architecture))
        if key is None:
            return None
        values = recipe.to_dict()
        return key + tuple(_nearest(axis, values[axis.name]) for axis in self.recipe_axes)


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
        self._narrow = narrow or {}
        named = check_strategies(strategies)
        for name in self._narrow:
            if name != "*" and name not in named:
                raise UnknownNameError.of("strategy", name, ["*", *named], hint="of those that the recipe names")
        blocks = each_start(anatomy) if has_each_start else None
        branches: list[Branch] = []
        for strategy in named:
            plain = members(strategy, anatomy, blocks)
            found = [*plain, *variants(strategy, anatomy, plain, blocks)]
            allowed = [member for member in found if allow(member[0])]
            kept = self._narrowed(strategy, allowed) if allowed else []
            if kept:
                branches.append(self._with_recipes_narrowed(Branch(strategy, kept, anatomy, self.kind)))
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

    def _narrowed(self, strategy: Strategy, candidates: list[Member]) -> list[Member]:
        """Those within the recipe's bounds on the architecture."""
        wanted = self._wanted(strategy)
        if not wanted:
            return candidates
        rows = [traits_of(architecture, self.anatomy) for architecture, _ in candidates]
        training = recipe_axes(self.kind, strategy)
        for name, values in wanted.items():
            if name in training:
                continue
            known = sorted({row[name] for row in rows if name in row}, key=_order)
            if not known and name in self._narrow.get("*", {}):
                continue  # a bound for all strategies holds where the axis is
            _check_values(strategy, name, values, known, [*rows[0], *training])
        return [
            member
            for member, row in zip(candidates, rows, strict=True)
            if all(row[name] in values for name, values in wanted.items() if name in row)
        ]

    def _with_recipes_narrowed(self, branch: Branch) -> Branch:
        wanted = self._wanted(branch.strategy)
        narrowed = []
        for axis in branch.recipe_axes:
            values = wanted.get(axis.name)
            if values is None:
                narrowed.append(axis)
                continue
            _check_values(branch.strategy, axis.name, values, list(axis.values), [])
            kept = [(value, weight) for value, weight in zip(axis.values, axis.weights, strict=True) if value in values]
            weights = _shares([weight for _, weight in kept])
            narrowed.append(Axis(axis.name, tuple(value for value, _ in kept), weights, axis.is_ordered))
        branch.recipe_axes = tuple(narrowed)
        branch.axes = branch.axes[: branch.num_architecture_axes] + branch.recipe_axes
        return branch

    def _wanted(self, strategy: Strategy) -> dict[str, Sequence[Trait]]:
        return {**self._narrow.get("*", {}), **self._narrow.get(strategy, {})}


def _check_values(
    strategy: str, name: str, values: Sequence[Trait], known: Sequence[Trait], names: Sequence[str]
) -> None:
    """Raises UnknownNameError unless the axis is there and holds every value."""
    if not known:
        raise UnknownNameError.of("axis", f"{strategy}.{name}", names)
    if not values:
        raise InvalidValueError(f"[space.{strategy}] {name} lists no value", hint=f"of: {_spelled(known)}")
    for value in values:
        if value not in known:
            raise UnknownNameError(
                f"{strategy} has no {name} {value!r} here", cause=f"known: {_spelled(known)}", hint="legion space show"
            )


def _spelled(values: Sequence[Trait]) -> str:
    return ", ".join(map(str, values))


def _axis(name: str, weighted: Sequence[tuple[Trait, float]]) -> Axis:
    """The axis of one choice, with the prior's marginal."""
    weights: dict[Trait, float] = {}
    for value, weight in weighted:
        weights[value] = weights.get(value, 0.0) + weight
    values = sorted(weights, key=_order)
    is_ordered = name == "layers" or not any(isinstance(value, str) for value in values)
    return Axis(name, tuple(values), _shares([weights[value] for value in values]), is_ordered)


def _order(value: Trait) -> tuple[int, float, str]:
    """Numbers by size; blocks by where they begin, ranges before lists; words by the alphabet."""
    if not isinstance(value, str):
        return (0, float(value), "")
    first = value.split("-")[0].split(",")[0]
    if value == "all":
        return (0, -1.0, "")
    return (0, float(first) + 0.5 * ("," in value), value) if first.isdigit() else (1, 0.0, value)


def _shares(weights: Sequence[float]) -> tuple[float, ...]:
    total = math.fsum(weights)
    return tuple(weight / total for weight in weights)


def _draw(axis: Axis, draw: random.Random) -> int:
    return draw.choices(range(len(axis.values)), weights=axis.weights)[0]


def _nearest(axis: Axis, value: Trait) -> int:
    if value in axis.values:
        return axis.values.index(value)
    if isinstance(value, str):
        return 0
    return min(range(len(axis.values)), key=lambda code: abs(math.log(float(axis.values[code]) / float(value))))
