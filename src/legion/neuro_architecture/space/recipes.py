"""Hyperparameters that a proposal is trained with: small grids, with what is known to work as the default.

Proxy training is short, and short training needs high rates: on movie sentiment (MiniLM, LoRA of rank 8 on all linear
layers, batches of 16) a rate of 5e-4 has hardly begun after 60 steps, 1e-3 is steady, and 2e-3 is faster but collapses
in some runs. Causal models take lower rates and smaller batches, as their examples are longer.

Methods that train few numbers take higher rates; the factors are those between what their authors, or PEFT's own
benchmark of methods, train them and a LoRA with. They were not measured here.
"""

from __future__ import annotations

import random
from collections.abc import Mapping
from typing import Any, Final

from legion.neuro_architecture.space.peft_methods import METHODS
from legion.neuro_architecture.space.traits import Trait
from legion.neuro_architecture.spec.architecture import Strategy
from legion.neuro_architecture.spec.proposal import Schedule, TrainingRecipe
from legion.neuro_architecture.spec.task import TaskKind

__all__ = ["default_recipe", "draw_recipe", "recipe_axes", "recipe_of"]

_Grid = dict[float, int]  # learning rate to prior weight

_CLASSIFICATION_RATES: Final[_Grid] = {5e-4: 1, 1e-3: 3, 2e-3: 1}
_CAUSAL_RATES: Final[_Grid] = {3e-4: 1, 5e-4: 2, 1e-3: 1}
_RATES: Final[dict[TaskKind, _Grid]] = {"classification": _CLASSIFICATION_RATES, "summarization": _CAUSAL_RATES}
# What a search looks at besides: rates between and around them, a longer warm-up, a decay that stays high for longer.
_SEARCHED_RATES: Final[dict[TaskKind, _Grid]] = {
    "classification": {3e-4: 1, 5e-4: 2, 1e-3: 6, 1.5e-3: 3, 2e-3: 2, 3e-3: 1},
    "summarization": {2e-4: 1, 3e-4: 2, 5e-4: 4, 1e-3: 2, 2e-3: 1},
}
_SEARCHED_WARMUPS: Final = {0.06: 3, 0.2: 1}
_SEARCHED_SCHEDULES: Final[dict[Schedule, int]] = {"linear": 3, "cosine": 1}
_BATCH_SIZES: Final[dict[TaskKind, int]] = {"classification": 16, "summarization": 4}
_VIRTUAL_TOKENS: Final = ("PrefixTuning", "PromptTuning")
_VIRTUAL_TOKENS_RATE_FACTOR: Final = 10.0


def default_recipe(kind: TaskKind, strategy: Strategy) -> TrainingRecipe:
    """The recipe with the likeliest learning rate."""
    grid = _RATES[kind]
    return _recipe(kind, strategy, max(grid, key=lambda rate: grid[rate]))


def draw_recipe(kind: TaskKind, strategy: Strategy, draw: random.Random) -> TrainingRecipe:
    """A recipe from the grid, by prior weight."""
    grid = _RATES[kind]
    (rate,) = draw.choices(list(grid), weights=list(grid.values()))
    return _recipe(kind, strategy, rate)


def recipe_axes(kind: TaskKind, strategy: Strategy) -> dict[str, dict[Trait, int]]:
    """What a search may choose of the training, each value with its prior weight. The batches are not among it: trials
    that are compared see the same examples.
    """
    factor = _rate_factor(strategy)
    return {
        "learning_rate": {_scaled(rate, factor): weight for rate, weight in _SEARCHED_RATES[kind].items()},
        "warmup_share": {share: weight for share, weight in _SEARCHED_WARMUPS.items()},  # noqa: C416 - widens the type
        "schedule": {name: weight for name, weight in _SEARCHED_SCHEDULES.items()},  # noqa: C416
    }


def recipe_of(kind: TaskKind, strategy: Strategy, chosen: Mapping[str, Any]) -> TrainingRecipe:
    """The recipe with these choices of `recipe_axes`; the others at their defaults."""
    return default_recipe(kind, strategy).model_copy(update=dict(chosen))


def _recipe(kind: TaskKind, strategy: Strategy, rate: float) -> TrainingRecipe:
    return TrainingRecipe(learning_rate=_scaled(rate, _rate_factor(strategy)), batch_size=_BATCH_SIZES[kind])


def _scaled(rate: float, factor: float) -> float:
    """Nine digits are kept, so that a factor leaves no rounding behind (3e-4 * 10 is 0.0029999999999999996)."""
    return float(f"{rate * factor:.9g}")


def _rate_factor(strategy: Strategy) -> float:
    if strategy in _VIRTUAL_TOKENS:
        return _VIRTUAL_TOKENS_RATE_FACTOR
    factors: dict[str, float] = {name: method.rate_factor for name, method in METHODS.items()}
    return factors.get(strategy, 1.0)
