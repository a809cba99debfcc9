"""A snapshot as a CycloneDX 1.6 bill of materials for machine learning (ECMA-424), from facts that were computed.

The model's component carries the sha256 of each of its files and a model card whose metrics have their intervals;
its ancestors are the base model and the parent snapshot; the data set is a component of its own. A licence is named
where the caller's catalogue of assets knows it, and nowhere else. What is not known is left out and listed with its
reason in `legion:unknown:...` properties; no field is filled with a guess.
"""

from __future__ import annotations

import json
import uuid
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Final, final

import legion
from legion.foundation.canonical import is_digest, short
from legion.neuro_architecture.registry.facts import SnapshotFacts, facts_of
from legion.neuro_architecture.registry.intervals import DEFAULT_LEVEL, interval_of, measurements_of
from legion.neuro_architecture.spec.measurement import Measurement
from legion.neuro_architecture.spec.snapshot import ArchitectureSnapshot

__all__ = ["KnownAsset", "make_bill_of_materials"]

_SCHEMA: Final = "http://cyclonedx.org/schema/bom-1.6.schema.json"
_NAMESPACE: Final = uuid.UUID("5a4d5e6c-9c1f-5d0e-8c36-0f4b3a0d7c11")
# Licences of the catalogue that are names of the SPDX list; another is given in its own words.
_SPDX: Final = frozenset({"Apache-2.0", "MIT", "BSD-3-Clause", "CC0-1.0", "CC-BY-4.0", "CC-BY-SA-4.0"})
_WRITTEN: Final = {"classification": ("text", "label"), "summarization": ("text", "text")}


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class KnownAsset:
    """What a catalogue says of a base model.

    Attributes:
        licence: Under which its content may be used, as an SPDX identifier where there is one.
        source: Where it comes from.
    """

    licence: str
    source: str


def make_bill_of_materials(
    snapshot: ArchitectureSnapshot,
    *,
    assets: Mapping[str, KnownAsset] | None = None,
    level: float = DEFAULT_LEVEL,
) -> dict[str, Any]:
    """The bill as plain JSON; the same snapshot and catalogue give the same bill.

    Args:
        snapshot: What it is about.
        assets: Base models whose licence is known, by name (`data.catalog.CATALOG` names the embedded ones).
        level: Confidence of the metrics' intervals.

    Raises:
        InvalidValueError: the level is not between 0 and 1.
    """
    facts = facts_of(snapshot)
    base, data = _base(facts, assets or {}), _data(facts)
    model = _model(snapshot, facts, base, data, level)
    needed = [component["bom-ref"] for component in (base, data) if component is not None]
    return {
        "$schema": _SCHEMA,
        "bomFormat": "CycloneDX",
        "specVersion": "1.6",
        "serialNumber": f"urn:uuid:{uuid.uuid5(_NAMESPACE, snapshot.digest)}",
        "version": 1,
        "metadata": {
            "timestamp": snapshot.created_at,
            "tools": {
                "components": [{"type": "application", "name": "legion-neuro-rewriter", "version": legion.__version__}]
            },
            "component": model,
        },
        "components": [component for component in (base, data) if component is not None],
        "dependencies": [{"ref": model["bom-ref"], "dependsOn": needed}, *({"ref": ref} for ref in needed)],
    }


def _model(
    snapshot: ArchitectureSnapshot,
    facts: SnapshotFacts,
    base: dict[str, Any] | None,
    data: dict[str, Any] | None,
    level: float,
) -> dict[str, Any]:
    ancestors = [] if base is None else [{name: value for name, value in base.items() if name != "bom-ref"}]
    if snapshot.parent is not None:
        ancestors.append(
            {"type": "machine-learning-model", "name": "parent snapshot", "hashes": _hashes(snapshot.parent)}
        )
    return {
        "type": "machine-learning-model",
        "bom-ref": f"snapshot:{snapshot.digest}",
        "name": f"{snapshot.config.get('strategy', 'adapter')} {snapshot.semantic_hash}",
        "version": f"{snapshot.version} revision {snapshot.revision}",
        "description": "An adapter for a frozen base model, as a snapshot of a Legion architecture registry.",
        "hashes": _hashes(snapshot.digest),
        "components": [
            {"type": "file", "bom-ref": f"file:{name}", "name": name, "hashes": _hashes(digest)}
            for name, digest in sorted(snapshot.blobs.items())
        ],
        **({"pedigree": {"ancestors": ancestors}} if ancestors else {}),
        "modelCard": _card(snapshot, facts, data, level),
        "properties": list(_properties(snapshot, facts, is_licensed=base is not None and "licenses" in base)),
        **({"tags": list(snapshot.tags)} if snapshot.tags else {}),
    }


