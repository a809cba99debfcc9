"""What a bundle holds, and what a check of it found."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, final

from legion.foundation.errors import IntegrityError
from legion.neuro_architecture.registry.archive import Flaw
from legion.neuro_architecture.registry.translog import InclusionProof

__all__ = ["UNVOUCHED", "BundleContents", "BundleReport", "refuse_flawed"]

UNVOUCHED = "verified under the key in the file, which nobody vouched for"


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class BundleContents:
    """Everything in a bundle but the files.

    Attributes:
        entry: The very bytes of the log's entry.
        proof: That the log holds it.
        checkpoint: The signed note that the proof leads to.
        vkey: The log's verifier key.
        statement: DSSE envelope of the in-toto statement, or None.
    """

    entry: bytes
    proof: InclusionProof
    checkpoint: bytes
    vkey: str
    statement: bytes | None = None


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class BundleReport:
    """What a check of a bundle read and found.

    Attributes:
        path: The bundle.
        size_bytes: Its length; every byte was read or compared.
        flaws: All that is not as it was written, by place.
        snapshot: Digest of the snapshot in it, where its entry could be read.
        entry_number: Its place in the log, from 0.
        log_size: Entries in the log at the checkpoint.
        origin: The log's name.
        vkey: The key under which the signatures hold; None where they do not.
        is_vouched: Whether the caller named the keys that may sign.
        has_statement: Whether there is an in-toto statement.
        num_blobs: Files in it.
        blob_bytes: Their bytes.
    """

    path: str
    size_bytes: int
    flaws: tuple[Flaw, ...]
    snapshot: str | None
    entry_number: int | None
    log_size: int | None
    origin: str | None
    vkey: str | None
    is_vouched: bool
    has_statement: bool
    num_blobs: int
    blob_bytes: int

    @property
    def is_sound(self) -> bool:
        """Whether every byte is as it was written, under the key in use."""
        return not self.flaws

    @property
    def verdict(self) -> str:
        """The answer in a sentence; it never says more than was shown."""
        if self.flaws:
            return f"not verified: {len(self.flaws)} of its parts are not as they were written"
        return f"verified under the trusted key {self.vkey}" if self.is_vouched else UNVOUCHED

    def lines(self) -> list[str]:
        """The report as text, a line each."""
        told = [f"{self.path}: {self.verdict}"]
        told += [f"  {flaw}" for flaw in self.flaws]
        if self.snapshot is not None:
            place = f"entry {self.entry_number} of {self.log_size} in {self.origin}"
            told.append(f"  snapshot {self.snapshot}, {place}")
        statement = "with" if self.has_statement else "without"
        told.append(f"  {self.num_blobs} files of {self.blob_bytes} bytes, {statement} a statement of its origin")
        if not self.is_vouched:
            told.append(f"  the key in the file: {self.vkey or 'none that holds'}")
        return told

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON."""
        flaws = [
            {"member": flaw.member, "offset": flaw.offset, "kind": flaw.kind, "detail": flaw.detail}
            for flaw in self.flaws
        ]
        return {
            "path": self.path,
            "size_bytes": self.size_bytes,
            "is_sound": self.is_sound,
            "is_vouched": self.is_vouched,
            "verdict": self.verdict,
            "flaws": flaws,
            "snapshot": self.snapshot,
            "entry_number": self.entry_number,
            "log_size": self.log_size,
            "origin": self.origin,
            "vkey": self.vkey,
            "has_statement": self.has_statement,
            "num_blobs": self.num_blobs,
            "blob_bytes": self.blob_bytes,
        }


def refuse_flawed(message: str, flaws: Sequence[Flaw]) -> None:
    """Raises IntegrityError, naming each flaw, where there is one."""
    if flaws:
        raise IntegrityError(message, cause="\n".join(map(str, flaws)))
