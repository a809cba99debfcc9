"""What `legion export` is given: a registered snapshot, or the folder of a run or of an adapter."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, final

from legion.foundation.canonical import short
from legion.foundation.errors import IntegrityError, UsageError
from legion.foundation.files import exclusive_lock, read_json
from legion.foundation.settings import Settings
from legion.neuro_architecture.adapters.saving import RECORD_NAME, AdapterRecord
from legion.neuro_architecture.data.base_models import BaseModel, resolve_base
from legion.neuro_architecture.portability.base_facts import natural_kind
from legion.neuro_architecture.portability.card import Origin
from legion.neuro_architecture.records import RunFolder
from legion.neuro_architecture.registry import ArchitectureRegistry
from legion.neuro_architecture.spec.task import TaskKind

__all__ = ["ExportSource", "find_source"]


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class ExportSource:
    """A trained adapter with what is known of it.

    Attributes:
        folder: The adapter's files.
        base: The base that they name.
        kind: What it was trained for.
        labels: Class names, for a classifier.
        origin: What the card says of it.
    """

    folder: Path
    base: BaseModel
    kind: TaskKind
    labels: tuple[str, ...]
    origin: Origin


def find_source(name: str, settings: Settings, *, base: str | None = None, alias: str | None = None) -> ExportSource:
    """The adapter called `name`.

    Args:
        name: A digest (or its beginning) or semantic hash in the registry, a run folder, or an adapter folder.
        settings: The workspace.
        base: The base model, where it is kept under another name than the record's.
        alias: What the served model is called.

    Raises:
        UnknownNameError: nothing has this name.
        UsageError: the record names no base, or does not say what it was trained for.
        IntegrityError: the registry's files were altered.
        AdapterError: the base is another one than the adapter was trained on.
    """
    folder = (settings.workspace / name).resolve()
    if folder.is_dir():
        return _from_folder(folder, settings, base, alias)
    return _from_registry(name, settings, base, alias)


def _from_folder(folder: Path, settings: Settings, base: str | None, alias: str | None) -> ExportSource:
    run = RunFolder(folder if (folder / "metrics.json").is_file() else folder.parent)
    adapter = folder / "adapter" if run.path == folder else folder
    if not run.metrics_path.is_file():
        return _from_bare_adapter(folder, settings, base, alias)
    metrics, record = run.read_metrics()
    flat = metrics.to_flat()
    origin = Origin(
        name=alias or f"legion-{run.path.name}",
        task=record.get("task"),
        data_digest=record.get("data_digest"),
        metrics=_measured(flat),
        units=flat["units"],
    )
    return _source(adapter, record, settings, base, origin)


def _from_bare_adapter(folder: Path, settings: Settings, base: str | None, alias: str | None) -> ExportSource:
    """An adapter that lies in no run: for a causal base there is only one thing that it can be for."""
    adapter = _read_adapter(folder)
    named = base or (adapter.base.name if adapter.base else None)
    if named is not None and natural_kind(resolve_base(named, settings)) == "classification":
        raise UsageError(
            f"{folder} does not say which labels it learned",
            cause="it lies in no run folder, and its base classifies",
            hint="export the run's folder, or a registered snapshot",
        )
    return _source(
        folder, {"task_kind": "summarization"}, settings, base, Origin(name=alias or f"legion-{folder.name}")
    )


def _from_registry(name: str, settings: Settings, base: str | None, alias: str | None) -> ExportSource:
    registry = ArchitectureRegistry.of(settings)
    snapshot = registry.resolve(name)
    folder = settings.home / "adapters" / snapshot.digest.removeprefix("sha256:")
    with exclusive_lock(folder.parent / ".lock"):
        registry.materialise(snapshot, folder)
    if RECORD_NAME not in snapshot.blobs:
        raise IntegrityError(f"snapshot {short(snapshot.digest)} carries no adapter", hint="legion integrate --top 3")
    provenance = snapshot.provenance
    known = {**(provenance.get("training_record") or {}), **provenance}
    origin = Origin(
        name=alias or f"legion-{short(snapshot.digest)}",
        snapshot=snapshot.digest,
        task=known.get("task"),
        data_digest=known.get("data_digest"),
        metrics=_measured(snapshot.metrics),
        units=snapshot.metrics.get("units") or {},
    )
    return _source(folder, known, settings, base, origin)


def _source(
    folder: Path, record: Mapping[str, Any], settings: Settings, base: str | None, origin: Origin
) -> ExportSource:
    if not (folder / RECORD_NAME).is_file():
        raise UsageError(
            f"{folder} holds no adapter", cause=f"it has no {RECORD_NAME}", hint="train it to its end first"
        )
    adapter = AdapterRecord.parse(read_json(folder / RECORD_NAME), what=RECORD_NAME)
    named = base or (adapter.base.name if adapter.base else None)
    if named is None:
        raise UsageError(f"{folder} does not say which base it was trained on", hint="name it: --base NAME")
    kind = record.get("task_kind")
    if kind not in ("classification", "summarization"):
        raise UsageError(f"{folder} does not say what it was trained for", cause=f"task_kind is {kind!r}")
    return ExportSource(
        folder=folder,
        base=resolve_base(named, settings),
        kind=kind,
        labels=tuple(str(label) for label in record.get("labels") or ()),
        origin=origin,
    )


def _read_adapter(folder: Path) -> AdapterRecord:
    if not (folder / RECORD_NAME).is_file():
        raise UsageError(
            f"{folder} holds no adapter", cause=f"it has no {RECORD_NAME}", hint="train it to its end first"
        )
    return AdapterRecord.parse(read_json(folder / RECORD_NAME), what=RECORD_NAME)


def _measured(flat: Mapping[str, Any]) -> dict[str, float]:
    """The numbers that have a unit; what is absent has none here either."""
    units = flat.get("units") or {}
    return {name: float(value) for name, value in flat.items() if name in units and value is not None}
