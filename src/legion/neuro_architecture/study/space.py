"""From a recipe to what may be proposed: a problem, a space, and what everything in it is predicted to cost."""

from __future__ import annotations

from functools import cached_property
from typing import Final, final

from legion.foundation.errors import InvalidValueError, NotPortableError
from legion.foundation.settings import Settings
from legion.neuro_architecture.generator.problem import Problem, pose_problem
from legion.neuro_architecture.generator.proposing import make_proposal
from legion.neuro_architecture.objectives import Constraint
from legion.neuro_architecture.portability.plan import plan
from legion.neuro_architecture.space import Calibration, PointSpace, calibrate, estimate_cost
from legion.neuro_architecture.spec.architecture import AnyArchitecture
from legion.neuro_architecture.spec.proposal import ArchitectureProposal, TrainingRecipe
from legion.neuro_architecture.spec.task import EMBEDDED_TASKS
from legion.neuro_architecture.study.criteria import Criteria, predicted_values
from legion.neuro_architecture.study.recipe import StudyRecipe

__all__ = ["StudySpace"]

_BYTES_PER_WEIGHT: Final = 4


@final
class StudySpace:
    """What one study may propose: the recipe's space without what the target cannot serve or a prediction rules out.

    Args:
        recipe: The study's.
        criteria: Its objectives and constraints.
        settings: Workspace and machine.
    """

    def __init__(self, recipe: StudyRecipe, criteria: Criteria, settings: Settings) -> None:
        self.recipe = recipe
        self.criteria = criteria
        self._settings = settings

    @cached_property
    def data(self) -> str:
        """Data folder, relative to the workspace."""
        if self.recipe.data is not None:
            return self.recipe.data
        embedded = {task.name: task.data for task in EMBEDDED_TASKS}
        if self.recipe.task not in embedded:
            raise InvalidValueError(
                f"task {self.recipe.task!r} brings no data of its own",
                hint='name a folder in the recipe: data = "data/mine"',
            )
        return embedded[self.recipe.task]

    @cached_property
    def problem(self) -> Problem:
        """Task, base and typical length."""
        return pose_problem(self.recipe.task, base=self.recipe.base, data=self.data, settings=self._settings)

    @cached_property
    def points(self) -> PointSpace:
        """All candidates.

        Raises:
            NotPortableError: the target can serve none of them.
            InvalidValueError: no candidate is predicted to keep a constraint; says how close the nearest comes.
        """
        strategies, narrow = self.recipe.space.strategies, self.recipe.space.narrow
        anatomy = self.problem.anatomy
        try:
            return PointSpace(anatomy, strategies, narrow=narrow, allow=self._allows)
        except InvalidValueError:
            if not self.criteria.predicted_constraints and self.criteria.target is None:
                raise
        whole = PointSpace(anatomy, strategies, narrow=narrow)  # raises where the recipe alone leaves nothing
        raise self._refusal(whole)

    def predicted(self, architecture: AnyArchitecture) -> dict[str, float]:
        """Objectives known before training."""
        estimate = estimate_cost(
            architecture,
            self.problem.anatomy,
            calibration=self._calibration,
            sequence_length=self.problem.sequence_length,
        )
        return predicted_values(estimate, base_bytes=_BYTES_PER_WEIGHT * self.problem.anatomy.num_parameters)

    def predicted_base(self) -> dict[str, float]:
        """What the bare base is predicted to cost."""
        anatomy = self.problem.anatomy
        architecture, _ = self.points.candidate(next(self.points.points()))
        estimate = estimate_cost(
            architecture, anatomy, calibration=self._calibration, sequence_length=self.problem.sequence_length
        )
        base_bytes = _BYTES_PER_WEIGHT * anatomy.num_parameters
        found = {"cost": estimate.expected_base_flops, "size_bytes": 0.0, "memory_mb": base_bytes / 1e6}
        if estimate.expected_base_latency_ms is not None:
            found["latency_ms"] = estimate.expected_base_latency_ms
        return found

    def proposal(self, architecture: AnyArchitecture, recipe: TrainingRecipe) -> ArchitectureProposal:
        """The candidate as it is stored and trained."""
        return make_proposal(self.problem, (architecture, recipe), self._calibration, seed=self.recipe.seed)

    @cached_property
    def _calibration(self) -> Calibration:
        return calibrate(self._settings)

    def _allows(self, architecture: AnyArchitecture) -> bool:
        bounds = self.criteria.predicted_constraints
        if bounds:
            predicted = self.predicted(architecture)
            if not all(bound.holds(predicted[bound.objective]) for bound in bounds):
                return False
        target = self.criteria.target
        return target is None or plan(architecture, self.problem.facts, target).is_possible

    def _refusal(self, whole: PointSpace) -> Exception:
        """Why nothing of a space that holds something may be proposed."""
        architectures = [each for branch in whole.branches for each in branch.architectures]
        target = self.criteria.target
        if target is not None:
            plans = [plan(each, self.problem.facts, target) for each in architectures]
            if not any(each.is_possible for each in plans):
                return NotPortableError(
                    f"{target} can serve none of {len(architectures)} architectures on {self.problem.base.name}",
                    cause=plans[0].reason,
                    hint="name another target, or other strategies in [space]",
                )
        predicted = [self.predicted(each) for each in architectures]
        for bound in self.criteria.predicted_constraints:
            values = [each[bound.objective] for each in predicted]
            if not any(map(bound.holds, values)):
                return InvalidValueError(
                    f"nothing can satisfy {bound}",
                    cause=f"the {_nearest(bound)} predicted is {_best(bound, values):.4g}",
                )
        together = " and ".join(map(str, self.criteria.predicted_constraints))
        return InvalidValueError(
            f"nothing can satisfy {together} together" + (f" and be served by {target}" if target else ""),
            cause=f"each alone is kept by some of {len(architectures)} architectures",
            hint="loosen one of the constraints",
        )


def _best(bound: Constraint, values: list[float]) -> float:
    if bound.relation in {"<=", "<"}:
        return min(values)
    return max(values) if bound.relation in {">=", ">"} else min(values, key=lambda value: abs(value - bound.bound))


def _nearest(bound: Constraint) -> str:
    words = {
        "latency_ms": ("fastest", "slowest"),
        "size_bytes": ("smallest", "largest"),
        "memory_mb": ("smallest", "largest"),
        "cost": ("cheapest", "dearest"),
    }
    low, high = words[bound.objective]
    return low if bound.relation in {"<=", "<"} else high if bound.relation in {">=", ">"} else "nearest"
