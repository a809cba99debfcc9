"""What stages need from each other, as Protocols: the composers introduce the real ones."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, Protocol

from legion.neuro_architecture.spec.snapshot import ArchitectureSnapshot

__all__ = ["RegistryPort"]


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
