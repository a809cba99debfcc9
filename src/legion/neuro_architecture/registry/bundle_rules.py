"""What may stand in a bundle, in which order, and how its parts prove each other."""

from __future__ import annotations

import re
from collections.abc import Generator, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Final, final

from legion.foundation.canonical import canonical_json, is_digest, parse_canonical
from legion.foundation.errors import IntegrityError, InvalidValueError
from legion.neuro_architecture.registry.archive import Flaw, FlawKind, Member
from legion.neuro_architecture.registry.bundle_readme import README
from legion.neuro_architecture.registry.bundle_report import BundleContents
from legion.neuro_architecture.registry.statement import MAX_ENVELOPE_BYTES, check_statement, verify_statement
from legion.neuro_architecture.registry.translog import (
    Checkpoint,
    InclusionProof,
    VerifierKey,
    hash_leaf,
    verify_inclusion,
)
from legion.neuro_architecture.spec.entries import SnapshotEntry, parse_entry
from legion.neuro_architecture.spec.snapshot import ArchitectureSnapshot

__all__ = [
    "BLOBS",
    "CHECKPOINT_NAME",
    "ENTRY_NAME",
    "KEY_NAME",
    "PROOF_NAME",
    "README_NAME",
    "STATEMENT_NAME",
    "Judged",
    "judge_contents",
    "judge_members",
    "judge_sizes",
]

README_NAME: Final = "README.txt"
KEY_NAME: Final = "key.pub"
CHECKPOINT_NAME: Final = "checkpoint"
PROOF_NAME: Final = "proof.json"
ENTRY_NAME: Final = "entry.json"
STATEMENT_NAME: Final = "statement.json"
BLOBS: Final = "blobs/sha256/"
MAX_BLOBS: Final = 10_000

# In the order in which they stand, with the most bytes that each may have.
_LIMITS: Final[dict[str, int]] = {
    README_NAME: len(README),
    KEY_NAME: 1 << 10,
    CHECKPOINT_NAME: 4 << 10,
    PROOF_NAME: 16 << 10,
    ENTRY_NAME: 2 << 20,
    STATEMENT_NAME: MAX_ENVELOPE_BYTES,
}
_NEEDED: Final = (README_NAME, KEY_NAME, CHECKPOINT_NAME, PROOF_NAME, ENTRY_NAME)
_ORDER: Final = {name: place for place, name in enumerate(_LIMITS)}
_BLOB: Final = re.compile(re.escape(BLOBS) + "[0-9a-f]{64}")

Small = Mapping[str, tuple[int, bytes]]


def judge_members() -> Generator[Flaw | None, Member, None]:
    """Takes the members of an archive one after another and gives for each what is wrong with it, or None.

    Nothing is known of a member's content here: names, order and sizes only.
    """
    seen: set[str] = set()
    latest = (-1, "")
    num_blobs = 0
    flaw: Flaw | None = None
    while True:
        member = yield flaw
        flaw = _misfit(member, seen, latest, num_blobs)
        if flaw is None:
            seen.add(member.name)
            latest = _place(member.name)
            num_blobs += member.name.startswith(BLOBS)


def judge_sizes(contents: Mapping[str, bytes]) -> list[Flaw]:
    """Parts that are larger than a reader would read."""
    return [
        _flaw(name, 0, "too large", f"it has {len(content)} bytes, at most {_LIMITS[name]} are read")
        for name, content in contents.items()
        if len(content) > _LIMITS[name]
    ]


def _misfit(member: Member, seen: set[str], latest: tuple[int, str], num_blobs: int) -> Flaw | None:
    name, is_blob, limit = member.name, member.name.startswith(BLOBS), _LIMITS.get(member.name)
    rules: tuple[tuple[bool, FlawKind, str], ...] = (
        (_leads_out(name), "forbidden", "its name leads out of the folder that it is unpacked in"),
        (name in seen, "duplicate", "there is one of this name before it"),
        (limit is None and not _BLOB.fullmatch(name), "unexpected", "no bundle holds a file of this name"),
        (_place(name) < latest, "out of order", f"it belongs before {latest[1]}"),
        (
            limit is not None and member.size > limit,
            "too large",
            f"it has {member.size} bytes, at most {limit} are read",
        ),
        (is_blob and num_blobs >= MAX_BLOBS, "too large", f"there are more than {MAX_BLOBS} files"),
    )
    return next((_flaw(name, member.start, kind, detail) for applies, kind, detail in rules if applies), None)


