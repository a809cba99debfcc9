"""The application: routes, errors as problems, and the doorman before them."""

from __future__ import annotations

from collections.abc import Collection
from http import HTTPStatus
from pathlib import Path
from typing import Final

from fastapi import FastAPI
from fastapi.requests import Request
from fastapi.responses import Response
from fastapi.routing import APIRoute

from legion import __version__
from legion.neuro_architecture.registry import ArchitectureRegistry
from legion.web import evidence, problems, reading, writing
from legion.web.doorman import LOOPBACK_HOSTS, Doorman
from legion.web.service import RegistryService
from legion.web.tokens import WriteToken

__all__ = ["create_app"]

_DESCRIPTION: Final = """Architectures with their evidence, out of a transparency log.

Reading needs no token. Writing needs `Authorization: Bearer <token>`. Errors are `application/problem+json` (RFC 9457).
"""


def create_app(
    registry: ArchitectureRegistry,
    *,
    keys: Path,
    token: WriteToken | None = None,
    hosts: Collection[str] | None = LOOPBACK_HOSTS,
) -> FastAPI:
    """The registry as an ASGI application.

    Args:
        registry: What it serves.
        keys: Folder of private keys and of the checkpoints that this machine has seen.
        token: Lets somebody write; None lets nobody.
        hosts: Names that it answers to; None takes all.
    """
    app = FastAPI(
        title="Legion registry",
        version=__version__,
        description=_DESCRIPTION,
        docs_url=None,  # both pages load scripts from strangers
        redoc_url=None,
        redirect_slashes=False,
        generate_unique_id_function=_operation_id,
    )
    app.state.service = RegistryService(registry, keys=keys, takes_writes=token is not None)
    problems.install(app, private=[registry.root, keys])
    app.add_exception_handler(writing.PreconditionError, _precondition_failed)
    for each in (reading, evidence, writing):
        app.include_router(each.router)
    app.add_middleware(Doorman, token=token, hosts=hosts)
    _describe_problems(app)
    return app


def _describe_problems(app: FastAPI) -> None:
    """Puts the schema of problems into the document; answers refer to it under a media type that FastAPI knows not."""
    app.openapi()["components"]["schemas"]["Problem"] = problems.Problem.model_json_schema()


def _operation_id(route: APIRoute) -> str:
    return route.name


async def _precondition_failed(_request: Request, error: Exception) -> Response:
    if not isinstance(error, writing.PreconditionError):
        raise error
    return problems.answer(problems.problem_of(error, status=HTTPStatus.PRECONDITION_FAILED))
