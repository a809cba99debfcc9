"""Reads a registry anew, byte by byte, and says what is not what was written, and where."""

from __future__ import annotations

import json
import re
from binascii import unhexlify
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from hashlib import sha256
from pathlib import Path
from typing import Any, Final, final

from legion.foundation.canonical import is_digest, short
from legion.foundation.errors import IntegrityError, LegionError
from legion.foundation.progress import Progress
from legion.neuro_architecture.registry.blobs import BlobStore
from legion.neuro_architecture.registry.ledger import Ledger
from legion.neuro_architecture.registry.staging import StagingFolder
from legion.neuro_architecture.registry.translog import Damage

__all__ = ["Finding", "VerificationReport", "verify_registry"]

_DECODE: Final = json.JSONDecoder().decode
_NO_FILES: Final = b'{"blobs":{},'
_PARENT: Final = b'"parent":'
_REVISION: Final = b',"revision":'
_TAIL: Final = re.compile(rb',"revision":([0-9]+),"semantic_hash":"([0-9a-f]{16})"')
_SNAPSHOT: Final = b'"kind":"snapshot","snapshot":'
_NONE: Final = (0, None)


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """One thing that is not what was written.

    Attributes:
        path: The file, relative to the registry's folder.
        problem: What is wrong with it.
        detail: One sentence with the digests or numbers behind it.
        start: Offset of its first byte, or None where it is the file as a whole.
        stop: Offset after its last byte, or None.
        entry: Number of the first entry that it concerns, or None.
    """

    path: str
    problem: str
    detail: str
    start: int | None = None
    stop: int | None = None
    entry: int | None = None

    def __str__(self) -> str:
        place = "" if self.start is None else f" bytes {self.start} to {self.stop}"
        entry = "" if self.entry is None else f" entry {self.entry}"
        return f"{self.path}:{place}{entry}: {self.problem}: {self.detail}"

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON values."""
        return {name: getattr(self, name) for name in ("path", "problem", "detail", "start", "stop", "entry")}


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class VerificationReport:
    """What a full check read and found.

    Attributes:
        root: The registry's folder.
        num_entries: Entries of the log.
        num_blobs: Blobs read.
        findings: Everything that is not what was written.
        leftovers: What means nothing and harms nothing: scratch files of a killed writer, blobs whose entry it did not
            come to write, an index that lags.
    """

    root: str
    num_entries: int
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
        return {
            "root": self.root,
            "is_clean": self.is_clean,
            "num_entries": self.num_entries,
            "num_blobs": self.num_blobs,
            "findings": [finding.to_dict() for finding in self.findings],
            "leftovers": list(self.leftovers),
        }


def verify_registry(
    root: Path, ledger: Ledger, blobs: BlobStore, staging: StagingFolder, progress: Progress
) -> VerificationReport:
    """Checks every byte of the log, that its entries make sense in their order, and the bytes of all blobs.

    Where the log itself is damaged, what follows from it is not looked at.
    """
    story = _Story()
    findings = [_finding(damage) for damage in ledger.log.check(progress, story.hear)]
    leftovers = [str(path.relative_to(root)) for path in staging.leftovers()]
    if findings:
        return VerificationReport(
            root=str(root),
            num_entries=ledger.log.size,
            num_blobs=0,
            findings=tuple(findings),
            leftovers=tuple(leftovers),
        )
    size = ledger.log.refresh()
    if size > story.number:
        story.hear(list(ledger.log.read_range(story.number, size)))
    findings += story.findings
    num_blobs, unreferenced, wrong = _check_blobs(root, blobs, story)
    position, _ = ledger.index.position() if size else (0, "")
    if position != size:
        leftovers.append(f"the index holds {position} of {size} entries and is brought up when it is next read")
    return VerificationReport(
        root=str(root),
        num_entries=size,
        num_blobs=num_blobs,
        findings=tuple(findings + wrong),
        leftovers=tuple(leftovers + unreferenced),
    )


def _finding(damage: Damage) -> Finding:
    return Finding(
        path=damage.path,
        problem=damage.problem,
        detail=damage.detail,
        start=damage.start,
        stop=damage.stop,
        entry=damage.entry,
    )


@final
@dataclass(slots=True)
class _Story:
    """What the entries say one after another: each must be possible after those before it."""

    latest: dict[bytes, tuple[int, bytes | None]] = field(default_factory=dict)
    digests: set[bytes] = field(default_factory=set)
    aliases: dict[str, str | None] = field(default_factory=dict)
    blobs: dict[str, str] = field(default_factory=dict)
    deleted: set[str] = field(default_factory=set)
    number: int = 0
    findings: list[Finding] = field(default_factory=list)

    def hear(self, entries: Sequence[bytes]) -> None:
        """The next entries. Whether the log's key signed them is known at the end only, so they may hold anything."""
        for content in entries:
            try:
                start = content.find(_SNAPSHOT)
                mistake = self._move(content) if start < 0 else self._snapshot(content[start + len(_SNAPSHOT) : -1])
            except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
                mistake = f"it is not an entry that this version writes: {type(error).__name__}: {error}"
            if mistake is not None:
                finding = Finding(path="segments", problem="chain broken", detail=mistake, entry=self.number)
                self.findings.append(finding)
            self.number += 1

    def _snapshot(self, raw: bytes) -> str | None:
        """A revision must follow the one before. The snapshot stands last in its entry, in canonical form."""
        name, revision, parent = _kinship(raw) or self._parsed(raw)
        digest = sha256(raw).digest()
        before, expected = self.latest.get(name, _NONE)
        self.latest[name] = (revision, digest)
        self.digests.add(digest)
        if revision == before + 1 and parent == expected:
            return None
        return f"it is revision {revision} of {name.decode()}, after revision {before}"

    def _parsed(self, raw: bytes) -> tuple[bytes, int, bytes | None]:
        """`_kinship` of any snapshot, whose files are noted."""
        snapshot = _DECODE(raw.decode())
        for file, blob in snapshot["blobs"].items():
            self.blobs.setdefault(blob, f"{file} of snapshot {sha256(raw).hexdigest()[:12]}")
            self.deleted.discard(blob)
        named = snapshot["parent"]
        parent = None if named is None else bytes.fromhex(named.removeprefix("sha256:"))
        return snapshot["semantic_hash"].encode(), snapshot["revision"], parent

    def _move(self, content: bytes) -> str | None:
        entry = json.loads(content)
        if entry["kind"] == "deletion":
            self.deleted.add(entry["blob"])
            return None
        digest = entry["snapshot"]
        if digest is not None and bytes.fromhex(digest.removeprefix("sha256:")) not in self.digests:
            return f"it speaks of {digest}, which was not registered before it"
        if entry["kind"] == "alias":
            before = self.aliases.get(entry["alias"])
            self.aliases[entry["alias"]] = digest
            if entry["previous"] != before:
                return f"alias {entry['alias']!r} named {before}, it says {entry['previous']}"
        return None


