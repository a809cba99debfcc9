"""The search space of one model: what may be proposed, how likely, and how many there are."""

from __future__ import annotations

import math
import random
from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import cached_property
from typing import final, get_args

from legion.foundation.errors import InvalidValueError, UnknownNameError
from legion.neuro_architecture.anatomy.values import ModelAnatomy
from legion.neuro_architecture.space.members import Member, default_member, members, variants
from legion.neuro_architecture.space.recipes import default_recipe, draw_recipe
from legion.neuro_architecture.space.sites import served_form
from legion.neuro_architecture.space.validity import find_mistakes
from legion.neuro_architecture.spec.architecture import AnyArchitecture, Strategy, strategy_names
from legion.neuro_architecture.spec.proposal import TrainingRecipe
from legion.neuro_architecture.spec.semantics import semantic_hash
from legion.neuro_architecture.spec.task import TaskKind

__all__ = ["SearchSpace", "check_strategies"]


@final
class SearchSpace:
    """Every architecture of some strategies that is valid for one model.

    Spaces are small enough to be listed whole, so sizes are exact, draws never miss, and a walk never repeats.

    Args:
        anatomy: The model.
        strategies: Families to draw from; kept in the specification's order, whatever the order given.
        allow: What else an architecture has to meet; by default nothing.

    Raises:
        UnknownNameError: no such strategy.
        InvalidValueError: a strategy is named twice, or none is.
    """

    def __init__(
        self,
        anatomy: ModelAnatomy,
        strategies: Sequence[str],
        *,
        allow: Callable[[AnyArchitecture], bool] | None = None,
    ) -> None:
        self.anatomy = anatomy
        self.strategies = check_strategies(strategies)
        self._allow = allow

    @property
    def kind(self) -> TaskKind:
        """The kind of task that the model's head serves."""
        return "summarization" if self.anatomy.is_causal else "classification"

    def size(self, strategy: Strategy | None = None) -> int:
        """How many distinct architectures there are, of one strategy or of all."""
        chosen = self.strategies if strategy is None else (strategy,)
        return sum(len(self._members[name]) + len(self._variants[name]) for name in chosen)

    def default(self, strategy: Strategy) -> AnyArchitecture | None:
        """The well-known good start of the strategy, or None where the model cannot take it or it is not allowed."""
        architecture = default_member(strategy, self.anatomy)
        return None if self.obstacles(strategy) or not self.allows(architecture) else architecture

    def obstacles(self, strategy: Strategy) -> list[str]:
        """What stands between the strategy's good start and this model; nothing where it fits."""
        return find_mistakes(default_member(strategy, self.anatomy), self.anatomy)

    def draw(self, strategy: Strategy, draw: random.Random) -> tuple[AnyArchitecture, TrainingRecipe]:
        """One architecture by prior weight, with a recipe; a later draw may give the same again.

        Raises:
            InvalidValueError: nothing of this strategy fits the model, or is allowed.
        """
        candidates = self._members[strategy] + self._variants[strategy]
        if not candidates:
            cause = "\n".join(self.obstacles(strategy)) or "none that does is allowed"
            raise InvalidValueError(f"no {strategy} fits this {self.anatomy.model_type}", cause=cause)
        (chosen,) = draw.choices(candidates, weights=[weight for _, weight in candidates])
        return chosen[0], draw_recipe(self.kind, strategy, draw)

    def walk(self, strategy: Strategy, draw: random.Random) -> Iterator[tuple[AnyArchitecture, TrainingRecipe]]:
        """Every architecture of the strategy once: the good default first, the others drawn by prior weight.

        What differs from an earlier one only in training (dropout, load balancing) comes after everything else.
        """
        # Variants draw from a stream of their own: what the other members draw from `draw` stays what it was before
        # there were any.
        aside = random.Random(f"variants {draw.getstate()}")
        default = self.default(strategy)
        keyed = _draw_keys(self._members[strategy], draw)
        if default is not None:
            keyed = [(math.inf if architecture == default else key, architecture) for key, architecture in keyed]
        is_variant = {semantic_hash(architecture) for architecture, _ in self._variants[strategy]}
        keyed += _draw_keys(self._variants[strategy], aside)
        order = [architecture for _, architecture in sorted(keyed, key=lambda pair: pair[0], reverse=True)]
        for place, architecture in enumerate(_serving_differently_first(order)):
            if place == 0 and default is not None:
                yield architecture, default_recipe(self.kind, strategy)
            else:
                stream = aside if semantic_hash(architecture) in is_variant else draw
                yield architecture, draw_recipe(self.kind, strategy, stream)

    def allows(self, architecture: AnyArchitecture) -> bool:
        """Whether the architecture meets what it has to, beside being valid."""
        return self._allow is None or self._allow(architecture)

    @cached_property
    def _members(self) -> dict[Strategy, list[Member]]:
        return {strategy: self._allowed(members(strategy, self.anatomy)) for strategy in self.strategies}

    @cached_property
    def _variants(self) -> dict[Strategy, list[Member]]:
        return {
            strategy: self._allowed(variants(strategy, self.anatomy, self._members[strategy]))
            for strategy in self.strategies
        }

    def _allowed(self, candidates: list[Member]) -> list[Member]:
        return [(architecture, weight) for architecture, weight in candidates if self.allows(architecture)]


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


def _draw_keys(candidates: Sequence[Member], draw: random.Random) -> list[tuple[float, AnyArchitecture]]:
    """Keys by which, from the largest on, candidates come in a weighted draw without replacement (Efraimidis and
    Spirakis 2006: u^(1/w), here its logarithm).
    """
    return [(math.log1p(-draw.random()) / weight, architecture) for architecture, weight in candidates]


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
