"""Floor 2: what may be proposed for a model, what it would cost, and how risky it is. Numbers come from shapes."""

from legion.neuro_architecture.space.branch import Axis, Branch, Candidate
from legion.neuro_architecture.space.calibration import Calibration, calibrate
from legion.neuro_architecture.space.cost import estimate_cost
from legion.neuro_architecture.space.points import Point, PointSpace
from legion.neuro_architecture.space.prior import learnt_prior, prior_gain
from legion.neuro_architecture.space.risk import assess_risk
from legion.neuro_architecture.space.search_space import SearchSpace, check_strategies
from legion.neuro_architecture.space.sites import canonical
from legion.neuro_architecture.space.validity import find_mistakes

__all__ = [
    "Axis",
    "Branch",
    "Calibration",
    "Candidate",
    "Point",
    "PointSpace",
    "SearchSpace",
    "assess_risk",
    "calibrate",
    "canonical",
    "check_strategies",
    "estimate_cost",
    "find_mistakes",
    "learnt_prior",
    "prior_gain",
]
