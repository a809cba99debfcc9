"""What an operation writes, given what stands: pure decisions on a desk, taken under the registry's lock."""

from __future__ import annotations

from typing import Final

from legion.foundation.errors import RefusedError
from legion.neuro_architecture.registry.desk import Desk
from legion.neuro_architecture.registry.indexing import content_name
from legion.neuro_architecture.spec.entries import AliasEntry, SnapshotEntry, TagsEntry
from legion.neuro_architecture.spec.snapshot import ArchitectureSnapshot

__all__ = ["ANYTHING", "move_alias", "move_tags", "place", "place_again"]

ANYTHING: Final = object()


def place(desk: Desk, ready: ArchitectureSnapshot, *, at: str, by: str | None) -> ArchitectureSnapshot:
    """The snapshot of this content that stands; where there is none, the next revision of its architecture."""
    content = content_name(ready)
    standing = desk.by_content(content)
    return standing or _place_new(desk, ready, at=at, by=by, content=content)


def place_again(
    desk: Desk, old: ArchitectureSnapshot, restored: ArchitectureSnapshot, *, at: str, by: str | None
) -> ArchitectureSnapshot:
    """`old`, where it is the newest revision of its architecture; else `restored` as the next one."""
    latest = desk.latest(old.semantic_hash)
    if latest is not None and latest.digest == old.digest:
        return old
    return _place_new(desk, restored, at=at, by=by, content=content_name(restored))


def _place_new(
    desk: Desk, ready: ArchitectureSnapshot, *, at: str, by: str | None, content: str
) -> ArchitectureSnapshot:
    """The next revision. It is the caller's own: the desk is gone once they have it, and gives copies to others."""
    revision, parent = desk.next_revision(ready.semantic_hash)
    snapshot = ready.model_copy(update={"revision": revision, "parent": parent})
    desk.add_snapshot(SnapshotEntry(at=at, by=by, snapshot=snapshot), content)
    return snapshot


def move_tags(
    desk: Desk, digest: str, added: set[str], removed: set[str], *, at: str, by: str | None
) -> tuple[str, ...]:
    """The tags that the snapshot has then; what is so already is not written."""
    held = set(desk.tags(digest))
    fresh, gone = sorted(added - held), sorted(removed & held)
    if fresh or gone:
        desk.add(TagsEntry(at=at, by=by, snapshot=digest, added=tuple(fresh), removed=tuple(gone)))
    return desk.tags(digest)


def move_alias(desk: Desk, name: str, digest: str | None, *, expected: object, at: str, by: str | None) -> str | None:
    """What the alias named before.

    Raises:
        RefusedError: that is not what was expected.
    """
    previous = desk.alias(name)
    if expected is not ANYTHING and previous != expected:
        raise RefusedError(
            f"alias {name!r} names {previous or 'nothing'}, not {expected or 'nothing'}",
            cause="somebody moved it in between",
            hint=f"legion registry show {name}",
        )
    if previous != digest:
        desk.add(AliasEntry(at=at, by=by, alias=name, snapshot=digest, previous=previous))
    return previous
