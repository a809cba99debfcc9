"""What an export folder says of itself: what it is, of what it was made, and the digest of every file."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Final, Literal

from pydantic import Field

from legion.foundation.canonical import digest_file, digest_json
from legion.foundation.errors import IntegrityError, NotPortableError, UsageError
from legion.foundation.files import confine, read_json
from legion.neuro_architecture.portability.engines.contract import Served
from legion.neuro_architecture.portability.values import Form, Target, Verdict
from legion.neuro_architecture.spec._value import Value
from legion.neuro_architecture.spec.architecture import Architecture
from legion.neuro_architecture.spec.proposal import BaseReference
from legion.neuro_architecture.spec.task import TaskKind

__all__ = [
    "CARD_NAME",
    "CERTIFICATE_NAME",
    "GGUF_NAME",
    "MODELFILE_NAME",
    "RECORD_NAME",
    "REFERENCE_NAME",
    "ArtefactRecord",
    "digest_files",
    "read_artefact",
    "served",
]

RECORD_NAME: Final = "legion_artefact.json"
REFERENCE_NAME: Final = "legion_reference.json"
CERTIFICATE_NAME: Final = "legion_certificate.json"
CARD_NAME: Final = "README.md"
GGUF_NAME: Final = "model.gguf"
MODELFILE_NAME: Final = "Modelfile"
_ABOUT: Final = frozenset({RECORD_NAME, CERTIFICATE_NAME, CARD_NAME})

NonNegative = Annotated[float, Field(ge=0.0)]


class ArtefactRecord(Value):
    """A portable artefact.

    Attributes:
        format: Version of this record.
        target: Who is to serve it.
        form: The stock form.
        verdict: What the plan promised, `exact` or `bounded`.
        bound: By how much log-probabilities may differ, where the plan says so.
        kind: What it does.
        labels: Class names in the order of the outputs, for a classifier.
        base: The base it was trained on; a served LoRA needs it.
        architecture: The adapter that was folded.
        adapter_digest: Of the trained weights' file.
        weight_errors: For a bounded form, the relative error of each changed weight (Frobenius norm).
        files: Every file that serves, with its digest.
    """

    format: Literal[1] = 1
    target: Target
    form: Form
    verdict: Verdict
    bound: NonNegative | None = None
    kind: TaskKind
    labels: tuple[str, ...] = ()
    base: BaseReference
    architecture: Architecture
    adapter_digest: str
    weight_errors: dict[str, NonNegative] = Field(default_factory=dict)
    files: dict[str, str]

    @property
    def digest(self) -> str:
        """Content name of the artefact."""
        return digest_json(self.to_dict())

    @property
    def needs_base(self) -> bool:
        """Whether it is an adapter that is served on top of its base."""
        return self.form in ("canonical-lora", "peft-adapter")


def digest_files(folder: Path) -> dict[str, str]:
    """The digest of every file of an artefact but those that speak about it."""
    paths = sorted(path for path in folder.rglob("*") if path.is_file())
    return {
        str(path.relative_to(folder)): digest_file(path)
        for path in paths
        if str(path.relative_to(folder)) not in _ABOUT
    }


def read_artefact(folder: Path) -> ArtefactRecord:
    """The record of an export folder whose files are all what they were.

    Raises:
        UsageError: there is no record.
        IntegrityError: a file is missing, truncated or changed; names it.
    """
    path = folder / RECORD_NAME
    if not path.is_file():
        raise UsageError(f"{folder} is no export", cause=f"it has no {RECORD_NAME}", hint="make one: legion export")
    record = ArtefactRecord.parse(read_json(path), what=RECORD_NAME)
    for name, digest in record.files.items():
        file = confine(folder, name)
        if not file.is_file():
            raise IntegrityError(f"{name} is missing from {folder}")
        found = digest_file(file)
        if found != digest:
            raise IntegrityError(f"{name} in {folder} changed since it was made", cause=f"{digest} became {found}")
    return record


def served(record: ArtefactRecord, folder: Path, base_folder: Path | None) -> Served:
    """What an engine is given of the artefact in `folder`.

    Raises:
        NotPortableError: it is an adapter and its base is not at hand.
    """
    if record.needs_base:
        if base_folder is None:
            raise NotPortableError("this artefact is served on its base", hint=f"name it: --base {record.base.name}")
        return Served(model=base_folder, adapter=folder)
    return Served(model=folder / GGUF_NAME if GGUF_NAME in record.files else folder)
