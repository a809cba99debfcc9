"""Floor 2: what a search is after: objectives with direction and unit, constraints, and how good a front is."""

from legion.neuro_architecture.objectives.constraints import Constraint, parse_constraint, total_violation
from legion.neuro_architecture.objectives.hypervolume import (
    hypervolume,
    hypervolume_contributions,
    reference_point,
)
from legion.neuro_architecture.objectives.objectives import KNOWN, Objective, choose_objectives
from legion.neuro_architecture.objectives.observation import Observation

__all__ = [
    "KNOWN",
    "Constraint",
    "Objective",
    "Observation",
    "choose_objectives",
    "hypervolume",
    "hypervolume_contributions",
    "parse_constraint",
    "reference_point",
    "total_violation",
]
