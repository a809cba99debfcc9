"""The document at /openapi.json describes what the server does."""

from __future__ import annotations

import json

import jsonschema
import pytest
from jsonschema import Draft202012Validator

BODIES = {"Registration", "TagsRequest", "AliasMove", "ApprovalRequest"}


@pytest.fixture
def document(reader):
    return reader.get("/openapi.json").json()


def _operations(document):
    for path, item in document["paths"].items():
        for method, operation in item.items():
            yield f"{method.upper()} {path}", operation


def _references(value):
    if isinstance(value, dict):
        if isinstance(value.get("$ref"), str):
            yield value["$ref"]
        for item in value.values():
            yield from _references(item)
    elif isinstance(value, list):
        for item in value:
            yield from _references(item)


def test_every_route_is_described_and_says_what_it_answers(document):
    operations = dict(_operations(document))
    assert len(operations) == 22
    assert len({operation["operationId"] for operation in operations.values()}) == len(operations)
    for name, operation in operations.items():
        assert operation["description"], name
        assert any(code.startswith("2") for code in operation["responses"]), name
        assert "422" not in operation["responses"], name
        for code, response in operation["responses"].items():
            assert response["description"], (name, code)
            assert response["content"], (name, code)
            if not code.startswith("2"):
                schema = response["content"]["application/problem+json"]["schema"]
                assert schema == {"$ref": "#/components/schemas/Problem"}, (name, code)


def test_writes_and_only_writes_ask_for_the_token(document):
    for name, operation in _operations(document):
        assert ("security" in operation) is not name.startswith("GET "), name
    assert document["components"]["securitySchemes"]["HTTPBearer"]["scheme"] == "bearer"


def test_every_reference_leads_somewhere(document):
    found = set(_references(document))
    assert found
    for reference in found:
        target = document
        for part in reference.removeprefix("#/").split("/"):
            target = target[part]


def test_every_schema_is_one_and_every_example_fits_its_own(document):
    schemas = document["components"]["schemas"]
    assert schemas.keys() >= BODIES | {"SnapshotPage", "SnapshotResource", "Problem", "ProofResource", "DiffResource"}
    num_examples = 0
    for name, schema in schemas.items():
        Draft202012Validator.check_schema(schema)
        for example in schema.get("examples", []):
            num_examples += 1
            rooted = {"$ref": f"#/components/schemas/{name}", "components": {"schemas": schemas}}
            jsonschema.validate(example, rooted, cls=Draft202012Validator)
    assert num_examples >= 18


def test_real_answers_fit_the_document(document, filled, reader, digests):
    filled.set_alias("champion", digests[2])
    filled.approve(digests[2], is_approved=True, by="Ada")
    urls = {
        "/v1/snapshots": "/v1/snapshots",
        "/v1/snapshots/{key}": "/v1/snapshots/champion",
        "/v1/snapshots/{key}/history": "/v1/snapshots/champion/history",
        "/v1/snapshots/{key}/lineage": "/v1/snapshots/champion/lineage",
        "/v1/snapshots/{key}/events": "/v1/snapshots/champion/events",
        "/v1/snapshots/{key}/proof": "/v1/snapshots/champion/proof",
        "/v1/snapshots/{key}/diff/{other}": f"/v1/snapshots/champion/diff/{digests[0]}",
        "/v1/aliases": "/v1/aliases",
        "/v1/aliases/{name}": "/v1/aliases/champion",
        "/v1/checkpoint": "/v1/checkpoint",
        "/v1/consistency": "/v1/consistency?old=1",
        "/healthz": "/healthz",
    }
    for path, url in urls.items():
        schema = document["paths"][path]["get"]["responses"]["200"]["content"]["application/json"]["schema"]
        answer = reader.get(url)
        assert answer.status_code == 200, url
        jsonschema.validate(answer.json(), schema | {"components": document["components"]}, cls=Draft202012Validator)


def test_the_document_is_plain_json_of_openapi_3_1(document):
    assert document["openapi"].startswith("3.1")
    assert document["info"]["title"] == "Legion registry"
    assert json.loads(json.dumps(document, allow_nan=False)) == document
