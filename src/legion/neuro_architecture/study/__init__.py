"""Floor 4: introduces the stages to each other; the search loop in its first form."""

from legion.neuro_architecture.study.loop import Loop, LoopConfig, LoopOutcome

__all__ = ["Loop", "LoopConfig", "LoopOutcome"]
