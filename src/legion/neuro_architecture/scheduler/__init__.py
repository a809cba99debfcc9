"""Floor 3: decides at a rung who continues, who pauses and who stops, on several objectives and with evidence."""

from legion.neuro_architecture.scheduler.decision import Contender, Decision, Verdict
from legion.neuro_architecture.scheduler.fidelity import Fidelity, kendall_tau, measure_fidelity
from legion.neuro_architecture.scheduler.race import RaceResult, race
from legion.neuro_architecture.scheduler.rule import RungRule, order

__all__ = [
    "Contender",
    "Decision",
    "Fidelity",
    "RaceResult",
    "RungRule",
    "Verdict",
    "kendall_tau",
    "measure_fidelity",
    "order",
    "race",
]
