"""All candidates of one strategy, as choices on named axes."""

from __future__ import annotations

import bisect
import copy
import itertools
import math
import random
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import final

from legion.neuro_architecture.anatomy.values import ModelAnatomy
from legion.neuro_architecture.space.members import Member
from legion.neuro_architecture.space.recipes import recipe_axes, recipe_of
from legion.neuro_architecture.space.traits import Trait, traits_of
from legion.neuro_architecture.spec.architecture import AnyArchitecture, Strategy
from legion.neuro_architecture.spec.proposal import TrainingRecipe
from legion.neuro_architecture.spec.semantics import semantic_hash
from legion.neuro_architecture.spec.task import TaskKind

__all__ = ["Axis", "Branch", "Candidate", "axis_order", "shares"]

Candidate = tuple[AnyArchitecture, TrainingRecipe]


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
            Axis(name, tuple(grid), shares(list(grid.values())), is_ordered=not isinstance(next(iter(grid)), str))
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

    def with_recipe_axes(self, axes: Sequence[Axis]) -> Branch:
        """The same architectures under other axes of the training."""
        other = copy.copy(self)
        other.recipe_axes = tuple(axes)
        other.axes = self.axes[: self.num_architecture_axes] + other.recipe_axes
        return other

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


def _axis(name: str, weighted: Sequence[tuple[Trait, float]]) -> Axis:
    """The axis of one choice, with the prior's marginal."""
    weights: dict[Trait, float] = {}
    for value, weight in weighted:
        weights[value] = weights.get(value, 0.0) + weight
    values = sorted(weights, key=axis_order)
    isaxis_ordered = name == "layers" or not any(isinstance(value, str) for value in values)
    return Axis(name, tuple(values), shares([weights[value] for value in values]), isaxis_ordered)


def axis_order(value: Trait) -> tuple[int, float, str]:
    """Numbers by size; blocks by where they begin, ranges before lists; words by the alphabet."""
    if not isinstance(value, str):
        return (0, float(value), "")
    first = value.split("-")[0].split(",")[0]
    if value == "all":
        return (0, -1.0, "")
    return (0, float(first) + 0.5 * ("," in value), value) if first.isdigit() else (1, 0.0, value)


def shares(weights: Sequence[float]) -> tuple[float, ...]:
    """The weights, summing to 1."""
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
