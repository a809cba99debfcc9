"""The bill is valid CycloneDX 1.6 by the official schema, and says nothing that the snapshot does not."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
from jsonschema import Draft7Validator
from referencing import Registry, Resource
from referencing.jsonschema import DRAFT7
from tests.registry.bundles import FILES, METRICS, PROVENANCE, snapshot_of

from legion.foundation.canonical import digest_bytes
from legion.neuro_architecture.data.catalog import CATALOG
from legion.neuro_architecture.registry.bill_of_materials import KnownAsset, make_bill_of_materials

ASSETS = {each.name: KnownAsset(licence=each.licence, source=each.source) for each in CATALOG}
SCHEMAS = Path(__file__).parents[1] / "fixtures" / "cyclonedx"


@pytest.fixture(scope="module")
def mistakes_in():
    """What the official schema has against a bill; formats are checked too."""
    files = {path.name: json.loads(path.read_text(encoding="utf-8")) for path in SCHEMAS.glob("*.json")}
    main = files["bom-1.6.SNAPSHOT.schema.json"]
    root = main["$id"].rpartition("/")[0]
    resources = [
        (uri, Resource.from_contents(content, default_specification=DRAFT7))
        for name, content in files.items()
        for uri in (f"{root}/{name}", content["$id"])
    ]
    validator = Draft7Validator(
        main, registry=Registry().with_resources(resources), format_checker=Draft7Validator.FORMAT_CHECKER
    )
    return lambda bill: [f"{error.json_path}: {error.message}" for error in validator.iter_errors(bill)]


def _snapshots():
    base = PROVENANCE["base"]
    return {
        "whole": snapshot_of(),
        "with a parent": snapshot_of(parent=digest_bytes(b"parent"), revision=2),
        "nothing known": snapshot_of(provenance={}, metrics={}, blobs={}, tags=()),
        "an unknown base": snapshot_of(provenance=PROVENANCE | {"base": base | {"name": "my/model"}}),
        "a summarizer": snapshot_of(provenance=PROVENANCE | {"task_kind": "summarization"}),
        "a task of no known kind": snapshot_of(provenance=PROVENANCE | {"task_kind": "weather"}),
        "a rich architecture": snapshot_of({"strategy": "Combined", "boundary": 2}),
        "odd provenance": snapshot_of(provenance={"base": "words", "data_digest": 7, "training_record": []}),
    }


@pytest.mark.parametrize("case", sorted(_snapshots()))
def test_the_official_schema_has_nothing_against_it(mistakes_in, case):
    for assets in ({}, ASSETS, {"minilm-l6": KnownAsset(licence="some words of a lawyer", source="somewhere")}):
        assert mistakes_in(make_bill_of_materials(_snapshots()[case], assets=assets)) == []


def test_the_schema_would_say_so(mistakes_in):
    bill = make_bill_of_materials(snapshot_of())
    for broken in (
        bill | {"serialNumber": "urn:uuid:nothing"},
        bill | {"components": [{"type": "adapter", "name": "x"}]},
        bill | {"metadata": {"component": bill["metadata"]["component"] | {"accuracy": 0.8}}},
    ):
        assert mistakes_in(broken)


def _model(snapshot):
    return make_bill_of_materials(snapshot)["metadata"]["component"]


def test_each_file_is_there_with_its_hash():
    files = {part["name"]: part["hashes"] for part in _model(snapshot_of())["components"]}
    assert files == {name: [{"alg": "SHA-256", "content": digest[7:]}] for name, digest in snapshot_of().blobs.items()}
    assert len(files) == len(FILES)


def test_metrics_carry_their_intervals_and_absent_ones_their_reason():
    model = _model(snapshot_of())
    found = {item["type"]: item for item in model["modelCard"]["quantitativeAnalysis"]["performanceMetrics"]}
    accuracy = found["accuracy (share)"]
    bounds = accuracy["confidenceInterval"]
    assert float(accuracy["value"]) == METRICS["accuracy"]
    assert float(bounds["lowerBound"]) == pytest.approx(0.8 - 1.959964 * 0.04)
    assert float(bounds["upperBound"]) == pytest.approx(0.8 + 1.959964 * 0.04)
    assert "confidenceInterval" not in found["score"]
    assert not any(name.startswith("peak_memory_mb") for name in found)
    properties = {item["name"]: item["value"] for item in model["properties"]}
    assert properties["legion:absent:peak_memory_mb"] == "not asked for"
    assert properties["legion:n:accuracy"] == "100"


def test_ancestors_are_base_and_parent_and_the_data_are_referred_to():
    snapshot = snapshot_of(parent=digest_bytes(b"parent"), revision=2)
    bill = make_bill_of_materials(snapshot)
    model = bill["metadata"]["component"]
    assert [item["name"] for item in model["pedigree"]["ancestors"]] == ["minilm-l6", "parent snapshot"]
    refs = {item["bom-ref"] for item in bill["components"]}
    (data,) = model["modelCard"]["modelParameters"]["datasets"]
    assert data["ref"] in refs
    assert {"ref": model["bom-ref"], "dependsOn": [item["bom-ref"] for item in bill["components"]]} in bill[
        "dependencies"
    ]


def test_every_reference_is_unique():
    refs = re.findall(r'"bom-ref": "([^"]*)"', json.dumps(make_bill_of_materials(snapshot_of())))
    assert len(refs) == len(set(refs)) == 6


def test_only_the_catalogue_names_licences():
    bill = make_bill_of_materials(snapshot_of(), assets=ASSETS)
    assert [item.get("licenses") for item in bill["components"]] == [[{"license": {"id": "Apache-2.0"}}], None]
    named = PROVENANCE["base"] | {"name": "my/model"}
    other = make_bill_of_materials(snapshot_of(provenance=PROVENANCE | {"base": named}), assets=ASSETS)
    assert "licenses" not in json.dumps(other)
    gaps = {item["name"] for item in other["metadata"]["component"]["properties"]}
    assert {"legion:unknown:base_licence", "legion:unknown:data_licence"} <= gaps


def test_the_same_snapshot_gives_the_same_bill_and_another_another_number():
    one, other = (make_bill_of_materials(snapshot_of(version=version)) for version in ("1", "2"))
    assert one == make_bill_of_materials(snapshot_of(version="1"))
    assert one["serialNumber"] != other["serialNumber"]
