"""Routes that read the log: for whoever trusts nobody, the server included."""

from __future__ import annotations

from typing import Annotated, Final

from fastapi import APIRouter, Path, Query
from fastapi.responses import Response, StreamingResponse

from legion.web.dependencies import Service
from legion.web.models import CheckpointResource, ConsistencyResource, Health
from legion.web.problems import responses

__all__ = ["router"]

_LINES: Final = "application/jsonl"
_NOTE: Final = "text/plain; charset=utf-8"
_BYTES: Final = "application/octet-stream"
_FOR_EVER: Final = "public, max-age=31536000, immutable"
_Number = Annotated[int, Query(ge=0, le=1 << 62)]

router = APIRouter(tags=["log"], responses=responses())


@router.get("/healthz", response_model=Health)
def read_health(service: Service) -> Health:
    """Whether the log can be read: damage, rollback and forks answer 500."""
    return Health(status="ok", entries=service.log.refresh(), takes_writes=service.takes_writes)


@router.get("/v1/checkpoint", response_model=CheckpointResource)
def read_checkpoint(service: Service) -> CheckpointResource:
    """The latest signed size and root; keep it, and ask `/v1/consistency` later."""
    return service.checkpoint()


@router.get("/v1/consistency", response_model=ConsistencyResource)
def read_consistency(service: Service, old: _Number, new: _Number | None = None) -> ConsistencyResource:
    """That the log of `old` entries is the beginning of that of `new`, by default of the latest."""
    return ConsistencyResource.of(service.registry.prove_consistency(old, new))


@router.get(
    "/v1/entries",
    response_class=StreamingResponse,
    responses={200: {"description": "An entry a line", "content": {_LINES: {"schema": {"type": "string"}}}}},
)
def stream_entries(service: Service, start: _Number = 0, stop: _Number | None = None) -> Response:
    """Entries from `start` to before `stop`, by default to the last, as JSON lines.

    Each line is the entry's very bytes, so SHA-256(0x00 || line without its newline) is its leaf hash. Where an entry
    turns out damaged on the way, the connection breaks off: an answer that ended properly is complete.
    """
    return StreamingResponse(service.entries(start, stop), media_type=_LINES)


@router.get(
    "/checkpoint",
    response_class=Response,
    responses={200: {"description": "A signed note", "content": {"text/plain": {"schema": {"type": "string"}}}}},
)
def read_note(service: Service) -> Response:
    """The latest checkpoint as C2SP tlog-tiles has it."""
    return Response(service.checkpoint().note.encode(), media_type=_NOTE)


@router.get(
    "/tile/{level}/{index:path}",
    response_class=Response,
    responses={200: {"description": "Hashes of 32 bytes", "content": {_BYTES: {"schema": {"type": "string"}}}}},
)
def read_tile(
    service: Service,
    level: Annotated[str, Path(description="0 is the leaves' hashes.", examples=["0"])],
    index: Annotated[str, Path(examples=["x001/234/067", "000.p/42"])],
) -> Response:
    """A tile of the tree as C2SP tlog-tiles has it.

    Its entry bundles are not served, since an entry may be longer than they can hold: see `/v1/entries`.
    """
    content, is_whole = service.tiles.read(f"tile/{level}/{index}")
    return Response(content, media_type=_BYTES, headers={"Cache-Control": _FOR_EVER} if is_whole else None)
