"""Propose adapter architectures, train them as proxies, measure every objective, record and integrate the winners.

Names load on first use: importing this package loads neither torch nor transformers.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from legion.neuro_architecture.adapters import BottleneckAdapter, LoRAAdapter, MoEAdapter
    from legion.neuro_architecture.evaluator import MultiObjectiveEvaluator
    from legion.neuro_architecture.generator import ArchitectureGenerator
    from legion.neuro_architecture.registry import ArchitectureRegistry
    from legion.neuro_architecture.spec.evaluation import EvaluationResult
    from legion.neuro_architecture.spec.proposal import ArchitectureProposal
    from legion.neuro_architecture.spec.snapshot import ArchitectureSnapshot
    from legion.neuro_architecture.spec.training import TrainingMetrics
    from legion.neuro_architecture.trainer import ProxyTrainer

__all__ = [
    "ArchitectureGenerator",
    "ArchitectureProposal",
    "ArchitectureRegistry",
    "ArchitectureSnapshot",
    "BottleneckAdapter",
    "EvaluationResult",
    "LoRAAdapter",
    "MoEAdapter",
    "MultiObjectiveEvaluator",
    "ProxyTrainer",
    "TrainingMetrics",
]

_HOMES: Final = {
    "ArchitectureGenerator": "generator",
    "ArchitectureProposal": "spec.proposal",
    "ArchitectureRegistry": "registry",
    "ArchitectureSnapshot": "spec.snapshot",
    "BottleneckAdapter": "adapters",
    "EvaluationResult": "spec.evaluation",
    "LoRAAdapter": "adapters",
    "MoEAdapter": "adapters",
    "MultiObjectiveEvaluator": "evaluator",
    "ProxyTrainer": "trainer",
    "TrainingMetrics": "spec.training",
}


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(f"{__name__}.{_HOMES[name]}"), name)


def __dir__() -> list[str]:
    return sorted(__all__)
