"""What an importer hands over, and how it collects that."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, final

from legion.foundation.canonical import digest_json
from legion.foundation.errors import LegionError
from legion.neuro_architecture.registry.admission import admit_alias, admit_json, admit_tags, admit_version
from legion.neuro_architecture.registry.drafts import SnapshotDraft
from legion.neuro_architecture.spec.architecture import parse_architecture

__all__ = ["Collector", "Draft", "ImportReport", "Skipped"]


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class Draft:
    """A snapshot to be registered. The same source gives the same draft, so that importing twice adds nothing.

    Attributes:
        origin: Where it was read, for a person (`index.json, entry 3`).
        version: As `ArchitectureRegistry.register` takes it, and so the rest.
        config: The architecture, defaults spelled out.
        metrics: Evidence; what others said is under `claimed`.
        provenance: With `imported_from`.
        tags: Sorted, unique.
        aliases: Names to be moved to it.
        files: File name to path of what belongs to it; its content is checked when it is registered.
    """

    origin: str
    version: str
    config: Mapping[str, Any]
    metrics: Mapping[str, Any]
    provenance: Mapping[str, Any]
    tags: tuple[str, ...] = ()
    aliases: tuple[str, ...] = ()
    files: Mapping[str, Path] = field(default_factory=dict)

    def to_snapshot_draft(self) -> SnapshotDraft:
        """What the registry takes; the aliases are moved afterwards."""
        return SnapshotDraft(
            version=self.version,
            config=self.config,
            metrics=self.metrics,
            provenance=self.provenance,
            tags=self.tags,
            files=self.files,
        )


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class Skipped:
    """Something that was there and is in no draft.

    Attributes:
        origin: Where it stands.
        reason: One sentence.
    """

    origin: str
    reason: str


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class ImportReport:
    """All that an importer read.

    Attributes:
        source: What was read.
        drafts: In the order in which they should be registered.
        skipped: All that was left out.
    """

    source: str
    drafts: tuple[Draft, ...]
    skipped: tuple[Skipped, ...]

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON values, for `--format json`."""
        return {
            "source": self.source,
            "drafts": [
                {"origin": draft.origin, "version": draft.version, "config": dict(draft.config)}
                for draft in self.drafts
            ],
            "skipped": [{"origin": item.origin, "reason": item.reason} for item in self.skipped],
        }


@final
class Collector:
    """Drafts and what was left out, as an importer comes upon them.

    Args:
        source: What is read.
    """

    def __init__(self, source: str) -> None:
        self._source = source
        self._drafts: list[Draft] = []
        self._skipped: list[Skipped] = []
        self._origins: dict[str, str] = {}

    def skip(self, origin: str, reason: str | LegionError) -> None:
        """Notes what was left out."""
        if isinstance(reason, LegionError):
            reason = ": ".join(filter(None, [reason.message, reason.cause]))
        self._skipped.append(Skipped(origin=origin, reason=reason))

    def add(
        self,
        origin: str,
        *,
        version: str,
        config: Mapping[str, Any],
        metrics: Mapping[str, Any],
        provenance: Mapping[str, Any],
        tags: Iterable[object] = (),
        aliases: Iterable[object] = (),
        files: Mapping[str, Path] | None = None,
    ) -> None:
        """Takes a snapshot over, or notes why it cannot be; tags and aliases that cannot be are left out and noted."""
        try:
            draft = Draft(
                origin=origin,
                version=admit_version(version),
                config=admit_json(parse_architecture(dict(config)).to_dict(), "config"),
                metrics=admit_json(metrics, "metrics"),
                provenance=admit_json(provenance, "provenance"),
                tags=tuple(sorted(set(self._admitted(origin, "tag", tags)))),
                aliases=tuple(sorted(set(self._admitted(origin, "alias", aliases)))),
                files=dict(files or {}),
            )
        except LegionError as error:
            self.skip(origin, error)
            return
        name = _content_name(draft)
        if name in self._origins:
            self.skip(origin, f"it says the same as {self._origins[name]}")
            return
        self._origins[name] = origin
        self._drafts.append(draft)

    def _admitted(self, origin: str, kind: str, labels: Iterable[object]) -> Iterable[str]:
        for label in labels:
            try:
                if kind == "alias":
                    yield admit_alias(label)  # type: ignore[arg-type]
                else:
                    yield from admit_tags([label])  # type: ignore[list-item]
            except LegionError as error:
                self.skip(f"{origin}, {kind}", error)

    def report(self) -> ImportReport:
        """What there is so far."""
        return ImportReport(source=self._source, drafts=tuple(self._drafts), skipped=tuple(self._skipped))


def _content_name(draft: Draft) -> str:
    """Two places of one folder may hold one snapshot; where it stood is no part of what it says."""
    provenance = {key: value for key, value in draft.provenance.items() if key != "imported_from"}
    files = {name: str(path) for name, path in draft.files.items()}
    said = [draft.version, dict(draft.config), dict(draft.metrics), provenance, list(draft.tags), files]
    source = draft.provenance.get("imported_from", {})
    return digest_json([*said, source.get("identity")])
