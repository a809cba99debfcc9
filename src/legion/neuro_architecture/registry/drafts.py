"""What a caller wants registered, and how it is let in."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, final

from legion.foundation.errors import InvalidValueError
from legion.neuro_architecture.registry.admission import admit_file_name, admit_json, admit_tags, admit_version
from legion.neuro_architecture.spec.architecture import parse_architecture
from legion.neuro_architecture.spec.semantics import semantic_hash
from legion.neuro_architecture.spec.snapshot import ArchitectureSnapshot

__all__ = ["SnapshotDraft"]


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class SnapshotDraft:
    """An architecture with its evidence, not yet registered.

    Attributes:
        version: The caller's own version.
        config: The architecture; defaults may be left out, key order does not matter.
        metrics: Evidence as JSON.
        provenance: Where it comes from, as JSON.
        tags: Labels.
        files: File name to path of what belongs to it.
    """

    version: str
    config: Mapping[str, Any]
    metrics: Mapping[str, Any] = field(default_factory=dict)
    provenance: Mapping[str, Any] = field(default_factory=dict)
    tags: Iterable[str] = ()
    files: Mapping[str, Path] = field(default_factory=dict)

    def admitted(self, created_at: str) -> ArchitectureSnapshot:
        """A snapshot of revision 1 without files: what of it does not depend on what stands.

        Raises:
            UnknownNameError: no such strategy.
            InvalidValueError: a config, number or tag that the registry does not let in.
        """
        if not isinstance(self.config, Mapping):
            raise InvalidValueError(f"config is no mapping but {type(self.config).__name__}")
        architecture = parse_architecture(dict(self.config))
        return ArchitectureSnapshot(
            version=admit_version(self.version),
            semantic_hash=semantic_hash(architecture),
            revision=1,
            config=admit_json(architecture.to_dict(), "config"),
            metrics=admit_json(self.metrics, "metrics"),
            provenance=admit_json(self.provenance, "provenance"),
            tags=admit_tags(self.tags),
            blobs={},
            parent=None,
            created_at=created_at,
        )

    def sources(self) -> dict[str, Path]:
        """Its files under names that the registry keeps.

        Raises:
            InvalidValueError: a name that is a path, or of a kind that may run code when loaded.
        """
        return {admit_file_name(name): Path(path) for name, path in sorted(self.files.items())}