def _leads_out(name: str) -> bool:
    return name.startswith("/") or "\\" in name or ".." in name.split("/")


def _place(name: str) -> tuple[int, str]:
    return _ORDER.get(name, len(_ORDER)), name


@final
@dataclass(slots=True, kw_only=True)
class Judged:
    """What came of looking at the small parts together; filled in as far as they could be read.

    Attributes:
        flaws: What is not as it was written.
        vkey: The key under which the checkpoint's signature holds.
        origin: Name of the log.
        size: Entries in it.
        number: The entry's place.
        snapshot: The snapshot's digest.
        blobs: Digests of its files, sorted.
    """

    flaws: list[Flaw] = field(default_factory=list)
    vkey: str | None = None
    origin: str | None = None
    size: int | None = None
    number: int | None = None
    snapshot: str | None = None
    blobs: tuple[str, ...] = ()

    def contents(self, small: Small) -> BundleContents:
        """The parts themselves; of flawless ones only."""
        return BundleContents(
            entry=small[ENTRY_NAME][1],
            proof=InclusionProof.parse(parse_canonical(small[PROOF_NAME][1])),
            checkpoint=small[CHECKPOINT_NAME][1],
            vkey=small[KEY_NAME][1].decode().removesuffix("\n"),
            statement=small[STATEMENT_NAME][1] if STATEMENT_NAME in small else None,
        )


def judge_contents(small: Small, trusted: tuple[str, ...], *, is_whole: bool = True) -> Judged:
    """Everything but the files, by name with its place in the archive, against each other and the trusted keys.

    What can be judged only against a damaged part is not blamed for it.

    Args:
        small: Content by name, with where it begins.
        trusted: Verifier keys that the caller vouches for.
        is_whole: Whether the archive was read to its end, so that what was not found is missing.

    Raises:
        InvalidValueError: one of `trusted` is no verifier key.
    """
    vouched = [VerifierKey.parse(vkey) for vkey in trusted]
    judged = Judged()
    for name in _NEEDED:
        if name not in small and is_whole:
            judged.flaws.append(_flaw(name, 0, "missing", "every bundle holds it"))
    _judge_readme(judged, small)
    keys = _judge_key(judged, small, vouched)
    checkpoint = _judge_checkpoint(judged, small, keys)
    proof = _read_proof(judged, small)
    if proof is not None and checkpoint is not None:
        _judge_proof(judged, small, proof, checkpoint)
    snapshot = _judge_entry(judged, small)
    _judge_statement(judged, small, keys, snapshot)
    return judged


def _judge_readme(judged: Judged, small: Small) -> None:
    start, content = small.get(README_NAME, (0, README))
    if content != README:
        at = next((index for index, pair in enumerate(zip(content, README, strict=False)) if pair[0] != pair[1]), None)
        place = start + (min(len(content), len(README)) if at is None else at)
        judged.flaws.append(_flaw(README_NAME, place, "altered", "it is not the text of this format"))


def _judge_key(judged: Judged, small: Small, vouched: list[VerifierKey]) -> list[VerifierKey]:
    """The keys that may have signed: those the caller vouches for, else the one in the file."""
    if KEY_NAME not in small:
        return vouched
    start, content = small[KEY_NAME]
    try:
        key = VerifierKey.parse(content.decode().removesuffix("\n"))
        if f"{key}\n".encode() != content:
            raise InvalidValueError("it is not one line with one key")
    except (InvalidValueError, UnicodeDecodeError) as error:
        judged.flaws.append(_flaw(KEY_NAME, start, "altered", str(error)))
        return vouched
    if vouched and key not in vouched:
        detail = f"{key} is none of the keys that you trust"
        judged.flaws.append(_flaw(KEY_NAME, start, "key not trusted", detail))
    return vouched or [key]


def _judge_checkpoint(judged: Judged, small: Small, keys: list[VerifierKey]) -> Checkpoint | None:
    """The checkpoint, where one of the keys signed it."""
    if CHECKPOINT_NAME not in small or not keys:
        return None
    start, content = small[CHECKPOINT_NAME]
    reasons = []
    for key in keys:
        try:
            checkpoint = Checkpoint.open(content, key)
        except IntegrityError as error:
            reasons.append(": ".join(filter(None, (error.message, error.cause))))
            continue
        judged.vkey, judged.origin, judged.size = str(key), checkpoint.origin, checkpoint.size
        return checkpoint
    judged.flaws.append(_flaw(CHECKPOINT_NAME, start, "altered", "; ".join(reasons)))
    return None


