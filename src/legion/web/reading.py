"""Routes that read snapshots. They are plain functions: the framework runs each in a thread of its pool."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from http import HTTPStatus
from pathlib import Path
from typing import Annotated, BinaryIO, Final

from fastapi import APIRouter, Query
from fastapi.responses import Response, StreamingResponse

from legion.foundation.canonical import short
from legion.foundation.errors import UnknownNameError
from legion.neuro_architecture.registry import diff_snapshots
from legion.web.dependencies import AliasName, Key, Service
from legion.web.models import (
    Aliases,
    AliasResource,
    DiffResource,
    Event,
    Events,
    History,
    LineageResource,
    ProofResource,
    SnapshotPage,
    SnapshotResource,
)
from legion.web.problems import responses

__all__ = ["router"]

_CHUNK_BYTES: Final = 256 << 10
_ARCHIVE: Final = "application/x-tar"

router = APIRouter(prefix="/v1", tags=["snapshots"], responses=responses())
_FOUND: Final = responses(HTTPStatus.NOT_FOUND)


@router.get("/snapshots", response_model=SnapshotPage)
def list_snapshots(
    service: Service,
    query: Annotated[
        str | None,
        Query(max_length=3000, description="As of `legion registry query`.", examples=["accuracy > 0.82 and latest"]),
    ] = None,
    tag: Annotated[
        list[str] | None, Query(max_length=16, description="A tag that it has now; several mean all of them.")
    ] = None,
    order: Annotated[
        str | None, Query(max_length=200, description="A metric to order by; left out, the order of registration.")
    ] = None,
    descending: Annotated[bool, Query(description="Largest or newest first.")] = False,
    limit: Annotated[int, Query(ge=1, le=1000)] = 100,
    after: Annotated[int | None, Query(ge=0, le=1 << 62, description="`next` of the page before.")] = None,
) -> SnapshotPage:
    """Snapshots, a page at a time; `next` is the entry number to go on `after`.

    In the order of registration, pages hold whatever else is registered meanwhile. Ordered by a metric, a page whose
    `after` no longer fits the query is refused (409).
    """
    return service.page(query=query, tags=tag or [], order=order, is_descending=descending, after=after, limit=limit)


@router.get("/snapshots/{key}", response_model=SnapshotResource, responses=_FOUND)
def read_snapshot(service: Service, key: Key) -> SnapshotResource:
    """One snapshot, and what names it now."""
    return service.resource(service.registry.resolve(key))


@router.get("/snapshots/{key}/history", response_model=History, responses=_FOUND)
def read_history(service: Service, key: Key) -> History:
    """All revisions of the snapshot's architecture, oldest first."""
    name = service.registry.resolve(key).semantic_hash
    return History(semantic_hash=name, revisions=service.history(name))


@router.get("/snapshots/{key}/lineage", response_model=LineageResource, responses=_FOUND)
def read_lineage(service: Service, key: Key) -> LineageResource:
    """The revisions before a snapshot, nearest first, and what names it as parent."""
    snapshot = service.registry.resolve(key)
    lineage = service.registry.lineage(snapshot.digest)
    return LineageResource(
        digest=snapshot.digest,
        ancestors=tuple(item.digest for item in lineage.ancestors),
        children=tuple(item.digest for item in lineage.children),
    )


@router.get("/snapshots/{key}/events", response_model=Events, responses=_FOUND)
def read_events(service: Service, key: Key) -> Events:
    """Every entry of the log that speaks of a snapshot, oldest first."""
    digest = service.registry.resolve(key).digest
    found = service.registry.events(digest)
    return Events(digest=digest, events=tuple(Event(entry=number, event=event) for number, event in found))


@router.get(
    "/snapshots/{key}/diff/{other}",
    response_model=DiffResource,
    response_model_exclude_unset=True,
    responses=_FOUND,
)
def read_diff(service: Service, key: Key, other: Key) -> DiffResource:
    """In what `other` differs from `key`: architecture, metrics with their intervals, data, code."""
    found = diff_snapshots(service.registry.resolve(key), service.registry.resolve(other))
    return DiffResource.model_validate(found.to_dict())


@router.get("/snapshots/{key}/proof", response_model=ProofResource, responses=_FOUND)
def read_proof(service: Service, key: Key) -> ProofResource:
    """That a snapshot is in the log: its entry, the path to the root, and the checkpoint that signs the root."""
    return service.proof(key)


@router.get(
    "/snapshots/{key}/bundle",
    response_class=StreamingResponse,
    responses=_FOUND | {200: {"description": "The file", "content": {_ARCHIVE: {"schema": {"type": "string"}}}}},
)
def read_bundle(service: Service, key: Key) -> Response:
    """The snapshot with its files, proofs and statement as one file: `legion registry check` verifies it offline.

    Every file is verified before the first byte goes out.
    """
    snapshot = service.registry.resolve(key)
    with tempfile.TemporaryDirectory(prefix="legion-bundle-") as scratch:
        path = service.registry.export_snapshot(snapshot.digest, Path(scratch) / "bundle.tar")
        size = path.stat().st_size
        file = path.open("rb")  # outlives its name; whoever sends it closes it
    name = short(snapshot.digest)
    return StreamingResponse(
        _chunks(file),
        media_type=_ARCHIVE,
        headers={"Content-Length": str(size), "Content-Disposition": f'attachment; filename="{name}.tar"'},
    )


def _chunks(file: BinaryIO) -> Iterator[bytes]:
    with file:
        while chunk := file.read(_CHUNK_BYTES):
            yield chunk


@router.get("/aliases", response_model=Aliases)
def list_aliases(service: Service) -> Aliases:
    """What each alias names."""
    return Aliases(aliases=service.registry.aliases())


@router.get("/aliases/{name}", response_model=AliasResource, responses=_FOUND)
def read_alias(service: Service, name: AliasName, response: Response) -> AliasResource:
    """What an alias names; its ETag is for `If-Match` of a move."""
    aliases = service.registry.aliases()
    if name not in aliases:
        raise UnknownNameError.of("alias", name, aliases)
    response.headers["ETag"] = f'"{aliases[name]}"'
    return AliasResource(alias=name, digest=aliases[name])
