"""Reads a registry anew, byte by byte, and says what is not what was written, and in which file."""

from __future__ import annotations

import re
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Literal, final

from legion.foundation.canonical import digest_bytes, digest_file, short
from legion.foundation.errors import IntegrityError, WorldError
from legion.neuro_architecture.registry.blobs import BlobStore
from legion.neuro_architecture.registry.log import Head, Record, RecordLog, parse_name
from legion.neuro_architecture.registry.staging import StagingFolder

__all__ = ["Finding", "Problem", "VerificationReport", "verify_registry"]

Problem = Literal["altered", "missing", "renamed", "reordered", "duplicate", "chain broken", "unexpected", "unreadable"]
_BLOB_NAME: Final = re.compile(r"[0-9a-f]{64}")


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """One thing that is not what was written.

    Attributes:
        path: The file, relative to the registry's folder.
        problem: What is wrong with it.
        detail: One sentence with the digests or numbers behind it.
    """

    path: str
    problem: Problem
    detail: str

    def __str__(self) -> str:
        return f"{self.path}: {self.problem}: {self.detail}"


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class VerificationReport:
    """What a full check read and found.

    Attributes:
        root: The registry's folder.
        num_records: Records read.
        num_blobs: Blobs read.
        findings: Everything that is not what was written.
        leftovers: Files that mean nothing and harm nothing: scratch files of a killed writer, and blobs whose record
            it did not come to write.
    """

    root: str
    num_records: int
    num_blobs: int
    findings: tuple[Finding, ...]
    leftovers: tuple[str, ...] = ()

    @property
    def is_clean(self) -> bool:
        return not self.findings

    @property
    def problems(self) -> list[str]:
        """A line for each finding."""
        return [str(finding) for finding in self.findings]

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON values."""
        findings = [{"path": item.path, "problem": item.problem, "detail": item.detail} for item in self.findings]
        return {
            "root": self.root,
            "is_clean": self.is_clean,
            "num_records": self.num_records,
            "num_blobs": self.num_blobs,
            "findings": findings,
            "leftovers": list(self.leftovers),
        }


@dataclass(frozen=True, slots=True, kw_only=True)
class _Read:
    """A record's file as it was found: its place by name, its digest by content, and the record where it is one."""

    name: str
    sequence: int
    digest: str
    record: Record | None
    mistake: str | None


def verify_registry(log: RecordLog, blobs: BlobStore, staging: StagingFolder) -> VerificationReport:
    """Checks the names, bytes, chain and revisions of all records, the head, and the bytes of all blobs."""
    findings: list[Finding] = []
    root = log.folder.parent
    head = _read_head(log, findings)
    reads = [_read_record(log, name) for name in log.names()]
    findings += _check_names(log, reads, head)
    findings += _check_sequence(log, reads, head)
    findings += _check_chain(reads)
    findings += _check_revisions(reads)
    referenced = {
        digest: f"{name} of record {read.name}"
        for read in reads
        if read.record
        for name, digest in read.record.snapshot.blobs.items()
    }
    num_blobs, unreferenced, wrong = _check_blobs(root, blobs, referenced)
    leftovers = [*staging.leftovers(), *unreferenced]
    return VerificationReport(
        root=str(root),
        num_records=len(reads),
        num_blobs=num_blobs,
        findings=tuple(findings + wrong),
        leftovers=tuple(str(path.relative_to(root)) for path in leftovers),
    )


def _read_head(log: RecordLog, findings: list[Finding]) -> Head | None:
    try:
        return log.head()
    except IntegrityError as error:
        findings.append(Finding(path=log.head_path.name, problem="altered", detail=error.cause or error.message))
        return None


def _read_record(log: RecordLog, name: str) -> _Read:
    place = parse_name(name)
    sequence = place[0] if place else 0
    try:
        content = log.read_bytes(name)
    except (IntegrityError, WorldError) as error:
        return _Read(name=name, sequence=sequence, digest="", record=None, mistake=error.cause or error.message)
    digest = digest_bytes(content)
    try:
        record = log.parse(content, log.folder / name)
    except IntegrityError as error:
        return _Read(name=name, sequence=sequence, digest=digest, record=None, mistake=error.cause or error.message)
    return _Read(name=name, sequence=sequence, digest=digest, record=record, mistake=None)


def _check_names(log: RecordLog, reads: list[_Read], head: Head | None) -> list[Finding]:
    """Each file's name against its bytes; a wrong name on bytes that the chain knows is a renaming."""
    known = {read.record.previous for read in reads if read.record} | ({head.digest} if head else set())
    findings = [finding for read in reads if (finding := _check_name(read, known))]
    if log.folder.is_dir():
        strangers = sorted(path.name for path in log.folder.iterdir() if not parse_name(path.name))
        findings += [_record(name, "unexpected", "no record has such a name") for name in strangers]
    return findings


