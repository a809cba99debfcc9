"""Bounds that a candidate must keep: `latency_ms<=12`, `safety_violations==0`."""

from __future__ import annotations

import math
import operator
import re
from collections.abc import Callable, Mapping, Sequence
from typing import Final, Literal, get_args

from legion.foundation.errors import InvalidValueError, UnknownNameError
from legion.neuro_architecture.objectives.objectives import KNOWN
from legion.neuro_architecture.spec._value import Value

__all__ = ["Constraint", "parse_constraint", "refuse_contradictions", "total_violation"]

Relation = Literal["<=", ">=", "==", "<", ">"]

_HOLDS: Final[dict[str, Callable[[float, float], bool]]] = {
    "<=": operator.le,
    ">=": operator.ge,
    "==": operator.eq,
    "<": operator.lt,
    ">": operator.gt,
}
_FORM: Final = re.compile(r"\s*([a-z_]+)\s*(<=|>=|==|<|>)\s*([-+0-9.eE]+)\s*")


class Constraint(Value):
    """A bound on one objective, whether or not it is searched along."""

    objective: str
    relation: Relation
    bound: float

    def __str__(self) -> str:
        return f"{self.objective}{self.relation}{self.bound:g}"

    def holds(self, value: float) -> bool:
        """Whether `value` keeps the bound."""
        return _HOLDS[self.relation](value, self.bound)

    def violation(self, value: float | None) -> float:
        """How far `value` is from the bound, as a share of it (of 1 where it is smaller); infinite where nothing is
        known, 0 where it holds.
        """
        if value is None or math.isnan(value):
            return math.inf
        if self.holds(value):
            return 0.0
        return max(abs(value - self.bound) / max(abs(self.bound), 1.0), math.ulp(0.0))


def parse_constraint(text: str) -> Constraint:
    """The constraint in `latency_ms<=12`.

    Raises:
        InvalidValueError: not of that form, or no finite bound.
        UnknownNameError: there is no such objective.
    """
    found = _FORM.fullmatch(text)
    if found is None:
        relations = " ".join(get_args(Relation))
        raise InvalidValueError(f"constraint {text!r} is not understood", hint=f"latency_ms<=12; one of {relations}")
    name, relation, number = found.groups()
    if name not in KNOWN:
        raise UnknownNameError.of("objective", name, KNOWN)
    try:
        bound = float(number)
    except ValueError as error:
        raise InvalidValueError(f"constraint {text!r} has no number for its bound", cause=repr(number)) from error
    return Constraint.parse({"objective": name, "relation": relation, "bound": bound}, what=f"constraint {text!r}")


def total_violation(constraints: Sequence[Constraint], values: Mapping[str, float | None]) -> float:
    """The sum over all constraints; 0 where all hold."""
    return sum(constraint.violation(values.get(constraint.objective)) for constraint in constraints)


def refuse_contradictions(constraints: Sequence[Constraint]) -> None:
    """Raises InvalidValueError where no number at all keeps all bounds on an objective; names the two that part."""
    for place, one in enumerate(constraints):
        for other in constraints[place + 1 :]:
            if one.objective == other.objective and not _meet(one, other):
                raise InvalidValueError(
                    f"nothing can satisfy both {one} and {other}", hint="leave one of the constraints out"
                )


def _meet(one: Constraint, other: Constraint) -> bool:
    """Whether some number keeps both."""
    candidates = {one.bound, other.bound, (one.bound + other.bound) / 2}
    candidates |= {bound + sign * max(1.0, abs(bound)) for bound in (one.bound, other.bound) for sign in (-1, 1)}
    return any(one.holds(value) and other.holds(value) for value in candidates)
