"""From a candidate to the proposal that is stored."""

from __future__ import annotations

from legion.neuro_architecture.generator.problem import Problem
from legion.neuro_architecture.space import Calibration, Candidate, assess_risk, estimate_cost
from legion.neuro_architecture.spec.proposal import ArchitectureProposal

__all__ = ["make_proposal"]


def make_proposal(
    problem: Problem, candidate: Candidate, calibration: Calibration, *, seed: int
) -> ArchitectureProposal:
    """The candidate with its content name, what it is predicted to cost, and how risky it is.

    Args:
        problem: Task and base.
        candidate: Architecture and recipe; valid for the base.
        calibration: Of this machine.
        seed: Of who proposes it; no part of its name.
    """
    architecture, recipe = candidate
    estimate = estimate_cost(
        architecture, problem.anatomy, calibration=calibration, sequence_length=problem.sequence_length
    )
    return ArchitectureProposal(
        id=ArchitectureProposal.id_of(problem.task, problem.base, architecture, recipe),
        task=problem.task,
        task_kind=problem.kind,
        base=problem.base,
        architecture=architecture,
        training=recipe,
        estimate=estimate,
        risk=assess_risk(architecture, problem.anatomy, estimate, recipe),
        seed=seed,
    )
