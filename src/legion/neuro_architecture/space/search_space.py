"""The search space of one model: what may be proposed, how likely, and how many there are."""

from __future__ import annotations

import math
import random
from collections.abc import Iterable, Iterator, Sequence
from functools import cached_property
from typing import final, get_args

from legion.foundation.errors import InvalidValueError, UnknownNameError
from legion.neuro_architecture.anatomy.values import ModelAnatomy
from legion.neuro_architecture.space.members import Member, default_member, members
from legion.neuro_architecture.space.recipes import default_recipe, draw_recipe
from legion.neuro_architecture.space.sites import AnyArchitecture, served_form
from legion.neuro_architecture.space.validity import find_mistakes
from legion.neuro_architecture.spec.architecture import Strategy, semantic_hash, strategy_names
from legion.neuro_architecture.spec.proposal import TrainingRecipe
from legion.neuro_architecture.spec.task import TaskKind

__all__ = ["SearchSpace", "check_strategies"]


@final
class SearchSpace:
    """Every architecture of some strategies that is valid for one model.

    Spaces are small enough to be listed whole, so sizes are exact, draws never miss, and a walk never repeats.

    Args:
        anatomy: The model.
        strategies: Families to draw from; kept in the specification's order, whatever the order given.

    Raises:
        UnknownNameError: no such strategy.
        InvalidValueError: a strategy is named twice, or none is.
    """

    def __init__(self, anatomy: ModelAnatomy, strategies: Sequence[str]) -> None:
        self.anatomy = anatomy
        self.strategies = check_strategies(strategies)

    @property
    def kind(self) -> TaskKind:
        """The kind of task that the model's head serves."""
        return "summarization" if self.anatomy.is_causal else "classification"

    def size(self, strategy: Strategy | None = None) -> int:
        """How many distinct architectures there are, of one strategy or of all."""
        chosen = self.strategies if strategy is None else (strategy,)
        return sum(len(self._members[name]) for name in chosen)

    def default(self, strategy: Strategy) -> AnyArchitecture | None:
        """The well-known good start of the strategy, or None where the model is too narrow for any."""
        architecture = default_member(strategy, self.anatomy)
        return None if find_mistakes(architecture, self.anatomy) else architecture

    def draw(self, strategy: Strategy, draw: random.Random) -> tuple[AnyArchitecture, TrainingRecipe]:
        """One architecture by prior weight, with a recipe; a later draw may give the same again.

        Raises:
            InvalidValueError: the model is too narrow for this strategy.
        """
        candidates = self._members[strategy]
        if not candidates:
            raise InvalidValueError(
                f"no {strategy} fits this {self.anatomy.model_type}",
                cause=f"its hidden size is {self.anatomy.hidden_size}",
            )
        (chosen,) = draw.choices(candidates, weights=[weight for _, weight in candidates])
        return chosen[0], draw_recipe(self.kind, draw)

    def walk(self, strategy: Strategy, draw: random.Random) -> Iterator[tuple[AnyArchitecture, TrainingRecipe]]:
        """Every architecture of the strategy once: the good default first, the others drawn by prior weight.

        What differs from an earlier one only in training (dropout, load balancing) comes after everything else.
        """
        default = self.default(strategy)
        drawn = _weighted_order(self._members[strategy], draw)
        if default is not None:
            drawn.insert(0, drawn.pop(drawn.index(default)))
        for place, architecture in enumerate(_serving_differently_first(drawn)):
            is_default = place == 0 and default is not None
            yield architecture, default_recipe(self.kind) if is_default else draw_recipe(self.kind, draw)

    @cached_property
    def _members(self) -> dict[Strategy, list[Member]]:
        return {strategy: members(strategy, self.anatomy) for strategy in self.strategies}


def check_strategies(strategies: Sequence[str]) -> tuple[Strategy, ...]:
    """The strategies in the specification's order.

    Raises:
        UnknownNameError: no such strategy.
        InvalidValueError: one is named twice, or none is.
    """
    hint = f"name some of {', '.join(strategy_names())}, each once"
    if isinstance(strategies, str) or not strategies:
        raise InvalidValueError(f"strategies cannot be {strategies!r}", cause="it is no list of names", hint=hint)
    for name in strategies:
        if name not in strategy_names():
            raise UnknownNameError.of("strategy", str(name), strategy_names())
    repeated = sorted({name for name in strategies if list(strategies).count(name) > 1})
    if repeated:
        raise InvalidValueError(f"strategies named twice: {', '.join(repeated)}", hint=hint)
    return tuple(name for name in get_args(Strategy) if name in strategies)


def _weighted_order(candidates: Sequence[Member], draw: random.Random) -> list[AnyArchitecture]:
    """A weighted draw without replacement of all candidates (Efraimidis and Spirakis 2006: sort by u^(1/w))."""
    keyed = [(math.log1p(-draw.random()) / weight, index) for index, (_, weight) in enumerate(candidates)]
    return [candidates[index][0] for _, index in sorted(keyed, reverse=True)]


def _serving_differently_first(order: Iterable[AnyArchitecture]) -> list[AnyArchitecture]:
    """Those that serve something not seen before, in order; then those that only train differently."""
    seen: set[str] = set()
    fresh: list[AnyArchitecture] = []
    repeated: list[AnyArchitecture] = []
    for architecture in order:
        form = semantic_hash(served_form(architecture))
        (repeated if form in seen else fresh).append(architecture)
        seen.add(form)
    return fresh + repeated
