"""The append-only log under `records/`: one file a record, each carrying the digest of the one before.

```
records/00000007-4be1c0a9d2f3.json     name: sequence, then 12 hex digits of the file's own digest
{"format": 1, "kind": "snapshot", "previous": "sha256:..." of record 6, "sequence": 7, "digest": ..., "snapshot": ...}
head.json                              the last acknowledged sequence and its digest
```

A record is canonical JSON, so every byte of it is under the digest in its name and in the next record. `head.json`
is the only file that is rewritten; it lags by one record at most (a writer killed in between), and the next writer
moves it on before anything else.
"""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import Final, Literal, final

from pydantic import Field

from legion.foundation.canonical import canonical_json, digest_bytes, parse_canonical, short
from legion.foundation.errors import IntegrityError, InvalidValueError, LegionError, WorldError
from legion.foundation.files import read_json
from legion.neuro_architecture.registry.staging import StagingFolder
from legion.neuro_architecture.spec._value import Value
from legion.neuro_architecture.spec.snapshot import ArchitectureSnapshot

__all__ = ["Head", "Record", "RecordLog", "parse_name", "record_name"]

_NAME: Final = re.compile(r"(\d{8})-([0-9a-f]{12})\.json")


class Head(Value):
    """The last acknowledged record."""

    sequence: int = Field(ge=1)
    digest: str


class Record(Value):
    """One entry of the log; only snapshots so far.

    Attributes:
        format: Version of this layout.
        kind: What the record holds.
        sequence: 1, 2, ... without gaps.
        previous: Digest of the file of the record before, or None for the first.
        digest: Digest of the snapshot.
        snapshot: The snapshot.
    """

    format: Literal[1] = 1
    kind: Literal["snapshot"] = "snapshot"
    sequence: int = Field(ge=1)
    previous: str | None
    digest: str
    snapshot: ArchitectureSnapshot

    def content(self) -> bytes:
        """The bytes of the record's file."""
        return canonical_json(self.to_dict())


def record_name(sequence: int, digest: str) -> str:
    """The file name of a record whose file has this digest."""
    return f"{sequence:08d}-{short(digest)}.json"


def parse_name(name: str) -> tuple[int, str] | None:
    """Sequence and 12 hex digits in a record's file name, or None where it is no such name."""
    match = _NAME.fullmatch(name)
    return (int(match[1]), match[2]) if match else None


@final
class RecordLog:
    """Appends and reads records. One writer at a time, under the registry's lock; readers need none.

    Args:
        root: The registry's folder.
        staging: Where a record is complete before it gets its name.
    """

    def __init__(self, root: Path, staging: StagingFolder) -> None:
        self.folder = root / "records"
        self.head_path = root / "head.json"
        self._staging = staging

    def names(self) -> list[str]:
        """Names of all records, in order."""
        try:
            return sorted(filter(_NAME.fullmatch, os.listdir(self.folder)))  # noqa: PTH208 - a third of the time
        except FileNotFoundError:
            return []

    def head(self) -> Head | None:
        """The last acknowledged record, or None before the first.

        Raises:
            IntegrityError: `head.json` is damaged.
        """
        if not self.head_path.is_file():
            return None
        try:
            return Head.parse(read_json(self.head_path), what=str(self.head_path))
        except LegionError as error:
            raise IntegrityError(f"{self.head_path} is damaged", cause=error.cause or error.message) from error

    def read(self, name: str) -> tuple[Record, str]:
        """The record in this file, and the digest of the file.

        Raises:
            IntegrityError: it is missing, altered or renamed.
        """
        path = self.folder / name
        content = self.read_bytes(name)
        digest = digest_bytes(content)
        record = self.parse(content, path)
        if record_name(record.sequence, digest) != name:
            raise IntegrityError(
                f"record {path} was altered or renamed",
                cause=f"its bytes belong to {record_name(record.sequence, digest)}",
                hint="legion registry verify",
            )
        return record, digest

    def read_bytes(self, name: str) -> bytes:
        """The bytes of a record's file.

        Raises:
            IntegrityError: it is missing.
            WorldError: the disk refused.
        """
        path = self.folder / name
        try:
            return path.read_bytes()
        except FileNotFoundError as error:
            raise IntegrityError(f"record {path} is missing", hint="legion registry verify") from error
        except OSError as error:
            raise WorldError(f"cannot read record {path}", cause=str(error)) from error

    @staticmethod
    def parse(content: bytes, path: Path) -> Record:
        """The record in these bytes, whose snapshot is the one that it names.

        Raises:
            IntegrityError: it is no record.
        """
        try:
            record = Record.model_validate(parse_canonical(content))
        except (ValueError, RecursionError) as error:  # pydantic's ValidationError is a ValueError
            raise _altered(path, str(error).splitlines()[0]) from error
        try:
            digest = record.snapshot.digest
        except InvalidValueError as error:
            raise _altered(path, error.message) from error
        if digest != record.digest:
            raise _altered(path, f"its snapshot is {digest}, it says {record.digest}")
        return record

    def append(self, snapshot: ArchitectureSnapshot, *, sequence: int, previous: str | None) -> tuple[str, str]:
        """Writes the next record, then the head; returns the file's name and digest once both are durable.

        Raises:
            IntegrityError: another record has the name.
            WorldError: the disk refused.
        """
        record = Record(sequence=sequence, previous=previous, digest=snapshot.digest, snapshot=snapshot)
        content = record.content()
        digest = digest_bytes(content)
        name = record_name(sequence, digest)
        with self._staging.file() as (scratch, file):
            file.write(content)
            file.flush()
            self._staging.publish(scratch, self.folder / name)
        self.move_head(Head(sequence=sequence, digest=digest))
        return name, digest

    def move_head(self, head: Head) -> None:
        """Remembers the last acknowledged record."""
        with self._staging.file() as (scratch, file):
            file.write(canonical_json(head.to_dict()) + b"\n")
            file.flush()
            self._staging.publish(scratch, self.head_path, is_replacing=True)


def _altered(path: Path, cause: str) -> IntegrityError:
    return IntegrityError(f"record {path} was altered", cause=cause, hint="legion registry verify")
