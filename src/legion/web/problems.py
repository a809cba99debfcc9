"""Errors as RFC 9457 has them: `application/problem+json`, made from the project's one error tree.

```
UnknownNameError             404      RefusedError (a gate, a compare-and-set)   409
UsageError (asked wrongly)   400      IntegrityError (what stands is damaged)    500
WorldError                   503      LegionError, TrainingError                 500
```
"""

from __future__ import annotations

import logging
from collections.abc import Iterable, Mapping, Sequence
from http import HTTPStatus
from pathlib import Path
from typing import Any, Final

from fastapi import FastAPI
from fastapi.exceptions import RequestValidationError
from fastapi.requests import Request
from fastapi.responses import Response
from pydantic import ConfigDict, Field
from starlette.exceptions import HTTPException

from legion.foundation.errors import (
    IntegrityError,
    LegionError,
    RefusedError,
    UnknownNameError,
    UsageError,
    WorldError,
)
from legion.neuro_architecture.spec._value import Value

__all__ = ["MEDIA_TYPE", "Problem", "answer", "install", "problem_of", "responses", "simple_problem"]

log = logging.getLogger(__name__)

MEDIA_TYPE: Final = "application/problem+json"
_STATUS: Final[tuple[tuple[type[LegionError], HTTPStatus], ...]] = (
    (UnknownNameError, HTTPStatus.NOT_FOUND),
    (UsageError, HTTPStatus.BAD_REQUEST),
    (IntegrityError, HTTPStatus.INTERNAL_SERVER_ERROR),
    (RefusedError, HTTPStatus.CONFLICT),
    (WorldError, HTTPStatus.SERVICE_UNAVAILABLE),
)
_SHOWN: Final = 60


class Problem(Value):
    """What went wrong. Source: RFC 9457.

    Attributes:
        type: `urn:legion:error:<code>`, or `about:blank` where the status says it all.
        title: The status in words.
        status: Of the answer.
        detail: One sentence with the offending value.
        code: The stable code of the error, or None.
        cause: Why it is so, or None.
        hint: The next step, or None.
    """

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [
                {
                    "type": "urn:legion:error:LGN-204",
                    "title": "Not Found",
                    "status": 404,
                    "detail": "unknown snapshot 'champignon'",
                    "code": "LGN-204",
                    "cause": "known: champion",
                    "hint": "did you mean 'champion'? list them: legion registry ls",
                }
            ]
        }
    )

    type: str = "about:blank"
    title: str
    status: int = Field(ge=400, le=599)
    detail: str
    code: str | None = None
    cause: str | None = None
    hint: str | None = None


def simple_problem(status: HTTPStatus, detail: str, *, cause: str | None = None, hint: str | None = None) -> Problem:
    """A problem of HTTP itself."""
    return Problem(title=status.phrase, status=status, detail=detail, cause=cause, hint=hint)


def problem_of(error: LegionError, *, private: Iterable[Path] = (), status: HTTPStatus | None = None) -> Problem:
    """The error as a problem.

    Args:
        error: One of the tree.
        private: Folders whose place on the disk is nobody's business; they are shown as `<name>`.
        status: Of the answer, where it is not the one of the error's class.
    """
    if status is None:
        matching = (status for kind, status in _STATUS if isinstance(error, kind))
        status = next(matching, HTTPStatus.INTERNAL_SERVER_ERROR)

    def veiled(text: str | None) -> str | None:
        for folder in private:
            text = text and text.replace(str(folder), f"<{folder.name}>")
        return text

    return Problem(
        type=f"urn:legion:error:{error.code}",
        title=status.phrase,
        status=status,
        detail=veiled(error.message) or status.phrase,
        code=error.code,
        cause=veiled(error.cause),
        hint=veiled(error.hint),
    )


def answer(problem: Problem, headers: Mapping[str, str] | None = None) -> Response:
    """The problem as an answer that nobody keeps."""
    return Response(
        problem.model_dump_json(exclude_none=True),
        status_code=problem.status,
        media_type=MEDIA_TYPE,
        headers={"Cache-Control": "no-store"} | dict(headers or {}),
    )


def responses(*others: HTTPStatus) -> dict[int | str, dict[str, Any]]:
    """For OpenAPI: every 4XX and 5XX is a problem; `others` are worth a line of their own."""
    content = {MEDIA_TYPE: {"schema": {"$ref": "#/components/schemas/Problem"}}}
    named: dict[int | str, dict[str, Any]] = {
        status.value: {"description": status.phrase, "content": content} for status in others
    }
    return named | {
        "4XX": {"description": "Asked wrongly, unknown, or refused", "content": content},
        "5XX": {"description": "The registry is damaged, or the machine said no", "content": content},
    }


def install(app: FastAPI, *, private: Sequence[Path]) -> None:
    """Lets the application answer every error as a problem; nothing of a stack goes out."""

    async def legion_error(_request: Request, error: Exception) -> Response:
        if not isinstance(error, LegionError):
            raise error
        return answer(problem_of(error, private=private))

    async def validation_error(_request: Request, error: Exception) -> Response:
        if not isinstance(error, RequestValidationError):
            raise error
        detail = "the request is not valid"
        return answer(simple_problem(HTTPStatus.BAD_REQUEST, detail, cause="\n".join(map(_line, error.errors()))))

    async def http_error(request: Request, error: Exception) -> Response:
        if not isinstance(error, HTTPException):
            raise error
        status = HTTPStatus(error.status_code)
        detail = f"{request.method} {request.url.path[:200]}: {error.detail}"
        return answer(simple_problem(status, detail, hint="see /openapi.json"), error.headers)

    async def our_bug(request: Request, error: Exception) -> Response:
        log.error("unexpected %s at %s %s", type(error).__name__, request.method, request.url.path)
        return answer(
            simple_problem(
                HTTPStatus.INTERNAL_SERVER_ERROR,
                f"unexpected {type(error).__name__}",
                cause="this is a bug in legion",
                hint="the server's own log says where",
            )
        )

    app.add_exception_handler(LegionError, legion_error)
    app.add_exception_handler(RequestValidationError, validation_error)
    app.add_exception_handler(HTTPException, http_error)
    app.add_exception_handler(Exception, our_bug)


def _line(item: Mapping[str, Any]) -> str:
    place = ".".join(str(part) for part in item["loc"])
    shown = repr(item.get("input"))
    return f"{place}: {item['msg']} (got {shown if len(shown) <= _SHOWN else shown[: _SHOWN - 3] + '...'})"
