"""What a registry's log holds: who did what to which snapshot, and when."""

from __future__ import annotations

from typing import Annotated, Any, Final, Literal

from pydantic import Field, TypeAdapter, ValidationError

from legion.foundation.errors import InvalidValueError
from legion.neuro_architecture.spec._value import Value, explain
from legion.neuro_architecture.spec.snapshot import ArchitectureSnapshot

__all__ = [
    "AliasEntry",
    "AnyEntry",
    "ApprovalEntry",
    "DeletionEntry",
    "RolloutEntry",
    "SnapshotEntry",
    "TagsEntry",
    "VerdictEntry",
    "parse_entry",
]


class _Entry(Value):
    """What every entry says.

    Attributes:
        at: RFC 3339.
        by: Who did it, as they named themselves; None where nobody said.
        key: Idempotency key: an entry whose key stands is not written again.
    """

    at: str
    by: str | None = None
    key: str | None = None


class SnapshotEntry(_Entry):
    """A snapshot was registered; a later revision of the same architecture names the one before as its parent."""

    kind: Literal["snapshot"] = "snapshot"
    snapshot: ArchitectureSnapshot


class TagsEntry(_Entry):
    """Tags were put on a snapshot or taken off.

    Attributes:
        snapshot: Its digest.
        added: Sorted, unique, none of them on the snapshot before.
        removed: Sorted, unique, all of them on the snapshot before.
    """

    kind: Literal["tags"] = "tags"
    snapshot: str
    added: tuple[str, ...] = ()
    removed: tuple[str, ...] = ()


class AliasEntry(_Entry):
    """An alias was moved.

    Attributes:
        alias: The movable name.
        snapshot: Digest of what it names now; None where it was taken away.
        previous: Digest of what it named before; None where it is new.
    """

    kind: Literal["alias"] = "alias"
    alias: str
    snapshot: str | None
    previous: str | None


class ApprovalEntry(_Entry):
    """Somebody approved a snapshot or refused it.

    Attributes:
        snapshot: Its digest.
        is_approved: The answer.
        reason: In their words.
    """

    kind: Literal["approval"] = "approval"
    snapshot: str
    is_approved: bool
    reason: str = ""


class VerdictEntry(_Entry):
    """A gate decided.

    Attributes:
        snapshot: Digest of what it judged.
        gate: Its name.
        verdict: Insufficient evidence is never a pass.
        evidence: What it saw, as JSON.
    """

    kind: Literal["verdict"] = "verdict"
    snapshot: str
    gate: str
    verdict: Literal["pass", "fail", "insufficient"]
    evidence: dict[str, Any] = Field(default_factory=dict)


class RolloutEntry(_Entry):
    """A rollout moved.

    Attributes:
        snapshot: Digest of what is rolled out.
        slot: Where.
        event: What happened.
        weight: Share of the traffic from then on, 0 to 1, or None where that did not change.
        evidence: Why, as JSON.
    """

    kind: Literal["rollout"] = "rollout"
    snapshot: str
    slot: str
    event: Literal["start", "step", "promote", "pause", "resume", "abort", "undo", "rollback", "finish"]
    weight: Annotated[float, Field(ge=0.0, le=1.0)] | None = None
    evidence: dict[str, Any] = Field(default_factory=dict)


class DeletionEntry(_Entry):
    """A blob that nothing refers to any more was deleted; what referred to it stays in the log.

    Attributes:
        blob: Its digest.
        size_bytes: How much room that made.
        reason: Why.
    """

    kind: Literal["deletion"] = "deletion"
    blob: str
    size_bytes: Annotated[int, Field(ge=0)]
    reason: str


AnyEntry = SnapshotEntry | TagsEntry | AliasEntry | ApprovalEntry | VerdictEntry | RolloutEntry | DeletionEntry
_ENTRY: Final[TypeAdapter[AnyEntry]] = TypeAdapter(Annotated[AnyEntry, Field(discriminator="kind")])


def parse_entry(data: Any) -> AnyEntry:
    """The entry in plain `data`.

    Raises:
        InvalidValueError: lists every mistake.
    """
    try:
        return _ENTRY.validate_python(data)
    except ValidationError as error:
        raise InvalidValueError("entry is not valid", cause=explain(error)) from error
