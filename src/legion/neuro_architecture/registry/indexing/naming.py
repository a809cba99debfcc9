"""A snapshot as canonical JSON and its two content names, fast: an index is rebuilt from a million of them.

RFC 8785 and Python's own encoder write the same bytes wherever the text is ASCII and no float is whole or in exponent
form. Records that come from a log are mostly so; for all others `canonical_json` does it. An integer beyond 2**53,
which no log holds, gets the name of its digits here.
"""

from __future__ import annotations

import hashlib
import json
import re
import secrets
from typing import Any, Final

from legion.foundation.canonical import canonical_json, digest_bytes
from legion.neuro_architecture.spec.snapshot import ArchitectureSnapshot

__all__ = ["content_name", "snapshot_json", "snapshot_names"]

_ENCODE: Final = json.JSONEncoder(ensure_ascii=False, sort_keys=True, separators=(",", ":"), allow_nan=False).encode
# A text that nobody can foresee stands between the parts.
_BETWEEN: Final = secrets.token_hex(16)
_SPLIT: Final = b',"%b",' % _BETWEEN.encode()
_EXPONENT: Final = re.compile(r"[0-9]e[-+][0-9]")


def content_name(snapshot: ArchitectureSnapshot) -> str:
    """Digest of what the caller gave: everything but revision, parent and time."""
    return digest_bytes(_pieces(snapshot)[1])


def snapshot_json(snapshot: ArchitectureSnapshot) -> bytes:
    """Canonical JSON of a snapshot, whose digest names it."""
    return _pieces(snapshot)[0]


def snapshot_names(snapshot: ArchitectureSnapshot) -> tuple[bytes, bytes]:
    """The raw digests behind `snapshot.digest` and `content_name(snapshot)`."""
    whole, content = _pieces(snapshot)
    return hashlib.sha256(whole).digest(), hashlib.sha256(content).digest()


def _pieces(snapshot: ArchitectureSnapshot) -> tuple[bytes, bytes]:
    """Canonical JSON of the snapshot and of its content; keys stand in the order that RFC 8785 sorts them into."""
    blobs_config, created_at, metrics, parent, provenance, rest = _canonical(
        {"blobs": snapshot.blobs, "config": snapshot.config},
        {"created_at": snapshot.created_at},
        {"metrics": snapshot.metrics},
        {"parent": snapshot.parent},
        {"provenance": snapshot.provenance},
        {"semantic_hash": snapshot.semantic_hash, "tags": snapshot.tags, "version": snapshot.version},
    )
    whole = (blobs_config, created_at, metrics, parent, provenance, b'"revision":%d' % snapshot.revision, rest)
    content = (blobs_config, metrics, provenance, rest)
    return b"{" + b",".join(whole) + b"}", b"{" + b",".join(content) + b"}"


def _canonical(*parts: dict[str, Any]) -> list[bytes]:
    """Canonical JSON of each part without its outer braces, by one run of the encoder where that is enough."""
    listed: list[Any] = [_BETWEEN] * (2 * len(parts) - 1)
    listed[::2] = parts
    try:
        text = _ENCODE(listed)
    except (TypeError, ValueError):  # what JSON cannot say: the canonical writer converts it or names it
        text = "\x80"
    if text.isascii() and not _has_other_numbers(text):
        return [piece[1:-1] for piece in text[1:-1].encode("ascii").split(_SPLIT)]
    return [canonical_json(part)[1:-1] for part in parts]


def _has_other_numbers(text: str) -> bool:
    """Whether a float in it may be spelled otherwise by RFC 8785; plain tests first, for they cost a tenth."""
    if ".0," in text or ".0}" in text or ".0]" in text:
        return True
    return ("e-" in text or "e+" in text) and _EXPONENT.search(text) is not None
