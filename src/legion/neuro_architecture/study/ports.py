"""What a study needs from whoever trains: one process here, several, or a cluster."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol

from legion.neuro_architecture.spec.standing import Standing
from legion.neuro_architecture.spec.training import TrainingMetrics

__all__ = ["TrialRunner"]


class TrialRunner(Protocol):
    """Trains trials to where it is told; `PopulationSession` is one."""

    def add(self, proposal_ids: Sequence[str]) -> None:
        """Lets stored proposals in."""
        ...

    def announce(self, label: str, total_steps: int) -> None:
        """Tells the listener what begins."""
        ...

    def advance(self, names: Sequence[str], until: int) -> None:
        """Trains each to `until` finished steps and looks at the watched examples there."""
        ...

    def finish(self, names: Sequence[str]) -> None:
        """Trains each to the end of its schedule."""
        ...

    def pause(self, names: Sequence[str]) -> None:
        """Saves trials and frees their places."""
        ...

    def stop(self, name: str, reason: str) -> None:
        """Ends a trial where it stands."""
        ...

    def standing(self, name: str, step: int) -> Standing | None:
        """How a trial stood at a rung."""
        ...

    def metrics(self) -> dict[str, TrainingMetrics]:
        """Of every trial that was let in, as it stands."""
        ...

    def record(self) -> dict[str, Any]:
        """How the trials were computed."""
        ...
