"""Routes that write. Whoever reaches one has shown the token: the doorman asks for it."""

from __future__ import annotations

import re
from http import HTTPStatus
from typing import Annotated, Any, Final, final

from fastapi import APIRouter, Header, Query, Security
from fastapi.responses import Response
from fastapi.security import HTTPBearer

from legion.foundation.errors import InvalidValueError, RefusedError, UnknownNameError
from legion.neuro_architecture.spec.entries import ApprovalEntry
from legion.web.dependencies import AliasName, Key, Service
from legion.web.models import (
    AliasMove,
    AliasResource,
    ApprovalRequest,
    EntryNumber,
    Registration,
    SnapshotResource,
    TagsRequest,
    TagsResource,
)
from legion.web.problems import responses
from legion.web.service import RegistryService

__all__ = ["PreconditionError", "router"]

_TAG: Final = re.compile(r'"(sha256:[0-9a-f]{64})"')
_BEARER: Final = HTTPBearer(auto_error=False, description="The server's token.")

router = APIRouter(
    prefix="/v1",
    tags=["writes"],
    dependencies=[Security(_BEARER)],
    responses=responses(HTTPStatus.UNAUTHORIZED, HTTPStatus.FORBIDDEN, HTTPStatus(413)),
)
_IfMatch = Annotated[
    str | None, Header(max_length=200, description='`"<digest>"` that the alias must name now, else 412.')
]
_IfNoneMatch = Annotated[
    str | None, Header(max_length=200, description="`*`: the alias must name nothing now, else 412.")
]
_IdempotencyKey = Annotated[
    str | None,
    Header(
        min_length=1,
        max_length=100,
        pattern=r"^[!-~]+$",
        description="Sent again with the same key, the request writes nothing and gives the first one's entry.",
    ),
]
_Anything: Final = object()


@final
class PreconditionError(RefusedError):
    """An alias names something else than If-Match or If-None-Match said."""


@router.post(
    "/snapshots",
    response_model=SnapshotResource,
    status_code=HTTPStatus.CREATED,
    responses={200: {"model": SnapshotResource, "description": "The very same content stands already"}},
)
def register(service: Service, body: Registration, response: Response) -> SnapshotResource:
    """Registers an architecture with its evidence, without files; the very same content again writes nothing."""
    size = service.log.refresh()
    try:
        snapshot = service.registry.register(body.version, body.config, body.metrics, body.provenance, body.tags)
    except UnknownNameError as error:  # a strategy in the body, not something that the URL names
        raise InvalidValueError(error.message, cause=error.cause, hint=error.hint) from error
    found = service.resource(snapshot)
    if found.entry < size:
        response.status_code = HTTPStatus.OK
    response.headers["Location"] = f"/v1/snapshots/{found.digest}"
    return found


@router.put("/snapshots/{key}/tags", response_model=TagsResource)
def put_tags(service: Service, key: Key, body: TagsRequest) -> TagsResource:
    """Puts tags on a snapshot; those that it has stay. What is so already writes nothing."""
    digest = service.registry.resolve(key).digest
    return TagsResource(digest=digest, tags=service.registry.tag(digest, add=body.tags))


@router.delete("/snapshots/{key}/tags", response_model=TagsResource)
def delete_tags(
    service: Service, key: Key, tag: Annotated[list[str], Query(max_length=100, description="One to take off.")]
) -> TagsResource:
    """Takes tags off a snapshot. What is so already writes nothing."""
    digest = service.registry.resolve(key).digest
    return TagsResource(digest=digest, tags=service.registry.tag(digest, remove=tag))


@router.put("/aliases/{name}", response_model=AliasResource, responses=responses(HTTPStatus.PRECONDITION_FAILED))
def put_alias(
    service: Service,
    name: AliasName,
    body: AliasMove,
    response: Response,
    if_match: _IfMatch = None,
    if_none_match: _IfNoneMatch = None,
) -> AliasResource:
    """Lets an alias name a snapshot, where asked so only if it names what was expected.

    Otherwise the answer is 412 for a header and 409 for `expected`.
    The move is one entry of the log; between comparison and move nobody else can write.
    """
    digest = service.registry.resolve(body.key).digest
    expected = _expected(if_match, if_none_match)
    if "expected" in body.model_fields_set:
        if expected is not _Anything:
            raise InvalidValueError("what the alias must name now is said both in a header and in the body")
        previous = service.registry.set_alias(name, digest, expected=body.expected)
    else:
        previous = _move(service, name, digest, expected)
    response.headers["ETag"] = f'"{digest}"'
    return AliasResource(alias=name, digest=digest, previous=previous)


@router.delete("/aliases/{name}", response_model=AliasResource, responses=responses(HTTPStatus.PRECONDITION_FAILED))
def delete_alias(service: Service, name: AliasName, if_match: _IfMatch = None) -> AliasResource:
    """Takes an alias away; the log keeps what it named."""
    previous = _move(service, name, None, _expected(if_match, None))
    return AliasResource(alias=name, digest=None, previous=previous)


def _expected(if_match: str | None, if_none_match: str | None) -> object:
    """A digest, None for nothing, or `_Anything`."""
    if if_match is None and if_none_match is None:
        return _Anything
    found = _TAG.fullmatch(if_match or "")
    if if_none_match is None and found:
        return found[1]
    if if_match is None and if_none_match == "*":
        return None
    raise InvalidValueError(
        "the precondition cannot be understood",
        cause=f"If-Match: {if_match}, If-None-Match: {if_none_match}",
        hint='send either If-Match: "sha256:<64 hex>" or If-None-Match: *',
    )


def _move(service: RegistryService, name: str, digest: str | None, expected: object) -> str | None:
    if expected is _Anything:
        return service.registry.set_alias(name, digest)
    try:
        return service.registry.set_alias(name, digest, expected=expected)
    except UnknownNameError as error:  # no alias can name what is not registered
        raise PreconditionError(f"alias {name!r} does not name {expected}", cause=error.message) from error
    except RefusedError as error:
        if type(error) is not RefusedError:
            raise
        raise PreconditionError(error.message, cause=error.cause, hint=error.hint) from error


@router.post(
    "/snapshots/{key}/approvals",
    response_model=EntryNumber,
    status_code=HTTPStatus.CREATED,
    responses=responses(HTTPStatus.CONFLICT),
)
def approve(service: Service, key: Key, body: ApprovalRequest, idempotency_key: _IdempotencyKey = None) -> EntryNumber:
    """Writes down who let a snapshot go on, or who did not."""
    digest = service.registry.resolve(key).digest
    number = service.registry.approve(
        digest, is_approved=body.is_approved, by=body.by, reason=body.reason, idempotency_key=idempotency_key
    )
    if idempotency_key is not None:
        _refuse_other(service, number, body.model_dump() | {"snapshot": digest})
    return EntryNumber(entry=number)


def _refuse_other(service: RegistryService, number: int, asked: dict[str, Any]) -> None:
    (entry,) = service.registry.entries(number, number + 1)
    if not isinstance(entry, ApprovalEntry) or entry.model_dump(include=set(asked)) != asked:
        raise RefusedError(
            f"the idempotency key was used for something else, entry {number}",
            hint="send another key; nothing was written",
        )
