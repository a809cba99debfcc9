"""What a study compares trials on: which numbers are predicted, which are measured where, and what bounds them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final, final

from legion.foundation.errors import InvalidValueError
from legion.neuro_architecture.objectives import Constraint, Objective, choose_objectives, parse_constraint
from legion.neuro_architecture.objectives.constraints import refuse_contradictions, total_violation
from legion.neuro_architecture.portability.plan import check_target
from legion.neuro_architecture.portability.values import Target
from legion.neuro_architecture.spec.evaluation import UNMEASURED
from legion.neuro_architecture.spec.proposal import CostEstimate
from legion.neuro_architecture.spec.standing import Standing
from legion.neuro_architecture.spec.task import TaskKind

__all__ = ["EVALUATED", "PREDICTED", "Criteria", "predicted_values"]

# Measured by the evaluator on trials that went to the end; the others come with the trial.
EVALUATED: Final = frozenset({"safety_violations", "robustness", "forgetting"})
# Known before training, from the architecture alone.
PREDICTED: Final = frozenset({"latency_ms", "cost", "size_bytes", "memory_mb"})
_TARGET: Final = "target"
_MB: Final = 1e6


def predicted_values(estimate: CostEstimate, *, base_bytes: int) -> dict[str, float]:
    """What is known of a candidate before it is trained, by objective."""
    return {
        "latency_ms": estimate.expected_latency_ms,
        "cost": estimate.expected_flops,
        "size_bytes": float(estimate.adapter_size_bytes),
        "memory_mb": (base_bytes + estimate.adapter_size_bytes) / _MB,
    }


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class Criteria:
    """Objectives and constraints of a study.

    Attributes:
        objectives: In the recipe's order.
        constraints: On numbers.
        target: Who has to be able to serve, or None.
        weights: Preference over the objectives, summing to 1.
    """

    objectives: tuple[Objective, ...]
    constraints: tuple[Constraint, ...]
    target: Target | None
    weights: Mapping[str, float]

    @classmethod
    def of(cls, objectives: Sequence[str], constraints: Sequence[str], weights: Mapping[str, float]) -> Criteria:
        """The criteria in words.

        Raises:
            UnknownNameError: no such objective or target.
            InvalidValueError: a constraint is not understood, or two contradict each other.
        """
        chosen = choose_objectives(objectives)
        numeric: list[Constraint] = []
        targets: list[Target] = []
        for text in constraints:
            name, relation, value = text.partition("=")
            if relation and name.strip() == _TARGET:
                targets.append(check_target(value.lstrip("=").strip()))
            else:
                numeric.append(parse_constraint(text))
        if len(set(targets)) > 1:
            raise InvalidValueError(f"targets {', '.join(targets)}: a study has one", hint="keep one target=")
        refuse_contradictions(numeric)
        given = {each.name: weights.get(each.name, 0.0) if weights else 1.0 for each in chosen}
        total = sum(given.values())
        if total <= 0.0:
            raise InvalidValueError(
                "weights are all zero", hint="give one objective a weight above 0, or leave them out"
            )
        return cls(
            objectives=chosen,
            constraints=tuple(numeric),
            target=targets[0] if targets else None,
            weights={name: weight / total for name, weight in given.items()},
        )

    def refuse_unmeasured(self, kind: TaskKind) -> None:
        """Ends a study before it begins where an objective or a constraint has nothing to be measured on.

        Raises:
            InvalidValueError: says which, why, and what to do.
        """
        for name, cause in UNMEASURED[kind].items():
            if name in {*self.names, *(each.objective for each in self.constraints)}:
                raise InvalidValueError(
                    f"{name} cannot be measured on a {kind} task",
                    cause=cause,
                    hint=f"take {name} out of objectives and constraints, or search on a summarization task",
                )

    @property
    def names(self) -> tuple[str, ...]:
        """Of the objectives."""
        return tuple(objective.name for objective in self.objectives)

    @property
    def is_evaluated(self) -> bool:
        """Whether the evaluator is needed within the search."""
        return bool(EVALUATED & {*self.names, *(each.objective for each in self.constraints)})

    @property
    def predicted_constraints(self) -> tuple[Constraint, ...]:
        """Those that an architecture alone decides: what breaks them is never proposed."""
        return tuple(each for each in self.constraints if each.objective in PREDICTED)

    def values_at(
        self, standing: Standing, predicted: Mapping[str, float], evaluated: Mapping[str, float]
    ) -> dict[str, float]:
        """All that is known of a trial at a rung, by objective."""
        found = {**predicted, "accuracy": standing.accuracy, **evaluated}
        if standing.calibration_error is not None:
            found["calibration_error"] = standing.calibration_error
        wanted = {*self.names, *(each.objective for each in self.constraints)}
        return {name: value for name, value in found.items() if name in wanted}

    def losses(self, values: Mapping[str, float], *, expected_accuracy: float | None = None) -> tuple[float, ...]:
        """The objectives turned so that less is better; 0 where one is not known at this rung, for all alike.

        Args:
            values: By objective.
            expected_accuracy: Stands for the accuracy at a rung, where it says more than the few hits that decide it.
        """
        found = []
        for objective in self.objectives:
            if objective.name == "accuracy" and expected_accuracy is not None:
                found.append(-expected_accuracy)
            else:
                value = values.get(objective.name)
                found.append(0.0 if value is None else -objective.sign * value)
        return tuple(found)

    def violation(self, values: Mapping[str, float], *, is_final: bool) -> float:
        """How far a trial is from meeting all constraints; before the end, of those that are known by then."""
        known: dict[str, float | None] = dict(values)
        constraints = [each for each in self.constraints if is_final or each.objective not in EVALUATED | {"accuracy"}]
        return total_violation(constraints, known)

    def missing(self, values: Mapping[str, float]) -> list[str]:
        """Objectives that have no value."""
        return [name for name in self.names if name not in values]

    def preference(self, rows: Sequence[Mapping[str, float]]) -> list[float]:
        """A score for each trial by the weights, each objective scaled by the range of these trials; more is better."""
        scores = [0.0] * len(rows)
        for objective in self.objectives:
            column = [objective.sign * row[objective.name] for row in rows]
            low, spread = min(column, default=0.0), max(column, default=0.0) - min(column, default=0.0)
            for place, value in enumerate(column):
                share = (value - low) / spread if spread > 0.0 else 1.0
                scores[place] += self.weights[objective.name] * share
        return scores
