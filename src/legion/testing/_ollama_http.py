"""Paths, statuses and streams of Ollama's API, for the fake."""

from __future__ import annotations

import http.server
import json
from collections.abc import Callable, Iterator
from http import HTTPStatus
from pathlib import Path
from typing import Any, ClassVar, Final, Protocol, final

from legion.foundation.errors import EngineError

__all__ = ["Answer", "OllamaApi", "Refusal", "handler_for"]

Answer = dict[str, Any]
_CHUNK_BYTES: Final = 1 << 20


@final
class Refusal(Exception):  # noqa: N818 - no error of ours, an answer with a status
    """A request that is answered with another status than 200."""

    def __init__(self, status: HTTPStatus, message: str) -> None:
        super().__init__(message)
        self.status = status


class OllamaApi(Protocol):
    """What answers the requests; each raises Refusal."""

    def version(self) -> Answer: ...

    def blob(self, digest: str) -> Path: ...

    def keep_blob(self, digest: str, chunks: Iterator[bytes]) -> None: ...

    def create(self, body: Answer) -> Iterator[Answer]: ...

    def generate(self, body: Answer) -> Iterator[Answer]: ...

    def chat(self, body: Answer) -> Iterator[Answer]: ...

    def show(self, body: Answer) -> Answer: ...

    def tags(self) -> Answer: ...

    def running(self) -> Answer: ...

    def copy(self, body: Answer) -> None: ...

    def delete(self, body: Answer) -> None: ...


def handler_for(api: OllamaApi) -> type[http.server.BaseHTTPRequestHandler]:
    """The class that an HTTP server makes an object of for each connection."""
    return type("Handler", (_Handler,), {"api": api})


class _Handler(http.server.BaseHTTPRequestHandler):
    """Paths and statuses of the API."""

    protocol_version = "HTTP/1.1"
    api: ClassVar[OllamaApi]

    def do_HEAD(self) -> None:
        self._guarded(self._head)

    def do_GET(self) -> None:
        self._guarded(self._get)

    def do_POST(self) -> None:
        self._guarded(self._post)

    def do_DELETE(self) -> None:
        self._guarded(self._delete)

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 - the standard library's name
        """Nothing: a test's output is its own."""

    def _guarded(self, answer: Callable[[], None]) -> None:
        try:
            answer()
        except Refusal as refusal:
            self.close_connection = True  # what of the request is unread would pass for the next one
            self._send(refusal.status, {"error": str(refusal)})
        except EngineError as error:
            self._send(HTTPStatus.INTERNAL_SERVER_ERROR, {"error": error.render()})

    def _head(self) -> None:
        found = self.path == "/" or self.api.blob(self._digest()).is_file()
        self._send(HTTPStatus.OK if found else HTTPStatus.NOT_FOUND)

    def _get(self) -> None:
        match self.path:
            case "/api/version":
                self._send(HTTPStatus.OK, self.api.version())
            case "/api/tags":
                self._send(HTTPStatus.OK, self.api.tags())
            case "/api/ps":
                self._send(HTTPStatus.OK, self.api.running())
            case _:
                self._refuse_path()

    def _post(self) -> None:
        if self.path.startswith("/api/blobs/"):
            self.api.keep_blob(self._digest(), self._content())
            self._send(HTTPStatus.CREATED)
            return
        body = json.loads(b"".join(self._content()) or b"{}")
        match self.path:
            case "/api/create":
                self._send_events(body, self.api.create(body), lambda events: events[-1])
            case "/api/generate":
                self._send_events(body, self.api.generate(body), _joined_response)
            case "/api/chat":
                self._send_events(body, self.api.chat(body), _joined_message)
            case "/api/show":
                self._send(HTTPStatus.OK, self.api.show(body))
            case "/api/copy":
                self.api.copy(body)
                self._send(HTTPStatus.OK)
            case _:
                self._refuse_path()

    def _delete(self) -> None:
        body = json.loads(b"".join(self._content()) or b"{}")
        if self.path != "/api/delete":
            self._refuse_path()
        self.api.delete(body)
        self._send(HTTPStatus.OK)

    def _refuse_path(self) -> None:
        raise Refusal(HTTPStatus.NOT_IMPLEMENTED, f"FakeOllama does not do {self.path}")

    def _digest(self) -> str:
        return self.path.removeprefix("/api/blobs/")

    def _content(self) -> Iterator[bytes]:
        """The request's body: of a known length, or in chunks."""
        if self.headers.get("Transfer-Encoding") == "chunked":
            while length := int(self.rfile.readline(), 16):
                yield self.rfile.read(length)
                self.rfile.readline()
            self.rfile.readline()
            return
        left = int(self.headers.get("Content-Length") or 0)
        while left:
            chunk = self.rfile.read(min(left, _CHUNK_BYTES))
            left -= len(chunk)
            yield chunk

    def _send(self, status: HTTPStatus, answer: Answer | None = None) -> None:
        content = b"" if answer is None else json.dumps(answer).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(content)

    def _send_events(self, body: Answer, events: Iterator[Answer], join: Callable[[list[Answer]], Answer]) -> None:
        """All in one, or each on a line as it comes; the first is awaited, so that a refusal still has its status."""
        if body.get("stream") is False:
            self._send(HTTPStatus.OK, join(list(events)))
            return
        first = next(events)
        self.send_response(HTTPStatus.OK)
        self.send_header("Content-Type", "application/x-ndjson")
        self.send_header("Transfer-Encoding", "chunked")
        self.end_headers()
        self._send_line(first)
        try:
            for event in events:
                self._send_line(event)
        except EngineError as error:
            self._send_line({"error": error.render()})
        self.wfile.write(b"0\r\n\r\n")

    def _send_line(self, event: Answer) -> None:
        line = json.dumps(event).encode() + b"\n"
        self.wfile.write(f"{len(line):x}\r\n".encode() + line + b"\r\n")


def _joined_response(events: list[Answer]) -> Answer:
    return events[-1] | {"response": "".join(event["response"] for event in events)}


def _joined_message(events: list[Answer]) -> Answer:
    text = "".join(event["message"]["content"] for event in events)
    return events[-1] | {"message": {"role": "assistant", "content": text}}