def _read_proof(judged: Judged, small: Small) -> InclusionProof | None:
    if PROOF_NAME not in small:
        return None
    start, content = small[PROOF_NAME]
    try:
        proof = InclusionProof.parse(_exact_json(content))
    except (InvalidValueError, ValueError, RecursionError) as error:
        judged.flaws.append(_flaw(PROOF_NAME, start, "altered", f"it is no proof: {error}"))
        return None
    judged.number = proof.number
    return proof


def _judge_proof(judged: Judged, small: Small, proof: InclusionProof, checkpoint: Checkpoint) -> None:
    """Entry, proof and signed root agree, or one of the first two is named: the proof says the leaf's hash twice."""
    start = small[PROOF_NAME][0]
    if (proof.size, proof.root) != (checkpoint.size, checkpoint.root):
        detail = f"it leads to another tree than the signed one of {checkpoint.size} entries"
        judged.flaws.append(_flaw(PROOF_NAME, start, "altered", detail))
        return
    if not verify_inclusion(proof.leaf_hash, proof.number, proof.size, proof.path, proof.root):
        judged.flaws.append(_flaw(PROOF_NAME, start, "altered", "it does not lead to the signed root"))
    elif ENTRY_NAME in small and hash_leaf(small[ENTRY_NAME][1]) != proof.leaf_hash:
        detail = f"the signed tree holds another entry number {proof.number}"
        judged.flaws.append(_flaw(ENTRY_NAME, small[ENTRY_NAME][0], "altered", detail))


def _judge_entry(judged: Judged, small: Small) -> ArchitectureSnapshot | None:
    if ENTRY_NAME not in small:
        return None
    start, content = small[ENTRY_NAME]
    try:
        entry = parse_entry(_exact_json(content))
    except (InvalidValueError, ValueError, RecursionError) as error:
        judged.flaws.append(_flaw(ENTRY_NAME, start, "altered", f"it is no entry: {error}"))
        return None
    if not isinstance(entry, SnapshotEntry):
        judged.flaws.append(_flaw(ENTRY_NAME, start, "unexpected", f"it registers no snapshot, it is of {entry.kind}"))
        return None
    if any(flaw.member == ENTRY_NAME for flaw in judged.flaws):
        return None
    odd = [digest for digest in entry.snapshot.blobs.values() if not is_digest(digest)]
    if odd:
        judged.flaws.append(
            _flaw(ENTRY_NAME, start, "unexpected", f"a file is named {odd[0][:80]!r}, which is no digest")
        )
        return None
    judged.snapshot = entry.snapshot.digest
    judged.blobs = tuple(sorted(set(entry.snapshot.blobs.values())))
    return entry.snapshot


def _judge_statement(
    judged: Judged, small: Small, keys: list[VerifierKey], snapshot: ArchitectureSnapshot | None
) -> None:
    if STATEMENT_NAME not in small or not keys:
        return
    start, content = small[STATEMENT_NAME]
    try:
        verified = verify_statement(content, map(str, keys))
    except IntegrityError as error:
        detail = ": ".join(filter(None, (error.message, error.cause)))
        judged.flaws.append(_flaw(STATEMENT_NAME, start, "altered", detail))
        return
    if snapshot is not None:
        judged.flaws += _misplaced(verified.statement, snapshot, start)


def _misplaced(statement: Mapping[str, Any], snapshot: ArchitectureSnapshot, start: int) -> Iterator[Flaw]:
    try:
        check_statement(statement, snapshot)
    except IntegrityError as error:
        yield _flaw(STATEMENT_NAME, start, "unexpected", error.message)


def _exact_json(content: bytes) -> Any:
    """The value in canonical JSON.

    Raises:
        ValueError: it is no JSON, or could be written otherwise.
    """
    value = parse_canonical(content)
    if canonical_json(value) != content:
        raise ValueError("it is no canonical JSON")
    return value


def _flaw(member: str, offset: int, kind: FlawKind, detail: str) -> Flaw:
    return Flaw(member=member, offset=offset, kind=kind, detail=detail)
