"""The axes that candidates are compared on."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from legion.foundation.errors import InvalidValueError, UnknownNameError
from legion.neuro_architecture.spec._value import Value
from legion.neuro_architecture.spec.evaluation import Direction

__all__ = ["KNOWN", "Objective", "choose_objectives"]


class Objective(Value):
    """One axis.

    Attributes:
        name: As in recipes, on the command line and in records.
        direction: Whether more or less is better.
        unit: What one of it is.
        meaning: What is measured.
        is_predicted: Whether it is known before a candidate is trained, from its architecture alone.
    """

    name: str
    direction: Direction
    unit: str
    meaning: str
    is_predicted: bool = False

    @property
    def sign(self) -> int:
        """+1 where more is better, -1 where less is."""
        return 1 if self.direction == "maximise" else -1


_ALL: Final = (
    Objective(name="accuracy", direction="maximise", unit="share", meaning="the task's metric on held-out examples"),
    Objective(
        name="latency_ms",
        direction="minimise",
        unit="ms",
        meaning="median time of one forward pass of one example; predicted until it is measured",
        is_predicted=True,
    ),
    Objective(
        name="cost",
        direction="minimise",
        unit="FLOP/example",
        meaning="operations of one forward pass",
        is_predicted=True,
    ),
    Objective(
        name="memory_mb",
        direction="minimise",
        unit="MB",
        meaning="peak memory of serving base and adapter; predicted until it is measured",
        is_predicted=True,
    ),
    Objective(name="safety_violations", direction="minimise", unit="violations", meaning="found by the safety probes"),
    Objective(name="robustness", direction="maximise", unit="share", meaning="of accuracy kept on perturbed examples"),
    Objective(
        name="forgetting",
        direction="minimise",
        unit="nats",
        meaning="a token by which plain text is foretold worse than by the bare base; of causal models",
    ),
    Objective(
        name="calibration_error",
        direction="minimise",
        unit="share",
        meaning="expected distance of stated confidence from accuracy",
    ),
    Objective(
        name="size_bytes",
        direction="minimise",
        unit="bytes",
        meaning="the adapter's weights on disk",
        is_predicted=True,
    ),
)

KNOWN: Final[dict[str, Objective]] = {objective.name: objective for objective in _ALL}


def choose_objectives(names: Sequence[str]) -> tuple[Objective, ...]:
    """The objectives of these names, in their order.

    Raises:
        UnknownNameError: there is none of a name.
        InvalidValueError: no name, or one twice.
    """
    if not names:
        raise InvalidValueError("no objective", hint=f"name some of: {', '.join(KNOWN)}")
    twice = sorted({name for name in names if list(names).count(name) > 1})
    if twice:
        raise InvalidValueError(f"objective {twice[0]} is named twice")
    for name in names:
        if name not in KNOWN:
            raise UnknownNameError.of("objective", name, KNOWN)
    return tuple(KNOWN[name] for name in names)
