"""Above the adapters: makes every trained adapter a stock checkpoint, and proves that it computes the same."""

from legion.neuro_architecture.portability.base_facts import BaseFacts, read_base_facts
from legion.neuro_architecture.portability.plan import check_target, plan
from legion.neuro_architecture.portability.values import TARGETS, Form, PortabilityPlan, Target, Verdict

__all__ = [
    "TARGETS",
    "BaseFacts",
    "Form",
    "PortabilityPlan",
    "Target",
    "Verdict",
    "check_target",
    "plan",
    "read_base_facts",
]
