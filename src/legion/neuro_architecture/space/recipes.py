"""Hyperparameters that a proposal is trained with: small grids, with what is known to work as the default.

Proxy training is short, and short training needs high rates: on movie sentiment (MiniLM, LoRA of rank 8 on all linear
layers, batches of 16) a rate of 5e-4 has hardly begun after 60 steps, 1e-3 is steady, and 2e-3 is faster but collapses
in some runs. Causal models take lower rates and smaller batches, as their examples are longer.

Methods that train few numbers take higher rates; the factors are those between what their authors, or PEFT's own
benchmark of methods, train them and a LoRA with. They were not measured here.
"""

from __future__ import annotations

import random
from typing import Final

from legion.neuro_architecture.space.peft_methods import METHODS
from legion.neuro_architecture.spec.architecture import Strategy
from legion.neuro_architecture.spec.proposal import TrainingRecipe
from legion.neuro_architecture.spec.task import TaskKind

__all__ = ["default_recipe", "draw_recipe"]

_Grid = dict[float, int]  # learning rate to prior weight

_CLASSIFICATION_RATES: Final[_Grid] = {5e-4: 1, 1e-3: 3, 2e-3: 1}
_CAUSAL_RATES: Final[_Grid] = {3e-4: 1, 5e-4: 2, 1e-3: 1}
_RATES: Final[dict[TaskKind, _Grid]] = {"classification": _CLASSIFICATION_RATES, "summarization": _CAUSAL_RATES}
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


def _recipe(kind: TaskKind, strategy: Strategy, rate: float) -> TrainingRecipe:
    """Nine digits are kept, so that a factor leaves no rounding behind (3e-4 * 10 is 0.0029999999999999996)."""
    scaled = float(f"{rate * _rate_factor(strategy):.9g}")
    return TrainingRecipe(learning_rate=scaled, batch_size=_BATCH_SIZES[kind])


def _rate_factor(strategy: Strategy) -> float:
    if strategy in _VIRTUAL_TOKENS:
        return _VIRTUAL_TOKENS_RATE_FACTOR
    factors: dict[str, float] = {name: method.rate_factor for name, method in METHODS.items()}
    return factors.get(strategy, 1.0)
