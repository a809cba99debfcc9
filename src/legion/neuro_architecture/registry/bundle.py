"""One snapshot in one file that a third party verifies offline: entry, proof, signed checkpoint, key, statement, files.

```
README.txt            how to verify it with tar, python3 and openssl alone; the same bytes in every bundle
key.pub               the log's verifier key
checkpoint            the signed note over size and root of the log's tree
proof.json            canonical JSON of the inclusion proof
entry.json            the leaf: the very bytes of the log's entry
statement.json        DSSE envelope with the in-toto statement; may be left out
blobs/sha256/<64>     the snapshot's files, each once, in the order of names
```

The archive has one form (see `archive`), so every byte is under a hash, under a signature, or determined by the rest.
The signatures hold for the key in the file; whether that is the registry's key nobody can see from the file, so a
verdict without a trusted key says that nobody vouched for it.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import stat
import tempfile
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import BinaryIO, Final, final

from legion.foundation.canonical import canonical_json
from legion.foundation.errors import IntegrityError, InvalidValueError, WorldError
from legion.foundation.files import fsync_folder
from legion.neuro_architecture.registry import archive
from legion.neuro_architecture.registry.archive import CHUNK_BYTES, Flaw, FlawError, Member
from legion.neuro_architecture.registry.bundle_readme import README
from legion.neuro_architecture.registry.bundle_report import BundleContents, BundleReport, refuse_flawed
from legion.neuro_architecture.registry.bundle_rules import (
    BLOBS,
    CHECKPOINT_NAME,
    ENTRY_NAME,
    KEY_NAME,
    PROOF_NAME,
    README_NAME,
    STATEMENT_NAME,
    Judged,
    judge_contents,
    judge_members,
    judge_sizes,
)
from legion.neuro_architecture.registry.failpoints import failpoint

__all__ = [
    "Bundle",
    "BundleContents",
    "BundleReport",
    "open_bundle",
    "read_bundle",
    "verify_bundle",
    "write_bundle",
]

_PREFIX: Final = "sha256:"

OpenBlob = Callable[[str], BinaryIO]


def write_bundle(path: Path, contents: BundleContents, open_blob: OpenBlob) -> Path:
    """Writes the bundle, whole or not at all; the same contents give the same bytes.

    Args:
        path: Where to; a file there is replaced.
        contents: Everything but the files.
        open_blob: Opens the file with a digest for reading, from its start.

    Raises:
        IntegrityError: the contents do not prove each other, or a file is not what its digest says.
        WorldError: the disk refused.
    """
    small = _small_members(contents)
    judged = judge_contents({name: (0, content) for name, content in small}, (contents.vkey,))
    refuse_flawed("these contents make no bundle", [*judge_sizes(dict(small)), *judged.flaws])
    try:
        with _replacing(path) as file:
            for name, content in small:
                file.write(archive.header_of(name, len(content)))
                file.write(content + archive.padding_of(len(content)))
            for digest in judged.blobs:
                with open_blob(digest) as source:
                    _append_blob(file, digest, source)
            file.write(archive.end_of_archive())
    except OSError as error:
        raise WorldError(f"cannot write {path}", cause=str(error)) from error
    return path


def _small_members(contents: BundleContents) -> list[tuple[str, bytes]]:
    members = [
        (README_NAME, README),
        (KEY_NAME, contents.vkey.encode() + b"\n"),
        (CHECKPOINT_NAME, contents.checkpoint),
        (PROOF_NAME, canonical_json(contents.proof.to_dict())),
        (ENTRY_NAME, contents.entry),
    ]
    return members if contents.statement is None else [*members, (STATEMENT_NAME, contents.statement)]


def _append_blob(file: BinaryIO, digest: str, source: BinaryIO) -> None:
    """The blob behind a header that is written once its size is known."""
    name = BLOBS + digest.removeprefix(_PREFIX)
    begin = file.tell()
    file.seek(archive.BLOCK_BYTES, os.SEEK_CUR)
    found, size = _copy(source, file, None)
    if found != digest:
        raise IntegrityError(f"file {digest} is not what its digest says", cause=f"its bytes are {found}")
    if size > archive.MAX_MEMBER_BYTES:
        raise IntegrityError(f"file {digest} has {size} bytes", cause=f"a bundle's has at most {8**11 - 1}")
    file.write(archive.padding_of(size))
    stop = file.tell()
    file.seek(begin)
    file.write(archive.header_of(name, size))
    file.seek(stop)


def _copy(source: BinaryIO, target: BinaryIO | None, size: int | None) -> tuple[str, int]:
    """Digest and length of what is read, to the end or of `size` bytes at most, and written to `target`."""
    state, count = hashlib.sha256(), 0
    while chunk := source.read(CHUNK_BYTES if size is None else min(CHUNK_BYTES, size - count)):
        state.update(chunk)
        count += len(chunk)
        if target is not None:
            target.write(chunk)
    return _PREFIX + state.hexdigest(), count


@contextlib.contextmanager
def _replacing(path: Path) -> Iterator[BinaryIO]:
    path.parent.mkdir(parents=True, exist_ok=True)
    descriptor, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.", suffix=".tmp")
    try:
        with os.fdopen(descriptor, "w+b") as file:
            os.fchmod(file.fileno(), 0o644)
            failpoint("export.before-write")
            yield file
            file.flush()
            failpoint("export.before-sync")
            os.fsync(file.fileno())
        failpoint("export.before-rename")
        Path(name).replace(path)
    except BaseException:
        Path(name).unlink(missing_ok=True)
        raise
    failpoint("export.after-rename")
    fsync_folder(path.parent)


@final
class Bundle:
    """An open bundle. What is small is read once, at opening; files are read on demand, each under its digest.

    Use `open_bundle`. `verify` judges the very bytes that `contents` gives, so nothing changes in between.

    Args:
        path: Where it is, for messages.
        file: It, open for reading.
        length: Its bytes.
    """

    def __init__(self, path: Path, file: BinaryIO, length: int) -> None:
        self.path = path
        self._file = file
        self._length = length
        self._members: dict[str, Member] = {}
        self._small: dict[str, tuple[int, bytes]] = {}
        self._flaws: list[Flaw] = []
        self._is_whole = True
        self._read()

    def _read(self) -> None:
        rules = judge_members()
        next(rules)
        try:
            for member in archive.read_members(self._file, self._length):
                flaw = rules.send(member)
                if flaw is not None:
                    self._flaws.append(flaw)
                    continue
                self._members[member.name] = member
                if not member.name.startswith(BLOBS):
                    self._file.seek(member.start)
                    self._small[member.name] = (member.start, self._file.read(member.size))
        except FlawError as error:
            self._flaws.append(error.flaw)
            self._is_whole = False

    def contents(self) -> BundleContents:
        """Everything but the files, unverified.

        Raises:
            IntegrityError: the archive is damaged, or a part is missing or unreadable.
        """
        judged = judge_contents(self._small, (), is_whole=self._is_whole)
        refuse_flawed(f"{self.path} is no sound bundle", [*self._flaws, *judged.flaws])
        return judged.contents(self._small)

    def verify(self, trusted: Iterable[str] = ()) -> BundleReport:
        """Reads every byte and says what is not as it was written; raises nothing for it.

        Args:
            trusted: Verifier keys of registries that the caller vouches for; without any, the key in the file is used
                and the verdict says so.

        Raises:
            InvalidValueError: one of `trusted` is no verifier key.
        """
        keys = tuple(trusted)
        judged = judge_contents(self._small, keys, is_whole=self._is_whole)
        flaws = [*self._flaws, *judged.flaws, *self._check_blobs(judged)]
        blobs = [member for name, member in self._members.items() if name.startswith(BLOBS)]
        return BundleReport(
            path=str(self.path),
            size_bytes=self._length,
            flaws=tuple(sorted(set(flaws), key=lambda flaw: (flaw.offset, flaw.member, flaw.kind))),
            snapshot=judged.snapshot,
            entry_number=judged.number,
            log_size=judged.size,
            origin=judged.origin,
            vkey=judged.vkey,
            is_vouched=bool(keys),
            has_statement=STATEMENT_NAME in self._small,
            num_blobs=len(blobs),
            blob_bytes=sum(member.size for member in blobs),
        )

    def _check_blobs(self, judged: Judged) -> Iterator[Flaw]:
        for name, member in self._members.items():
            if name.startswith(BLOBS):
                found = self._digest(member)
                if found != _PREFIX + name.removeprefix(BLOBS):
                    yield Flaw(member=name, offset=member.start, kind="altered", detail=f"its bytes are {found}")
        if judged.snapshot is None:
            return
        here = {_PREFIX + name.removeprefix(BLOBS) for name in self._members if name.startswith(BLOBS)}
        for digest in sorted(set(judged.blobs) - here) if self._is_whole else ():
            name = BLOBS + digest.removeprefix(_PREFIX)
            yield Flaw(member=name, offset=self._length, kind="missing", detail="the snapshot refers to it")
        for digest in sorted(here - set(judged.blobs)):
            name = BLOBS + digest.removeprefix(_PREFIX)
            start = self._members[name].start
            yield Flaw(member=name, offset=start, kind="unexpected", detail="the snapshot does not refer to it")

    def _digest(self, member: Member) -> str:
        self._file.seek(member.start)
        return _copy(self._file, None, member.size)[0]

    def copy_blob(self, digest: str, target: BinaryIO) -> int:
        """Writes the file with this digest, checking the bytes that are written; how many they were.

        Raises:
            IntegrityError: the bundle has no such file, or it is altered; then `target` holds something else.
        """
        member = self._members.get(BLOBS + digest.removeprefix(_PREFIX))
        if member is None:
            raise IntegrityError(f"{self.path} holds no file {digest}")
        self._file.seek(member.start)
        found, size = _copy(self._file, target, member.size)
        if found != digest:
            raise IntegrityError(f"file {digest} in {self.path} was altered", cause=f"its bytes are {found}")
        return size


@contextlib.contextmanager
def open_bundle(path: Path) -> Iterator[Bundle]:
    """The bundle at `path`, open for as long as it is used.

    Raises:
        InvalidValueError: there is no regular file.
    """
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK)
    except OSError as error:
        raise InvalidValueError(f"cannot read bundle {path}", cause=str(error)) from error
    status = os.fstat(descriptor)
    if not stat.S_ISREG(status.st_mode):
        os.close(descriptor)
        raise InvalidValueError(f"{path} is no regular file", hint="folders, pipes and devices are refused")
    with os.fdopen(descriptor, "rb", buffering=0) as file:  # unbuffered: what is copied is what is there then
        yield Bundle(path, file, status.st_size)


def verify_bundle(path: Path, trusted: Iterable[str] = ()) -> BundleReport:
    """As `Bundle.verify` of the file at `path`.

    Raises:
        InvalidValueError: there is no regular file, or one of `trusted` is no verifier key.
    """
    with open_bundle(path) as bundle:
        return bundle.verify(trusted)


def read_bundle(path: Path, trusted: Iterable[str] = ()) -> BundleContents:
    """Everything but the files, of a bundle whose every byte holds.

    Raises:
        IntegrityError: anything in it is not as it was written; names each.
        InvalidValueError: there is no regular file, or one of `trusted` is no verifier key.
    """
    with open_bundle(path) as bundle:
        refuse_flawed(f"{path} is no sound bundle", bundle.verify(trusted).flaws)
        return bundle.contents()
