"""The two content names of a snapshot, made together and fast: an index is rebuilt from a million of them.

RFC 8785 and Python's own encoder write the same bytes wherever the text is ASCII and no float is whole, in exponent
form or beyond 2**53. Records that come from a log are so; for all others `canonical_json` does it.
"""

from __future__ import annotations

import hashlib
import json
import re
from typing import Any, Final

from legion.foundation.canonical import canonical_json, digest_json
from legion.neuro_architecture.spec.snapshot import ArchitectureSnapshot

__all__ = ["content_name", "snapshot_names"]

_ENCODE: Final = json.JSONEncoder(ensure_ascii=False, sort_keys=True, separators=(",", ":"), allow_nan=False).encode
_UNLIKE: Final = re.compile(r"\.0[,}\]]|e[-+][0-9]|[0-9]{16}|-0[,}\]]")


def content_name(snapshot: ArchitectureSnapshot) -> str:
    """Digest of what the caller gave: everything but revision, parent and time."""
    return digest_json(snapshot.model_dump(mode="json", exclude={"revision", "parent", "created_at"}))


def snapshot_names(snapshot: ArchitectureSnapshot) -> tuple[bytes, bytes]:
    """The raw digests behind `snapshot.digest` and `content_name(snapshot)`."""
    whole, content = _pieces(snapshot)
    return hashlib.sha256(whole).digest(), hashlib.sha256(content).digest()


def _pieces(snapshot: ArchitectureSnapshot) -> tuple[bytes, bytes]:
    """Canonical JSON of the snapshot and of its content; keys stand in the order that RFC 8785 sorts them into."""
    blobs_config = _canonical({"blobs": snapshot.blobs, "config": snapshot.config})[:-1]
    created_at = _canonical({"created_at": snapshot.created_at})[1:-1]
    metrics = _canonical({"metrics": snapshot.metrics})[1:-1]
    parent = _canonical({"parent": snapshot.parent})[1:-1]
    provenance = _canonical({"provenance": snapshot.provenance})[1:-1]
    revision = b'"revision":%d' % snapshot.revision
    rest = _canonical(
        {"semantic_hash": snapshot.semantic_hash, "tags": snapshot.tags, "version": snapshot.version}
    )[1:]
    whole = b",".join((blobs_config, created_at, metrics, parent, provenance, revision, rest))
    return whole, b",".join((blobs_config, metrics, provenance, rest))


def _canonical(value: dict[str, Any]) -> bytes:
    try:
        text = _ENCODE(value)
    except (TypeError, ValueError):  # what JSON cannot say: let the canonical writer convert it or name it
        return canonical_json(value)
    if text.isascii() and not _UNLIKE.search(text):
        return text.encode("ascii")
    return canonical_json(value)
