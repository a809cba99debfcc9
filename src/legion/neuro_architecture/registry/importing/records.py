"""This project's registry of format 1: `records/<sequence>-<12 hex>.json`, chained by digest, and blobs by digest.

The chain is checked before anything is taken: where one record is missing, altered, renamed or out of its place,
nothing is imported. Its evidence was measured by us and stays as it is.
"""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import Any, Final, Literal

from pydantic import Field

from legion.foundation.canonical import canonical_json, digest_bytes, is_digest, parse_canonical, short
from legion.foundation.errors import IntegrityError, InvalidValueError, LegionError, WorldError
from legion.neuro_architecture.registry.admission import admit_file_name
from legion.neuro_architecture.registry.blob_backends.reader import hash_stream
from legion.neuro_architecture.registry.importing.draft import Collector, ImportReport
from legion.neuro_architecture.registry.regular import open_regular
from legion.neuro_architecture.spec._value import Value
from legion.neuro_architecture.spec.snapshot import ArchitectureSnapshot

__all__ = ["read_records"]

_NAME: Final = re.compile(r"(\d{8})-([0-9a-f]{12})\.json")
_MAX_RECORD_BYTES: Final = 8 << 20


class _Head(Value):
    """The last record that was acknowledged."""

    sequence: int = Field(ge=1)
    digest: str


class _Record(Value):
    """One snapshot of the chain; `previous` is the digest of the file before."""

    format: Literal[1] = 1
    kind: Literal["snapshot"] = "snapshot"
    sequence: int = Field(ge=1)
    previous: str | None
    digest: str
    snapshot: ArchitectureSnapshot


def read_records(root: Path) -> ImportReport:
    """Drafts of all snapshots of a registry of format 1, oldest first, with their files.

    Raises:
        InvalidValueError: there is no such registry.
        IntegrityError: the chain is broken; says at which record.
        WorldError: the disk refused.
    """
    folder = root / "records"
    if not folder.is_dir():
        raise InvalidValueError(f"{root} is no registry of format 1", cause=f"there is no {folder}")
    collector = Collector(str(root))
    previous: str | None = None
    digests: list[str] = []
    records: list[_Record] = []
    for name in sorted(os.listdir(folder)):  # noqa: PTH208 - names, not paths
        if not _NAME.fullmatch(name):
            collector.skip(f"records/{name}", "no record has such a name")
            continue
        record, digest = _read(folder / name)
        if (record.sequence, record.previous) != (len(records) + 1, previous):
            raise IntegrityError(
                f"the chain breaks at record {folder / name}",
                cause=f"it is number {record.sequence} after {record.previous}; "
                f"expected is number {len(records) + 1} after {previous}",
            )
        previous = digest
        digests.append(digest)
        records.append(record)
    _check_head(root / "head.json", digests)
    for record in records:
        _take(root, record, collector)
    return collector.report()


def _read(path: Path) -> tuple[_Record, str]:
    content = _bytes(path)
    digest = digest_bytes(content)
    try:
        record = _Record.model_validate(parse_canonical(content))
        is_canonical = canonical_json(record.to_dict()) == content and record.snapshot.digest == record.digest
    except (ValueError, RecursionError, LegionError) as error:
        raise IntegrityError(f"record {path} was altered", cause=str(error).partition("\n")[0]) from error
    if not is_canonical or path.name != f"{record.sequence:08d}-{short(digest)}.json":
        raise IntegrityError(f"record {path} was altered or renamed", cause=f"its bytes are {digest}")
    return record, digest


def _bytes(path: Path) -> bytes:
    try:
        with open_regular(path) as (file, size):
            if size > _MAX_RECORD_BYTES:
                raise IntegrityError(f"{path} has {size} bytes; none was ever written with so many")
            return file.read()
    except FileNotFoundError as error:
        raise IntegrityError(f"{path} is missing") from error
    except OSError as error:
        raise WorldError(f"cannot read {path}", cause=str(error)) from error


def _check_head(path: Path, digests: list[str]) -> None:
    """The head lags by one record at most, where its writer was killed in between."""
    if not path.exists() and len(digests) <= 1:
        return
    content = _bytes(path)
    try:
        head = _Head.model_validate(parse_canonical(content))
    except ValueError as error:
        raise IntegrityError(f"{path} is damaged", cause=str(error).partition("\n")[0]) from error
    if not len(digests) - 1 <= head.sequence <= len(digests) or digests[head.sequence - 1] != head.digest:
        raise IntegrityError(
            f"the last records beside {path} are missing or others",
            cause=f"it remembers record {head.sequence} as {head.digest}, there are {len(digests)} records",
        )


def _take(root: Path, record: _Record, collector: Collector) -> None:
    snapshot = record.snapshot
    origin = f"record {record.sequence}"
    source: dict[str, Any] = {
        "kind": "records",
        "identity": record.digest,
        "sequence": record.sequence,
        "created_at": snapshot.created_at,
    }
    if "imported_from" in snapshot.provenance:
        source["before"] = snapshot.provenance["imported_from"]
    try:
        files = {admit_file_name(name): _blob(root, digest) for name, digest in sorted(snapshot.blobs.items())}
    except (LegionError, OSError) as error:
        collector.skip(origin, error if isinstance(error, LegionError) else str(error))
        return
    collector.add(
        origin,
        version=snapshot.version,
        config=snapshot.config,
        metrics=snapshot.metrics,
        provenance={**snapshot.provenance, "imported_from": source},
        tags=snapshot.tags,
        files=files,
    )


def _blob(root: Path, digest: str) -> Path:
    if not is_digest(digest):
        raise IntegrityError(f"{digest[:80]!r} is no digest of a blob")
    name = digest.removeprefix("sha256:")
    path = root / "blobs" / "sha256" / name[:2] / name
    try:
        with open_regular(path) as (file, _):
            actual = hash_stream(file)
    except FileNotFoundError as error:
        raise IntegrityError(f"blob {path} is missing") from error
    if actual != name:
        raise IntegrityError(f"blob {path} was altered", cause=f"its bytes are sha256:{actual}")
    return path