def _check_name(read: _Read, known: set[str | None]) -> Finding | None:
    place = parse_name(read.name)
    if read.record is None:
        return _record(read.name, "altered" if read.digest else "unreadable", read.mistake or "it is no record")
    if place and place[1] != short(read.digest):
        problem: Problem = "renamed" if read.digest in known else "altered"
        return _record(read.name, problem, f"its bytes are {read.digest}")
    if read.sequence != read.record.sequence:
        return _record(read.name, "reordered", f"it was written as number {read.record.sequence}")
    return None


def _check_sequence(log: RecordLog, reads: list[_Read], head: Head | None) -> list[Finding]:
    """No number twice, none left out, and none gone from the end that the head remembers."""
    counts = Counter(read.sequence for read in reads)
    last = max(counts, default=0)
    findings = [
        _record(read.name, "duplicate", f"there are {counts[read.sequence]} records number {read.sequence}")
        for read in reads
        if counts[read.sequence] > 1
    ]
    missing = sorted(set(range(1, max(last, head.sequence if head else 0) + 1)) - set(counts))
    findings += [
        _record(f"{number:08d}-*.json", "missing", f"there is no record number {number}") for number in missing
    ]
    if head is None and last > 1 and not log.head_path.exists():
        findings.append(Finding(path=log.head_path.name, problem="missing", detail=f"there are {last} records"))
    if head is not None:
        findings += _check_head(log, reads, head, last)
    return findings


def _check_head(log: RecordLog, reads: list[_Read], head: Head, last: int) -> list[Finding]:
    path = log.head_path.name
    if head.sequence < last - 1:
        detail = f"it remembers {head.sequence} records, there are {last}; it lags by one at most"
        return [Finding(path=path, problem="altered", detail=detail)]
    remembered = [read for read in reads if read.sequence == head.sequence]
    if remembered and all(read.digest != head.digest for read in remembered):
        detail = f"it remembers record {head.sequence} as {head.digest}, there is {remembered[0].digest}"
        return [Finding(path=path, problem="chain broken", detail=detail)]
    return []


def _check_chain(reads: list[_Read]) -> list[Finding]:
    by_sequence = {read.sequence: read for read in reads}
    findings = []
    for read in reads:
        before = by_sequence.get(read.sequence - 1)
        if read.record is None or (before is None and read.sequence > 1):
            continue
        expected = before.digest if before else None
        if read.record.previous != expected:
            detail = f"it follows {read.record.previous}, before it stands {expected}"
            findings.append(_record(read.name, "chain broken", detail))
    return findings


def _check_revisions(reads: list[_Read]) -> list[Finding]:
    """Revisions of one architecture count 1, 2, ... and each names the one before, as long as no record is damaged."""
    latest: dict[str, tuple[int, str]] = {}
    findings: list[Finding] = []
    for read in reads:
        if read.record is None:
            return findings
        snapshot = read.record.snapshot
        revision, parent = latest.get(snapshot.semantic_hash, (0, None))
        if (snapshot.revision, snapshot.parent) != (revision + 1, parent):
            detail = f"it is revision {snapshot.revision} of {snapshot.semantic_hash}, after revision {revision}"
            findings.append(_record(read.name, "chain broken", detail))
        latest[snapshot.semantic_hash] = (snapshot.revision, read.record.digest)
    return findings


def _check_blobs(root: Path, blobs: BlobStore, referenced: dict[str, str]) -> tuple[int, list[Path], list[Finding]]:
    found: set[str] = set()
    unreferenced: list[Path] = []
    findings: list[Finding] = []
    for path in blobs.files():
        place = str(path.relative_to(root))
        digest = f"sha256:{path.name}"
        if not _BLOB_NAME.fullmatch(path.name) or path != blobs.path(digest) or path.is_symlink():
            findings.append(Finding(path=place, problem="unexpected", detail="no blob has such a name"))
            continue
        found.add(digest)
        owner = referenced.get(digest)
        if digest_file(path) != digest:
            detail = f"its bytes have another digest; it is {owner or 'part of no record'}"
            findings.append(Finding(path=place, problem="altered", detail=detail))
        elif owner is None:
            unreferenced.append(path)
    for digest in sorted(set(referenced) - found):
        place = str(blobs.path(digest).relative_to(root))
        findings.append(Finding(path=place, problem="missing", detail=f"it is {referenced[digest]}"))
    return len(found), unreferenced, findings


def _record(name: str, problem: Problem, detail: str) -> Finding:
    return Finding(path=f"records/{name}", problem=problem, detail=detail)
