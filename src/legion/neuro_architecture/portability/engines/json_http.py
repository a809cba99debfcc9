"""Asks a server for JSON over HTTP, whole or line by line, with the standard library and without any proxy."""

from __future__ import annotations

import http.client
import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Final, final
from urllib.parse import urlsplit

from legion.foundation.errors import EngineError, InvalidValueError

__all__ = ["JsonServer"]

_ANSWER_S: Final = 600.0
_HEADERS: Final = {"Content-Type": "application/json", "Accept": "application/json"}


@final
class JsonServer:
    """A server at an address; every failure is an EngineError that names it.

    Args:
        url: `http://host:port`; the scheme may be left out.
        name: What errors call it.
        last_words: What it said last, for the cause of an error.

    Raises:
        InvalidValueError: that is no address.
    """

    def __init__(self, url: str, *, name: str, last_words: Callable[[], str] = str) -> None:
        parts = urlsplit(url if "://" in url else f"http://{url}")
        if parts.scheme not in ("http", "https") or not parts.hostname:
            raise InvalidValueError(f"{url!r} is no address of a server", hint="such as http://127.0.0.1:11434")
        self._name = name
        self._last_words = last_words
        self._is_encrypted = parts.scheme == "https"
        self._host, self._port = parts.hostname, parts.port

    def lines(self, method: str, path: str, body: dict[str, Any] | None = None) -> Iterator[bytes]:
        """The lines of an answer as they come.

        Raises:
            EngineError: the server is not there, died, or answered with another status than 2xx.
        """
        connection = self._connection()
        try:
            content = None if body is None else json.dumps(body)
            connection.request(method, path, content, _HEADERS)
            response = connection.getresponse()
            self._refuse(response, path)
            yield from response
        except (OSError, http.client.HTTPException) as error:
            raise self._silence(path, error) from error
        finally:
            connection.close()

    def ask(self, method: str, path: str, body: dict[str, Any] | None = None) -> Any:
        """An answer, parsed; None where it is empty.

        Raises:
            EngineError: as `lines`, or the answer is no JSON.
        """
        text = b"".join(self.lines(method, path, body))
        return self.parsed(text, path) if text.strip() else None

    def parsed(self, text: bytes, path: str) -> Any:
        """JSON of the server's.

        Raises:
            EngineError: it is none.
        """
        try:
            return json.loads(text)
        except ValueError as error:
            raise EngineError(f"{self._name} answers on {path} with what is no JSON", cause=str(error)) from error

    def has(self, path: str) -> bool:
        """Whether the server answers HEAD with 200, not 404.

        Raises:
            EngineError: as `lines`.
        """
        connection = self._connection()
        try:
            connection.request("HEAD", path)
            response = connection.getresponse()
            if response.status != http.HTTPStatus.NOT_FOUND:
                self._refuse(response, path)
            return response.status == http.HTTPStatus.OK
        except (OSError, http.client.HTTPException) as error:
            raise self._silence(path, error) from error
        finally:
            connection.close()

    def upload(self, path: str, file: Path) -> None:
        """Posts a file's bytes without reading it whole.

        Raises:
            EngineError: as `lines`.
        """
        connection = self._connection()
        try:
            with file.open("rb") as content:
                length = str(file.stat().st_size)
                connection.request("POST", path, content, {"Content-Length": length})
                self._refuse(connection.getresponse(), path)
        except (OSError, http.client.HTTPException) as error:
            raise self._silence(path, error) from error
        finally:
            connection.close()

    def _connection(self) -> http.client.HTTPConnection:
        kind = http.client.HTTPSConnection if self._is_encrypted else http.client.HTTPConnection
        return kind(self._host, self._port, timeout=_ANSWER_S)

    def _refuse(self, response: http.client.HTTPResponse, path: str) -> None:
        if response.status // 100 != 2:
            raise EngineError(
                f"{self._name} refuses {path} with status {response.status}",
                cause=response.read().decode("utf-8", "replace").strip() or None,
            )

    def _silence(self, path: str, error: Exception) -> EngineError:
        cause = "\n".join(filter(None, [str(error), self._last_words()]))
        return EngineError(f"{self._name} does not answer on {path}", cause=cause or None)
