"""Floor 3: where trials run: worker processes on this machine, behind the port that any executor has."""

from legion.neuro_architecture.runtime.workers import WorkerPool

__all__ = ["WorkerPool"]