def _kinship(raw: bytes) -> tuple[bytes, int, bytes | None] | None:
    """Semantic hash, revision and parent of a snapshot in canonical JSON, or None where the whole must be parsed.

    A million of them are read where they stand: no string holds a bare quote, and after `revision` no object comes, so
    its last place is its own. Where files are named, or a word stands twice, the whole is parsed.
    """
    parts = raw.split(_PARENT)
    rest = parts[-1]
    tail = _TAIL.match(rest, rest.rfind(_REVISION))
    if tail is None or len(parts) != 2 or raw[: len(_NO_FILES)] != _NO_FILES:
        return None
    revision, name = tail.groups()
    if rest[:5] == b"null,":
        return name, int(revision), None
    if rest[:8] != b'"sha256:' or rest[72:73] != b'"':
        return None
    return name, int(revision), unhexlify(rest[8:72])


def _check_blobs(root: Path, blobs: BlobStore, story: _Story) -> tuple[int, list[str], list[Finding]]:
    findings: list[Finding] = []
    unreferenced: list[str] = []
    found: set[str] = set()
    for place, digest in _places(root, blobs):
        if digest is None:
            findings.append(Finding(path=place, problem="unexpected", detail="no blob has such a name"))
            continue
        found.add(digest)
        owner = story.blobs.get(digest)
        try:
            blobs.verify(owner or "no snapshot", digest)
        except IntegrityError as error:
            detail = f"{error.cause or error.message}; it is {owner or 'part of no snapshot'}"
            findings.append(Finding(path=place, problem="altered", detail=detail))
            continue
        except LegionError as error:
            findings.append(Finding(path=place, problem="unreadable", detail=error.cause or error.message))
            continue
        if owner is None:
            unreferenced.append(place)
    findings += [
        Finding(path=f"blobs/{short(digest)}", problem="missing", detail=f"it is {story.blobs[digest]}")
        for digest in sorted(set(story.blobs) - found - story.deleted)
    ]
    return len(found), unreferenced, findings


def _places(root: Path, blobs: BlobStore) -> Iterator[tuple[str, str | None]]:
    """Where each blob lies and its digest, or None where what lies there is no blob."""
    if not blobs.is_local:
        yield from ((f"{blobs.address}/{digest}", digest) for digest, _ in blobs.digests())
        return
    for path in blobs.files():
        digest = f"sha256:{path.name}"
        is_blob = is_digest(digest) and path == blobs.path(digest) and not path.is_symlink()
        place = path.relative_to(root) if path.is_relative_to(root) else path
        yield str(place), digest if is_blob else None
