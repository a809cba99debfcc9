"""Generators by name."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from legion.foundation.errors import UnknownNameError
from legion.foundation.rng import RandomStream
from legion.neuro_architecture.generator.evolution import RegularisedEvolution
from legion.neuro_architecture.generator.latin_hypercube import LatinHypercube
from legion.neuro_architecture.generator.nsga import Nsga2
from legion.neuro_architecture.generator.optuna_generator import OptunaGenerator
from legion.neuro_architecture.generator.protocol import PointGenerator
from legion.neuro_architecture.generator.random_points import RandomGenerator
from legion.neuro_architecture.generator.tpe import TreeParzen
from legion.neuro_architecture.space import PointSpace

__all__ = ["GENERATORS", "build_generator"]

_Build = Callable[[PointSpace, RandomStream], PointGenerator]

_OPTUNA: Final = {
    "optuna-tpe": "TPESampler",
    "optuna-nsga2": "NSGAIISampler",
    "optuna-random": "RandomSampler",
}
_OURS: Final[dict[str, _Build]] = {
    "random": RandomGenerator,
    "latin-hypercube": LatinHypercube,
    "evolution": RegularisedEvolution,
    "nsga2": Nsga2,
    "tpe": TreeParzen,
}

GENERATORS: Final[dict[str, str]] = {
    "random": "draws by prior weight; learns nothing",
    "latin-hypercube": "spread evenly over every axis; learns nothing",
    "evolution": "mutates the best of a few recent trials (regularised evolution)",
    "nsga2": "crosses and mutates the best trials so far (NSGA-II)",
    "tpe": "proposes where good trials are dense and others are not (tree-structured Parzen estimator)",
    "optuna-tpe": "Optuna's TPESampler (extra `bench`)",
    "optuna-nsga2": "Optuna's NSGAIISampler (extra `bench`)",
    "optuna-random": "Optuna's RandomSampler (extra `bench`)",
}


def build_generator(name: str, space: PointSpace, stream: RandomStream) -> PointGenerator:
    """The generator called `name`, with nothing told yet.

    Raises:
        UnknownNameError: there is none of this name.
        WorldError: it needs Optuna, which is not installed.
    """
    if name in _OURS:
        return _OURS[name](space, stream)
    if name in _OPTUNA:
        return OptunaGenerator(space, stream, sampler=_OPTUNA[name])
    raise UnknownNameError.of("generator", name, GENERATORS)
