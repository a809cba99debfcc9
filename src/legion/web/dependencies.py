"""What routes share: the service behind them, and parameters that look the same everywhere."""

from __future__ import annotations

from typing import Annotated

from fastapi import Depends, Path
from fastapi.requests import Request

from legion.web.service import RegistryService

__all__ = ["AliasName", "Key", "Service"]


def _service(request: Request) -> RegistryService:
    service = request.app.state.service
    if not isinstance(service, RegistryService):
        raise TypeError("the application has no registry")
    return service


Service = Annotated[RegistryService, Depends(_service)]
Key = Annotated[
    str,
    Path(
        max_length=128,
        description="An alias, a digest, the beginning of one, or a semantic hash, which means its newest revision.",
        examples=["champion"],
    ),
]
AliasName = Annotated[str, Path(max_length=64, description="The alias.", examples=["champion"])]
