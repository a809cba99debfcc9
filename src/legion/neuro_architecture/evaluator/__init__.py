"""Floor 3: candidates measured against the bare base on every objective, scored and ranked. Imports no torch."""

from legion.neuro_architecture.evaluator.config import EvaluatorConfig
from legion.neuro_architecture.evaluator.multi_objective import SUMMARY, MultiObjectiveEvaluator
from legion.neuro_architecture.evaluator.terms import NORMALISATION
from legion.neuro_architecture.evaluator.weights import check_weights, parse_weights

__all__ = ["NORMALISATION", "SUMMARY", "EvaluatorConfig", "MultiObjectiveEvaluator", "check_weights", "parse_weights"]
