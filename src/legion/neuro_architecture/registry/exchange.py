"""Between registries: one snapshot as a file that proves itself, and logs against checkpoints that somebody kept."""

from __future__ import annotations

import contextlib
import tempfile
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path

from legion.foundation.canonical import digest_file
from legion.foundation.errors import IntegrityError, InvalidValueError
from legion.foundation.files import confine, publish_folder
from legion.neuro_architecture.registry.blobs import BlobStore
from legion.neuro_architecture.registry.bundle import open_bundle, write_bundle
from legion.neuro_architecture.registry.bundle_report import BundleContents, refuse_flawed
from legion.neuro_architecture.registry.drafts import SnapshotDraft
from legion.neuro_architecture.registry.ledger import snapshot_in
from legion.neuro_architecture.registry.statement import make_statement, sign_statement
from legion.neuro_architecture.registry.translog import Checkpoint, ConsistencyProof, TransparencyLog, verify_note

__all__ = ["export_entry", "materialise", "unpacked", "verify_continuation"]


def export_entry(log: TransparencyLog, number: int, blobs: BlobStore, path: Path) -> Path:
    """Writes the snapshot of an entry with its files and its proof into one file; where the log's private key is here,
    with a signed statement too.
    """
    content = log.read(number)
    snapshot = snapshot_in(content, number)
    checkpoint, signer, vkey = log.checkpoint(), log.signer(), str(log.key)
    statement = None if signer is None else sign_statement(make_statement(snapshot), signer.sign_bytes, vkey)
    contents = BundleContents(
        entry=content,
        proof=log.inclusion_proof(number, checkpoint.size),
        checkpoint=checkpoint.note,
        vkey=vkey,
        statement=statement,
    )
    return write_bundle(path, contents, blobs.open)


@contextlib.contextmanager
def unpacked(path: Path, trusted: Iterable[str] = ()) -> Iterator[SnapshotDraft]:
    """What an exported file holds, its files in a scratch folder that is gone at the end.

    Raises:
        IntegrityError: anything in it is not as it was written.
        InvalidValueError: no such file.
    """
    with open_bundle(path) as bundle, tempfile.TemporaryDirectory(prefix="legion-import-") as scratch:
        report = bundle.verify(tuple(trusted))
        refuse_flawed(f"{path} is no sound bundle", report.flaws)
        old = snapshot_in(bundle.contents().entry, report.entry_number or 0)
        files: dict[str, Path] = {}
        for name, digest in old.blobs.items():
            files[name] = confine(Path(scratch), name)
            with files[name].open("xb") as target:
                bundle.copy_blob(digest, target)
        origin = {
            "log": report.origin,
            "entry": report.entry_number,
            "snapshot": old.digest,
            "vkey": report.vkey,
            "is_vouched": report.is_vouched,
        }
        yield SnapshotDraft(
            version=old.version,
            config=old.config,
            metrics=old.metrics,
            provenance=old.provenance | {"imported_from": origin},
            tags=old.tags,
            files=files,
        )


def verify_continuation(log: TransparencyLog, note: bytes) -> ConsistencyProof:
    """That a log begins with what a signed checkpoint speaks of.

    Raises:
        IntegrityError: the checkpoint is not signed by the log's key, or the log rewrote or lost what it speaks of.
    """
    size = log.refresh()
    if log.key is None:
        raise IntegrityError(f"there is no log in {log.folder} that could continue the checkpoint")
    verify_note(note, log.key)
    kept = Checkpoint.parse(note)
    if kept.size > size:
        raise IntegrityError(
            f"the log in {log.folder} was rolled back", cause=f"it has {size} entries, the checkpoint {kept.size}"
        )
    proof = log.consistency_proof(kept.size)
    if proof.old_root != kept.root or not proof.verify():
        raise IntegrityError(
            f"the log in {log.folder} is a fork",
            cause=f"its first {kept.size} entries have the root {proof.old_root.hex()}, not {kept.root.hex()}",
        )
    return proof


def materialise(blobs: BlobStore, files: Mapping[str, str], folder: Path) -> Path:
    """Puts verified copies of blobs into `folder` under their names; a sound copy there is kept.

    Raises:
        IntegrityError: a blob is missing or altered; then `folder` is as it was.
        InvalidValueError: `folder` holds other files, which the copy would sweep away.
    """
    if _holds(folder, files):
        return folder
    others = {path.name for path in folder.iterdir()} - set(files) if folder.is_dir() else set()
    if others:
        raise InvalidValueError(f"{folder} holds other files: {', '.join(sorted(others)[:5])}")

    def fill(fresh: Path) -> None:
        for name, digest in files.items():
            blobs.copy(name, digest, confine(fresh, name))

    publish_folder(folder, fill)
    return folder


def _holds(folder: Path, files: Mapping[str, str]) -> bool:
    if not folder.is_dir() or {path.name for path in folder.iterdir()} != set(files):
        return False
    return all((folder / name).is_file() and digest_file(folder / name) == digest for name, digest in files.items())
