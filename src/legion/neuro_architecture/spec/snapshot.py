"""An immutable record of an architecture with its evidence."""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import Field

from legion.foundation.canonical import digest_json
from legion.neuro_architecture.spec._value import Value

__all__ = ["ArchitectureSnapshot"]


class ArchitectureSnapshot(Value):
    """One revision of one architecture in the registry.

    Attributes:
        version: The caller's own version (`4.1.0`).
        semantic_hash: 16 hex digits that name the architecture.
        revision: 1, 2, ... for the same architecture with other evidence.
        config: The architecture, every default spelled out.
        metrics: Evidence: plain numbers or nested JSON.
        provenance: Where it comes from: branch, commit, base and data digests.
        tags: Sorted, unique.
        blobs: File name to digest of what the snapshot carries (weights as safetensors).
        parent: Digest of the revision before, or None.
        created_at: RFC 3339.
    """

    version: str
    semantic_hash: str
    revision: Annotated[int, Field(ge=1)]
    config: dict[str, Any]
    metrics: dict[str, Any]
    provenance: dict[str, Any]
    tags: tuple[str, ...]
    blobs: dict[str, str]
    parent: str | None
    created_at: str

    @property
    def digest(self) -> str:
        """Content name of the whole record."""
        return digest_json(self.to_dict())
