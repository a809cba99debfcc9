"""Opening what fsspec reaches, and saying what is missing where it cannot be opened."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, Final

from fsspec.core import url_to_fs  # type: ignore[import-untyped]
from fsspec.registry import known_implementations  # type: ignore[import-untyped]

from legion.foundation.errors import WorldError
from legion.neuro_architecture.registry.blob_backends.address import BlobAddress
from legion.neuro_architecture.registry.blob_backends.remote import RemoteBackend

__all__ = ["open_remote"]

_USUAL: Final = ("s3", "gs", "abfs", "sftp", "smb", "hdfs", "webdav", "memory", "file")


def open_remote(address: BlobAddress, options: Mapping[str, Any] | None = None) -> RemoteBackend:
    """The store at a URL.

    Raises:
        WorldError: no such protocol, its driver is not installed, or it cannot be opened so.
    """
    try:
        file_system, base = url_to_fs(
            address.url, **{"skip_instance_cache": True, "use_listings_cache": False, **(options or {})}
        )
    except ImportError as error:
        raise _missing_driver(address, error) from error
    except Exception as error:  # noqa: BLE001 - each driver has errors of its own, which may hold the options
        if address.protocol not in known_implementations and isinstance(error, ValueError):
            raise WorldError(
                f"cannot keep blobs at {address.shown}: unknown protocol {address.protocol!r}",
                cause=f"fsspec knows {', '.join(_USUAL)} and others",
                hint="pip install the package that brings it, or use another URL",
            ) from None
        raise WorldError(
            f"cannot open {address.shown}", cause=address.scrub(f"{type(error).__name__}: {error}")
        ) from None
    return RemoteBackend(file_system, base, address)


def _missing_driver(address: BlobAddress, error: ImportError) -> WorldError:
    known = known_implementations.get(address.protocol, {})
    package = str(known.get("class", "")).partition(".")[0]
    needs = str(known.get("err", error))
    if package in {"", "fsspec"}:
        quoted = re.findall(r'"([A-Za-z0-9_.\[\]-]+)"', needs) or ([error.name] if error.name else [])
        package = " ".join(quoted)
    return WorldError(
        f"cannot keep blobs at {address.shown}: the driver for {address.protocol}:// is not installed",
        cause=address.scrub(needs),
        hint=f"pip install {package}" if package else None,
    )
