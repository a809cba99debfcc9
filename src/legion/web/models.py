"""What goes over the wire: typed, documented, with an example each.

Examples hold no null: FastAPI leaves it out of the document, and the example would not fit its schema.
"""

from __future__ import annotations

from typing import Annotated, Any, Final, Self

from pydantic import ConfigDict, Field, StrictBool

from legion.neuro_architecture.registry.translog import Checkpoint, ConsistencyProof, InclusionProof
from legion.neuro_architecture.spec._value import Value
from legion.neuro_architecture.spec.entries import AnyEntry
from legion.neuro_architecture.spec.snapshot import ArchitectureSnapshot

__all__ = [
    "AliasMove",
    "AliasResource",
    "Aliases",
    "ApprovalRequest",
    "CheckpointResource",
    "ConsistencyResource",
    "DiffResource",
    "EntryNumber",
    "Event",
    "Events",
    "Health",
    "History",
    "LineageResource",
    "ProofResource",
    "Registration",
    "SnapshotPage",
    "SnapshotResource",
    "TagsRequest",
    "TagsResource",
]

_DIGEST: Final = "sha256:2f1c0a2b7d4e5f60718293a4b5c6d7e8f90123456789abcdef0123456789abcd"
_OLDER: Final = "sha256:90123456789abcdef0123456789abcd2f1c0a2b7d4e5f60718293a4b5c6d7e8f"
_HASH: Final = "7d9f0c1b2a3e4f56"
_ROOT: Final = "6e340b9cffb37a989ca544e6bb780a2c78901d3fb33738768511a30617afa01d"
_WHEN: Final = "2026-01-01T00:00:00Z"
_NOTE: Final = "legion.registry/0123456789abcdef\n1\nbjQLnP+zepicpUTmu3gKLHiQHT+zNzh2hRGjBhevoB0=\n\n— ...\n"
_VKEY: Final = "legion.registry/0123456789abcdef+1a2b3c4d+AbC..."
_SNAPSHOT: Final[dict[str, Any]] = {
    "version": "4.1.0",
    "semantic_hash": _HASH,
    "revision": 2,
    "config": {"strategy": "LoRA", "rank": 8},
    "metrics": {"accuracy": 0.84},
    "provenance": {"commit": "0f1e2d3"},
    "tags": ["production"],
    "blobs": {"adapter_model.safetensors": _OLDER},
    "parent": _OLDER,
    "created_at": _WHEN,
}
_RESOURCE: Final[dict[str, Any]] = {
    "digest": _DIGEST,
    "entry": 41,
    "tags_now": ["production"],
    "aliases": ["champion"],
    "snapshot": _SNAPSHOT,
}


def _example(**values: Any) -> ConfigDict:
    return ConfigDict(json_schema_extra={"examples": [values]})


class SnapshotResource(Value):
    """A snapshot as it was registered, and what names it now.

    Attributes:
        digest: Its content name.
        entry: Number of the log's entry that registered it.
        tags_now: The tags that it has now; `snapshot.tags` are those it was registered with.
        aliases: What names it now.
        snapshot: The record, which never changes.
    """

    model_config = _example(**_RESOURCE)

    digest: str
    entry: int
    tags_now: tuple[str, ...]
    aliases: tuple[str, ...]
    snapshot: ArchitectureSnapshot


class SnapshotPage(Value):
    """Some snapshots.

    Attributes:
        snapshots: In the order asked for.
        next: What to give as `after` for the page behind this one; None where this is the last.
    """

    model_config = _example(snapshots=[_RESOURCE], next=41)

    snapshots: tuple[SnapshotResource, ...]
    next: int | None


class History(Value):
    """All revisions of one architecture, oldest first.

    Attributes:
        semantic_hash: Names the architecture.
        revisions: Each with its evidence.
    """

    model_config = _example(semantic_hash=_HASH, revisions=[_RESOURCE])

    semantic_hash: str
    revisions: tuple[SnapshotResource, ...]