def _card(
    snapshot: ArchitectureSnapshot, facts: SnapshotFacts, data: dict[str, Any] | None, level: float
) -> dict[str, Any]:
    kind, base = facts.get("task_kind"), facts.get("base")
    parameters: dict[str, Any] = {"modelArchitecture": str(snapshot.config.get("strategy", "adapter"))}
    if isinstance(base, Mapping) and isinstance(base.get("model_type"), str):
        parameters["architectureFamily"] = base["model_type"]
    if kind in _WRITTEN:
        parameters["approach"] = {"type": "supervised"}
        parameters["task"] = kind
        parameters["inputs"] = [{"format": _WRITTEN[kind][0]}]
        parameters["outputs"] = [{"format": _WRITTEN[kind][1]}]
    if data is not None:
        parameters["datasets"] = [{"ref": data["bom-ref"]}]
    metrics = [
        _metric(name, measured, level)
        for name, measured in measurements_of(snapshot.metrics).items()
        if measured.value is not None
    ]
    return {
        "modelParameters": parameters,
        **({"quantitativeAnalysis": {"performanceMetrics": metrics}} if metrics else {}),
    }


def _metric(name: str, measured: Measurement, level: float) -> dict[str, Any]:
    found = interval_of(measured, level)
    return {
        "type": f"{name} ({measured.unit})" if measured.unit else name,
        "value": repr(measured.value),
        **(
            {"confidenceInterval": {"lowerBound": repr(found[0]), "upperBound": repr(found[1])}}
            if found is not None
            else {}
        ),
    }


def _base(facts: SnapshotFacts, assets: Mapping[str, KnownAsset]) -> dict[str, Any] | None:
    """The base model's component; its digest is one over its files' digests, so it stands in a property."""
    base = facts.get("base")
    if not isinstance(base, Mapping) or not isinstance(base.get("name"), str):
        return None
    component: dict[str, Any] = {
        "type": "machine-learning-model",
        "bom-ref": f"base:{base['name']}",
        "name": base["name"],
    }
    asset = assets.get(base["name"])
    if asset is not None:
        named = {"id": asset.licence} if asset.licence in _SPDX else {"name": asset.licence}
        component["description"] = asset.source
        component["licenses"] = [{"license": named}]
    if is_digest(str(base.get("digest"))):
        component["properties"] = [_property("legion:weights_digest", base["digest"])]
    return component


def _data(facts: SnapshotFacts) -> dict[str, Any] | None:
    digest, task = facts.get("data_digest"), facts.get("task")
    if not isinstance(digest, str) or not is_digest(digest):
        return None
    sizes = facts.get("split_sizes")
    content: dict[str, Any] = {"type": "dataset", "name": str(task or short(digest))}
    if isinstance(sizes, Mapping):
        content["description"] = ", ".join(f"{count} rows to {split}" for split, count in sizes.items())
    return {
        "type": "data",
        "bom-ref": f"data:{digest}",
        "name": str(task or short(digest)),
        "data": [content],
        "properties": [_property("legion:rows_digest", digest)],
    }


def _properties(snapshot: ArchitectureSnapshot, facts: SnapshotFacts, *, is_licensed: bool) -> Iterator[dict[str, str]]:
    yield _property("legion:architecture", snapshot.config)
    yield _property("legion:registered_at", snapshot.created_at)
    for name in ("recipe", "steps", "seed", "trainer_config", "commit", "is_dirty", "versions", "training_machine"):
        if name in facts.known:
            yield _property(f"legion:{name}", facts.known[name])
    for name, measured in measurements_of(snapshot.metrics).items():
        if measured.value is None:
            yield _property(f"legion:absent:{name}", measured.reason)
        elif measured.n is not None:
            yield _property(f"legion:n:{name}", measured.n)
    for name, reason in facts.unknown.items():
        yield _property(f"legion:unknown:{name}", reason)
    if not is_licensed:
        yield _property("legion:unknown:base_licence", "the base is in no catalogue that was given")
    yield _property("legion:unknown:data_licence", "the snapshot does not record it")


def _property(name: str, value: Any) -> dict[str, str]:
    return {"name": name, "value": value if isinstance(value, str) else json.dumps(value, sort_keys=True)}


def _hashes(digest: str) -> list[dict[str, str]]:
    return [{"alg": "SHA-256", "content": digest.removeprefix("sha256:")}]
