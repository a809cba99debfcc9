"""What a recipe leaves of a space."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import final

from legion.foundation.errors import InvalidValueError, UnknownNameError
from legion.neuro_architecture.anatomy.values import ModelAnatomy
from legion.neuro_architecture.space.branch import Axis, Branch, axis_order, shares
from legion.neuro_architecture.space.members import Member
from legion.neuro_architecture.space.recipes import recipe_axes
from legion.neuro_architecture.space.traits import Trait, traits_of
from legion.neuro_architecture.spec.architecture import Strategy
from legion.neuro_architecture.spec.task import TaskKind

__all__ = ["Narrowing"]

EVERYWHERE = "*"


@final
class Narrowing:
    """The values that stay on each axis, strategy by strategy or everywhere.

    Args:
        wanted: By strategy, or `*` for all; a strategy's own word counts before that for all.
        strategies: Those that the recipe names.

    Raises:
        UnknownNameError: a strategy that the recipe does not name.
    """

    def __init__(self, wanted: Mapping[str, Mapping[str, Sequence[Trait]]], strategies: Sequence[str]) -> None:
        for name in wanted:
            if name != EVERYWHERE and name not in strategies:
                raise UnknownNameError.of(
                    "strategy", name, [EVERYWHERE, *strategies], hint="of those that the recipe names"
                )
        self._wanted = wanted

    def members(
        self, strategy: Strategy, candidates: list[Member], anatomy: ModelAnatomy, kind: TaskKind
    ) -> list[Member]:
        """The architectures within the bounds.

        Raises:
            UnknownNameError: no such axis, or no such value on it.
        """
        wanted = self._of(strategy)
        if not wanted:
            return candidates
        rows = [traits_of(architecture, anatomy) for architecture, _ in candidates]
        training = recipe_axes(kind, strategy)
        for name, values in wanted.items():
            known = sorted({row[name] for row in rows if name in row}, key=axis_order)
            if name in training or (not known and name in self._wanted.get(EVERYWHERE, {})):
                continue  # a bound for all strategies holds where the axis is
            _check_values(strategy, name, values, known, [*rows[0], *training])
        return [
            member
            for member, row in zip(candidates, rows, strict=True)
            if all(row[name] in values for name, values in wanted.items() if name in row)
        ]

    def branch(self, branch: Branch) -> Branch:
        """The branch with the training's axes within the bounds.

        Raises:
            UnknownNameError: no such value on an axis.
        """
        wanted = self._of(branch.strategy)
        return branch.with_recipe_axes(
            [_narrowed(branch.strategy, axis, wanted.get(axis.name)) for axis in branch.recipe_axes]
        )

    def _of(self, strategy: str) -> dict[str, Sequence[Trait]]:
        return {**self._wanted.get(EVERYWHERE, {}), **self._wanted.get(strategy, {})}


def _narrowed(strategy: str, axis: Axis, values: Sequence[Trait] | None) -> Axis:
    if values is None:
        return axis
    _check_values(strategy, axis.name, values, axis.values, [])
    kept = [(value, weight) for value, weight in zip(axis.values, axis.weights, strict=True) if value in values]
    weights = shares([weight for _, weight in kept])
    return Axis(axis.name, tuple(value for value, _ in kept), weights, axis.is_ordered)


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