class LineageResource(Value):
    """Where a snapshot comes from and what came of it, as digests.

    Attributes:
        digest: Of the snapshot.
        ancestors: The revision before, the one before that, and so on.
        children: Snapshots that name it as their parent.
    """

    model_config = _example(digest=_DIGEST, ancestors=[_OLDER], children=[])

    digest: str
    ancestors: tuple[str, ...]
    children: tuple[str, ...]


class Event(Value):
    """An entry of the log.

    Attributes:
        entry: Its number.
        event: What it says.
    """

    entry: int
    event: Annotated[AnyEntry, Field(discriminator="kind")]


class Events(Value):
    """Every entry that speaks of a snapshot, oldest first."""

    model_config = _example(
        digest=_DIGEST,
        events=[
            {
                "entry": 57,
                "event": {
                    "kind": "approval",
                    "at": _WHEN,
                    "by": "Ada",
                    "key": "6f0d2c",
                    "snapshot": _DIGEST,
                    "is_approved": True,
                    "reason": "reviewed",
                },
            }
        ],
    )

    digest: str
    events: tuple[Event, ...]


class FieldDifference(Value):
    """One field that differs; a side that lacks it has no key."""

    path: str
    before: Any = None
    after: Any = None


class MetricDifference(Value):
    """One metric in both snapshots; `verdict` is equal, within (0 is in the interval), apart or unknown."""

    name: str
    before: dict[str, Any] | None
    after: dict[str, Any] | None
    before_interval: tuple[float, float] | None
    after_interval: tuple[float, float] | None
    difference: float | None
    interval: tuple[float, float] | None
    do_overlap: bool | None
    verdict: str
    reason: str | None


class TagDifference(Value):
    """Tags that only the one or only the other was registered with."""

    added: tuple[str, ...]
    removed: tuple[str, ...]


class DiffResource(Value):
    """In what the second snapshot differs from the first."""

    model_config = _example(
        one=_OLDER,
        other=_DIGEST,
        kinship="next revision",
        is_empty=False,
        level=0.95,
        is_same_examples=True,
        version={"path": "version", "before": "4.0.0", "after": "4.1.0"},
        architecture=[{"path": "rank", "before": 4, "after": 8}],
        metrics=[],
        sections={"code": []},
        files=[],
        tags={"added": ["production"], "removed": []},
    )

    one: str
    other: str
    kinship: str
    is_empty: bool
    level: float
    is_same_examples: bool | None
    version: FieldDifference | None
    architecture: tuple[FieldDifference, ...]
    metrics: tuple[MetricDifference, ...]
    sections: dict[str, tuple[FieldDifference, ...]]
    files: tuple[FieldDifference, ...]
    tags: TagDifference


class CheckpointResource(Value):
    """The log's signed size and root.

    Attributes:
        origin: The log's name.
        size: Entries in it.
        root: Of its Merkle tree, hex.
        note: The signed note (C2SP tlog-checkpoint), every byte of it.
        vkey: The key that signed it, `name+hex+base64`. Pin it; do not take it from here each time.
    """

    model_config = _example(origin="legion.registry/0123456789abcdef", size=1, root=_ROOT, note=_NOTE, vkey=_VKEY)

    origin: str
    size: int
    root: str
    note: str
    vkey: str

    @classmethod
    def of(cls, checkpoint: Checkpoint, vkey: str) -> Self:
        """The checkpoint as JSON."""
        return cls(
            origin=checkpoint.origin,
            size=checkpoint.size,
            root=checkpoint.root.hex(),
            note=checkpoint.note.decode(),
            vkey=vkey,
        )


class Inclusion(Value):
    """That an entry stands in a tree. Source: RFC 9162, section 2.1.3; hashes in hex."""

    number: int
    size: int
    leaf_hash: str
    root: str
    path: tuple[str, ...]

    @classmethod
    def of(cls, proof: InclusionProof) -> Self:
        """The proof as JSON."""
        return cls.model_validate(proof.to_dict())


