"""The constraint that whatever is proposed can be served by one target."""

from __future__ import annotations

import random
from typing import final

from legion.foundation.errors import NotPortableError
from legion.neuro_architecture.generator.problem import Problem
from legion.neuro_architecture.portability.plan import check_target, plan
from legion.neuro_architecture.portability.values import PortabilityPlan
from legion.neuro_architecture.space import SearchSpace
from legion.neuro_architecture.spec.architecture import AnyArchitecture

__all__ = ["TargetConstraint"]


@final
class TargetConstraint:
    """Keeps what a target can serve, as its portability plan says from shapes and the base's config alone.

    Args:
        target: Name of the target.

    Raises:
        UnknownNameError: there is no such target.
    """

    def __init__(self, target: str) -> None:
        self.target = check_target(target)

    def narrow(self, space: SearchSpace, problem: Problem) -> SearchSpace:
        """The part of the space that the target can serve.

        Raises:
            NotPortableError: there is none; tells the first reason.
        """

        def judge(architecture: AnyArchitecture) -> PortabilityPlan:
            return plan(architecture, problem.facts, self.target)

        narrowed = SearchSpace(
            space.anatomy, space.strategies, allow=lambda architecture: judge(architecture).is_possible
        )
        if space.size() and not narrowed.size():
            first = next(strategy for strategy in space.strategies if space.size(strategy))
            start, _ = next(space.walk(first, random.Random(0)))
            refusal = judge(start)
            raise NotPortableError(
                f"{self.target} can serve none of {', '.join(space.strategies)} on {problem.base.name}",
                cause=f"{first}: {refusal.reason}",
                hint=refusal.remedy or "name another target, or other strategies: --strategies",
            )
        return narrowed
