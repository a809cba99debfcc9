"""The address of a blob store: a folder or a URL, and what of it may be shown."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final, final
from urllib.parse import unquote

from legion.foundation.errors import InvalidValueError

__all__ = ["BlobAddress", "parse_address"]

_URL: Final = re.compile(r"([A-Za-z][A-Za-z0-9+.-]*)://(.*)", re.DOTALL)
_LOCAL: Final = ("file", "local")
_USER: Final = re.compile(r"(?<=://)\S*@")  # to the last @: a password may hold any of /:@
_QUERY: Final = re.compile(r"\?\S*")
_SHORTEST_SECRET: Final = 4


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class BlobAddress:
    """Where a store is, and what a message must not say of it.

    Attributes:
        folder: The folder of this machine, or None for a URL.
        protocol: The URL's protocol, or `file`.
        shown: The address without user, password and query.
    """

    folder: Path | None
    protocol: str
    shown: str
    url: str = field(repr=False)
    secrets: frozenset[str] = field(repr=False)

    def scrub(self, text: str) -> str:
        """`text` without what must not be shown: every option's text, user and password, queries of URLs."""
        for secret in sorted(self.secrets, key=len, reverse=True):
            text = text.replace(secret, "***")
        return _mask(text) if "://" in text else text


def parse_address(url: str, options: Mapping[str, Any] | None = None) -> BlobAddress:
    """The store that `url` names; a plain path and `file://` are a folder of this machine.

    Args:
        url: A path or `protocol://...`.
        options: What fsspec is given with it.

    Raises:
        InvalidValueError: no address, a chain of addresses, or options for a folder.
    """
    if not isinstance(url, str) or not url.strip() or any(character < " " for character in url):
        raise InvalidValueError("the address of the blobs is no path and no URL")
    match = _URL.fullmatch(url)
    secrets = frozenset(_texts(options or {})) | frozenset(_userinfo(url) if match else ())
    shown = _mask(url) if match else url
    if "::" in url:
        raise InvalidValueError(f"the address of the blobs {shown} is a chain", hint="name one file system")
    protocol = match[1].lower() if match else "file"
    folder = _folder(url, match[2] if match else url, shown) if protocol in _LOCAL else None
    if folder is not None and options:
        raise InvalidValueError(f"a folder takes no options: {', '.join(sorted(options))}")
    return BlobAddress(folder=folder, protocol=protocol, shown=shown, url=url, secrets=secrets)


def _folder(url: str, rest: str, shown: str) -> Path:
    if rest == url:
        return Path(url).expanduser().absolute()
    path = rest.removeprefix("localhost")
    if not path.startswith("/") or "?" in path or "#" in path:
        raise InvalidValueError(f"{shown} names no folder of this machine", hint="write file:///folder or /folder")
    return Path(unquote(path))


def _mask(text: str) -> str:
    return _QUERY.sub("?***", _USER.sub("***@", text))


def _userinfo(url: str) -> Iterable[str]:
    """User and password as they stand and as they are meant."""
    name = url.partition("://")[2].rpartition("@")[0]
    for part in name.partition(":")[::2]:
        yield from (text for text in (part, unquote(part)) if len(text) >= _SHORTEST_SECRET)


def _texts(value: Any) -> Iterable[str]:
    if isinstance(value, Mapping):
        for item in value.values():
            yield from _texts(item)
    elif isinstance(value, (list, tuple, set, frozenset)):
        for item in value:
            yield from _texts(item)
    elif isinstance(value, bytes):
        yield from _texts(value.decode(errors="replace"))
    elif isinstance(value, str) and len(value) >= _SHORTEST_SECRET:
        yield value
