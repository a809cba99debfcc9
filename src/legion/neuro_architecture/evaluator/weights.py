"""Weights of the score: read from text, checked all at once, used as given."""

from __future__ import annotations

import difflib
import math
from collections.abc import Mapping
from typing import Final

from legion.foundation.errors import InvalidValueError
from legion.neuro_architecture.spec.evaluation import DEFAULT_WEIGHTS, OBJECTIVES

__all__ = ["check_weights", "parse_weights"]

_NAMES: Final = tuple(objective.name for objective in OBJECTIVES)
_HINT: Final = 'write --weights "' + ",".join(f"{name}:{weight:g}" for name, weight in DEFAULT_WEIGHTS.items()) + '"'


def parse_weights(text: str) -> dict[str, float]:
    """The weights in `accuracy:0.5,latency:0.2,safety:0.3`; an objective that is not named weighs nothing.

    Weights are used as given: they are not scaled to a sum of one, so the bare base scores the signed sum of them.

    Raises:
        InvalidValueError: lists every mistake: a part without `name:number`, an unknown or repeated objective, a
            weight that is negative or no finite number, all weights zero.
    """
    weights: dict[str, float] = {}
    mistakes: list[str] = []
    for part in filter(None, (piece.strip() for piece in text.split(","))):
        name, colon, number = (piece.strip() for piece in part.partition(":"))
        if not colon:
            mistakes.append(f"{part!r} is not name:number")
            continue
        if name in weights:
            mistakes.append(f"{name!r} is named twice")
            continue
        try:
            weights[name] = float(number)
        except ValueError:
            mistakes.append(f"weight of {name!r} is {number!r}, which is no number")
    return _checked(weights, mistakes, shown=text)


def check_weights(weights: Mapping[str, float]) -> dict[str, float]:
    """The weights as plain floats.

    Raises:
        InvalidValueError: lists every mistake, as `parse_weights` does.
    """
    mistakes = [
        f"weight of {name!r} is {weight!r}, which is no number"
        for name, weight in weights.items()
        if isinstance(weight, bool) or not isinstance(weight, (int, float))
    ]
    numbers = {name: float(weight) for name, weight in weights.items() if isinstance(weight, (int, float))}
    return _checked(numbers, mistakes, shown=dict(weights))


def _checked(weights: dict[str, float], mistakes: list[str], *, shown: object) -> dict[str, float]:
    for name, weight in weights.items():
        if name not in _NAMES:
            near = difflib.get_close_matches(name.lower(), _NAMES, n=1)
            advice = f", did you mean {near[0]!r}?" if near else f" (known: {', '.join(_NAMES)})"
            mistakes.append(f"no objective {name!r}{advice}")
        if not math.isfinite(weight):
            mistakes.append(f"weight of {name!r} is {weight}, which is no weight")
        elif weight < 0.0:
            mistakes.append(f"weight of {name!r} is {weight:g}; the direction is in the formula, weights are 0 or more")
    if not mistakes and not any(weights.values()):
        mistakes.append("no objective has a weight above zero")
    if mistakes:
        raise InvalidValueError(f"weights {shown!r} cannot be used", cause="\n".join(mistakes), hint=_HINT)
    return weights
