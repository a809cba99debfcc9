"""Who comes in: the host that is asked for, the token of whoever writes, and how much they bring.

It stands before the application, so that no route can forget it: whatever is not GET or HEAD is a write.
"""

from __future__ import annotations

from collections.abc import Collection
from http import HTTPStatus
from typing import Final, final

from starlette.concurrency import run_in_threadpool
from starlette.datastructures import Headers, MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from legion.neuro_architecture.registry.plain_json import parse_plain_json
from legion.web.problems import Problem, answer, simple_problem
from legion.web.tokens import WriteToken

__all__ = ["LOOPBACK_HOSTS", "MAX_BODY_BYTES", "Doorman"]

LOOPBACK_HOSTS: Final = frozenset({"127.0.0.1", "localhost", "[::1]"})
MAX_BODY_BYTES: Final = 2 << 20
_READS: Final = frozenset({"GET", "HEAD"})


@final
class _TurnedAwayError(Exception):
    def __init__(self, problem: Problem, headers: dict[str, str] | None = None) -> None:
        super().__init__(problem.detail)
        self.problem = problem
        self.headers = headers


@final
class Doorman:
    """Middleware that answers with a problem whatever may not come in.

    Args:
        app: What stands behind it.
        token: Lets somebody write; None lets nobody.
        hosts: Names that the `Host` header may have, without port. A page of a stranger whose name was made to point
            at this machine (DNS rebinding) comes with the stranger's name, and is turned away. None takes all.
    """

    def __init__(self, app: ASGIApp, *, token: WriteToken | None, hosts: Collection[str] | None) -> None:
        self._app = app
        self._token = token
        self._hosts = hosts

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Lets a request through, or answers it."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return

        async def guarded(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                headers.setdefault("X-Content-Type-Options", "nosniff")
                headers.setdefault("Cache-Control", "no-cache")
            await send(message)

        try:
            headers = Headers(scope=scope)
            self._check_host(headers)
            if scope["method"] not in _READS:
                self._check_token(headers)
                receive = await _bounded(headers, receive)
        except _TurnedAwayError as refusal:
            await answer(refusal.problem, refusal.headers)(scope, receive, guarded)
            return
        await self._app(scope, receive, guarded)

    def _check_host(self, headers: Headers) -> None:
        host = headers.get("host", "").lower()
        name = host if host.endswith("]") else host.rsplit(":", 1)[0]
        if self._hosts is not None and name not in self._hosts:
            raise _TurnedAwayError(
                simple_problem(
                    HTTPStatus.MISDIRECTED_REQUEST,
                    f"this server is not {name[:100]!r}",
                    cause=f"it listens on this machine only, as {', '.join(sorted(self._hosts))}",
                )
            )

    def _check_token(self, headers: Headers) -> None:
        if self._token is None:
            raise _TurnedAwayError(
                simple_problem(
                    HTTPStatus.FORBIDDEN,
                    "this server takes no writes",
                    cause="no token is configured",
                    hint="set LEGION_REGISTRY_TOKEN or give --token-file where it is started",
                )
            )
        scheme, _, offered = headers.get("authorization", "").partition(" ")
        if scheme.lower() != "bearer" or not self._token.matches(offered.strip().encode("latin-1")):
            raise _TurnedAwayError(
                simple_problem(
                    HTTPStatus.UNAUTHORIZED,
                    "writes need the server's token",
                    cause="another token came" if offered else "none came",
                    hint="send Authorization: Bearer <token>",
                ),
                {"WWW-Authenticate": 'Bearer realm="legion.registry"'},
            )


async def _bounded(headers: Headers, receive: Receive) -> Receive:
    """The body, read up to the bound and looked through, for the application to receive at once."""
    announced = headers.get("content-length", "")
    if announced.isdigit() and (len(announced) > 15 or int(announced) > MAX_BODY_BYTES):
        raise _too_large(f"{announced[:20]} bytes")
    body = bytearray()
    is_complete = False
    while not is_complete:
        message = await receive()
        if message["type"] == "http.disconnect":
            break
        body += message.get("body", b"")
        if len(body) > MAX_BODY_BYTES:
            raise _too_large(f"more than {MAX_BODY_BYTES} bytes")
        is_complete = not message.get("more_body", False)
    if body:  # no route takes anything but JSON, whatever the request calls it
        await run_in_threadpool(_refuse_odd_json, bytes(body))
    pending: list[Message] = [{"type": "http.request", "body": bytes(body), "more_body": False}] if is_complete else []

    async def replay() -> Message:
        return pending.pop() if pending else await receive()

    return replay


def _refuse_odd_json(body: bytes) -> None:
    """What the parser behind would let pass: keys named twice, NaN, nesting without end."""
    try:
        parse_plain_json(body, "the body")
    except ValueError as error:
        raise _TurnedAwayError(simple_problem(HTTPStatus.BAD_REQUEST, str(error))) from error


def _too_large(found: str) -> _TurnedAwayError:
    return _TurnedAwayError(
        simple_problem(
            HTTPStatus(413),
            f"the body has {found}; it may have at most {MAX_BODY_BYTES}",
            hint="keep long evidence in a file and register it with legion on the server's machine",
        )
    )
