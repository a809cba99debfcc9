"""A second look at an export, with nothing but its own folder, its engine and, for an adapter, its base."""

from __future__ import annotations

from pathlib import Path

from legion.foundation.errors import AdapterError, EngineError
from legion.foundation.files import read_json, write_json, write_text
from legion.foundation.settings import Settings
from legion.neuro_architecture.data.base_models import resolve_base
from legion.neuro_architecture.portability.artefact import (
    CARD_NAME,
    CERTIFICATE_NAME,
    REFERENCE_NAME,
    ArtefactRecord,
    read_artefact,
)
from legion.neuro_architecture.portability.card import renew_proof
from legion.neuro_architecture.portability.certificate import (
    ParityCertificate,
    Reference,
    as_replies,
    refuse_different,
)
from legion.neuro_architecture.portability.certify import certify, open_point
from legion.neuro_architecture.portability.engines import engine_for
from legion.neuro_architecture.portability.engines.contract import Engine

__all__ = ["recertify"]


def recertify(
    folder: Path, settings: Settings, *, base: str | None = None, engine: Engine | None = None
) -> ParityCertificate:
    """Compares the engine's answers with those stored beside the artefact; stores the new certificate, in the card too.

    Raises:
        IntegrityError: a file is missing or changed.
        ParityError: the answers differ; the certificate there stays as it was.
        AdapterError: the base at hand is not the one that the adapter was trained on.
        EngineError: the engine is not installed, or died.
    """
    folder = folder.resolve()
    record = read_artefact(folder)
    reference = Reference.parse(read_json(folder / REFERENCE_NAME), what=REFERENCE_NAME)
    chosen = engine_for(record.target, settings) if engine is None else engine
    if isinstance(chosen, str):
        raise EngineError(f"no engine here serves {record.target}", cause=chosen)
    certificate = certify(
        record,
        folder,
        chosen,
        questions=reference.asked(),
        expected=as_replies(reference),
        reference=reference,
        base_folder=_base_folder(record, settings, base) if record.needs_base else None,
    )
    if record.verdict == "exact" or record.bound is not None:
        refuse_different(certificate)
    write_json(folder / CERTIFICATE_NAME, certificate.to_dict())
    card = folder / CARD_NAME
    if card.is_file():
        text = card.read_text(encoding="utf-8")
        write_text(card, renew_proof(text, record, certificate, reason=open_point(record.target)))
    return certificate


def _base_folder(record: ArtefactRecord, settings: Settings, name: str | None) -> Path:
    base = resolve_base(name or record.base.name, settings)
    if base.reference.digest != record.base.digest:
        raise AdapterError(
            f"the adapter was not made for {base.reference.name}",
            cause=f"made for {record.base.digest}, this is {base.reference.digest}",
        )
    return base.folder
