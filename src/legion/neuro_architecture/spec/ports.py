"""What stages need from each other, as Protocols: the composers introduce the real ones."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

from legion.neuro_architecture.spec.snapshot import ArchitectureSnapshot
from legion.neuro_architecture.spec.standing import Standing
from legion.neuro_architecture.spec.training import TrainingMetrics

__all__ = ["RegistryPort", "TrialRunner"]


class RegistryPort(Protocol):
    """A registry of immutable snapshots, as the integrator and LEGION Core use it."""

    def register(
        self,
        version: str,
        config: Mapping[str, Any],
        metrics: Mapping[str, Any],
        provenance: Mapping[str, Any] | None = None,
        tags: Iterable[str] = (),
        *,
        files: Mapping[str, Path] | None = None,
    ) -> ArchitectureSnapshot:
        """The snapshot of this evidence; the same evidence twice gives the same snapshot."""
        ...

    def get(self, key: str) -> ArchitectureSnapshot | None:
        """The snapshot with this digest, or the latest revision of this semantic hash."""
        ...

    def verify_files(self, snapshot: ArchitectureSnapshot) -> None:
        """Raises IntegrityError, naming the file, unless every file of the snapshot is what its digest says."""
        ...

    def materialise(self, snapshot: ArchitectureSnapshot, folder: Path) -> Path:
        """Writes a verified copy of the snapshot's files into `folder` and returns it."""
        ...


class TrialRunner(Protocol):
    """Trains trials to where it is told: one process here, several, or a cluster."""

    def add(self, proposal_ids: Sequence[str]) -> None:
        """Lets stored proposals in."""
        ...

    def step_of(self, name: str) -> int:
        """Finished steps of a trial that was let in; 0 of one that had ended before."""
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