class ProofResource(Value):
    """That a snapshot is in the log: what a client needs to check it without this server.

    Attributes:
        digest: Of the snapshot.
        entry: The entry's very bytes; SHA-256(0x00 || entry) is the leaf hash.
        inclusion: The path from the leaf to the root that the checkpoint signs.
        checkpoint: Of the same size.
    """

    model_config = _example(
        digest=_DIGEST,
        entry='{"at":"2026-01-01T00:00:00Z","by":null,"key":null,"kind":"snapshot","snapshot":{}}',
        inclusion={"number": 0, "size": 1, "leaf_hash": _ROOT, "root": _ROOT, "path": []},
        checkpoint={
            "origin": "legion.registry/0123456789abcdef",
            "size": 1,
            "root": _ROOT,
            "note": _NOTE,
            "vkey": _VKEY,
        },
    )

    digest: str
    entry: str
    inclusion: Inclusion
    checkpoint: CheckpointResource


class ConsistencyResource(Value):
    """That the log of `old` entries is the beginning of that of `new`. Source: RFC 9162, section 2.1.4; hex."""

    model_config = _example(old=1, new=1, old_root=_ROOT, new_root=_ROOT, path=[])

    old: int
    new: int
    old_root: str
    new_root: str
    path: tuple[str, ...]

    @classmethod
    def of(cls, proof: ConsistencyProof) -> Self:
        """The proof as JSON."""
        return cls.model_validate(proof.to_dict())


class Health(Value):
    """Whether the log can be read."""

    model_config = _example(status="ok", entries=42, takes_writes=False)

    status: str
    entries: int
    takes_writes: bool


class Aliases(Value):
    """What each alias names."""

    model_config = _example(aliases={"champion": _DIGEST})

    aliases: dict[str, str]


class AliasResource(Value):
    """What an alias names now; after a move also what it named before."""

    model_config = _example(alias="champion", digest=_DIGEST, previous=_OLDER)

    alias: str
    digest: str | None
    previous: str | None = None


class AliasMove(Value):
    """Where an alias shall point.

    Attributes:
        key: What it shall name: a digest, the beginning of one, a semantic hash or another alias.
        expected: What it must name now for the move to happen, or null for nothing; left out, whatever it names.
    """

    model_config = _example(key=_DIGEST, expected=_OLDER)

    key: Annotated[str, Field(max_length=128)]
    expected: Annotated[str, Field(max_length=128)] | None = None


class TagsRequest(Value):
    """Tags to put on."""

    model_config = _example(tags=["production"])

    tags: Annotated[tuple[str, ...], Field(max_length=100)]


class TagsResource(Value):
    """The tags that a snapshot has now."""

    model_config = _example(digest=_DIGEST, tags=["production"])

    digest: str
    tags: tuple[str, ...]


class ApprovalRequest(Value):
    """Who lets a snapshot go on, or does not."""

    model_config = _example(by="Ada", is_approved=True, reason="reviewed")

    by: Annotated[str, Field(max_length=100)]
    is_approved: StrictBool
    reason: Annotated[str, Field(max_length=4096)] = ""


class EntryNumber(Value):
    """Number of the entry that says so."""

    model_config = _example(entry=57)

    entry: int


class Registration(Value):
    """An architecture with its evidence, without files."""

    model_config = _example(
        version="4.1.0",
        config={"strategy": "LoRA", "rank": 8},
        metrics={"accuracy": 0.84},
        provenance={"commit": "0f1e2d3"},
        tags=["production"],
    )

    version: str
    config: dict[str, Any]
    metrics: dict[str, Any] = Field(default_factory=dict)
    provenance: dict[str, Any] = Field(default_factory=dict)
    tags: tuple[str, ...] = ()
