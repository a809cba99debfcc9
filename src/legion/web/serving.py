"""Listening: where, for whom, and until when."""

from __future__ import annotations

import ipaddress
import socket
from collections.abc import Callable
from pathlib import Path
from typing import Final

import uvicorn

from legion.foundation.errors import UsageError, WorldError
from legion.neuro_architecture.registry import ArchitectureRegistry
from legion.web.application import create_app
from legion.web.doorman import LOOPBACK_HOSTS
from legion.web.tokens import VARIABLE, WriteToken

__all__ = ["is_loopback", "serve"]

_BACKLOG: Final = 128
_MAX_CONNECTIONS: Final = 256
_GRACE_S: Final = 5


def is_loopback(host: str) -> bool:
    """Whether only this machine reaches a server on `host`; a name other than localhost may point anywhere."""
    try:
        return host == "localhost" or ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def serve(
    registry: ArchitectureRegistry,
    *,
    keys: Path,
    host: str,
    port: int,
    token: WriteToken | None,
    announce: Callable[[str], None],
    warn: Callable[[str], None],
) -> None:
    """Serves until interrupted.

    Args:
        registry: What is served.
        keys: Folder of private keys and of the checkpoints that this machine has seen.
        host: Address to listen on.
        port: 0 takes a free one.
        token: Lets somebody write; None lets nobody.
        announce: Told the URL once connections are taken.
        warn: Told what others will be able to do.

    Raises:
        UsageError: a host that others reach, and no token.
        IntegrityError: the registry is damaged.
        WorldError: the address is taken, or not this machine's.
    """
    is_private = is_loopback(host)
    if not is_private:
        if token is None:
            raise UsageError(
                f"{host} may be reached by others, and no token is configured",
                cause="a server that others reach must know who may write",
                hint=f"set {VARIABLE} or give --token-file, or listen on 127.0.0.1",
            )
        warn(
            f"warning: whoever reaches {host} reads the whole registry, without encryption; "
            "the token goes over the wire as it is. Put a proxy with TLS before it."
        )
    app = create_app(registry, keys=keys, token=token, hosts=LOOPBACK_HOSTS if is_private else None)
    app.state.service.log.refresh()
    listening = _listen(host, port)
    with listening:
        shown = f"[{host}]" if ":" in host else host
        announce(f"http://{shown}:{listening.getsockname()[1]}")
        _run(app, listening)


def _listen(host: str, port: int) -> socket.socket:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        return socket.create_server((host, port), family=family, backlog=_BACKLOG)
    except OSError as error:
        raise WorldError(
            f"cannot listen on {host} port {port}", cause=str(error), hint="another port: --port 0 takes a free one"
        ) from error


def _run(app: object, listening: socket.socket) -> None:
    config = uvicorn.Config(
        app,  # type: ignore[arg-type]
        log_config=None,
        access_log=False,
        server_header=False,
        proxy_headers=False,
        lifespan="off",
        http="h11",
        ws="none",
        limit_concurrency=_MAX_CONNECTIONS,
        timeout_graceful_shutdown=_GRACE_S,
    )
    try:
        uvicorn.Server(config).run(sockets=[listening])
    except KeyboardInterrupt:
        return  # how a server is stopped; uvicorn has let its requests finish
