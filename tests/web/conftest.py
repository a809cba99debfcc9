from __future__ import annotations

import json

import pytest
from starlette.testclient import TestClient

from legion.neuro_architecture.registry import ArchitectureRegistry
from legion.web import WriteToken, create_app

TOKEN = "correct-horse-battery-staple"
BEARER = {"Authorization": f"Bearer {TOKEN}"}


@pytest.fixture
def keys(tmp_path):
    return tmp_path / "keys"


@pytest.fixture
def registry(tmp_path, keys):
    return ArchitectureRegistry(tmp_path / "registry", keys=keys, by="http")


@pytest.fixture
def filled(registry, tmp_path):
    """Three snapshots of two architectures, the first with a file; entries 0 to 2."""
    card = tmp_path / "card.json"
    card.write_text(json.dumps({"author": "Ada"}))
    registry.register("1", {"strategy": "LoRA"}, {"accuracy": 0.8}, tags=["a"], files={"card.json": card})
    registry.register("1", {"strategy": "MoE"}, {"accuracy": 0.7}, tags=["b"])
    registry.register("2", {"strategy": "LoRA"}, {"accuracy": 0.9}, tags=["a", "b"])
    return registry


@pytest.fixture
def reader(registry, keys):
    """A client of a server without a token."""
    with TestClient(create_app(registry, keys=keys), base_url="http://127.0.0.1:8421") as client:
        yield client


@pytest.fixture
def writer(registry, keys):
    """A client that sends the server's token."""
    app = create_app(registry, keys=keys, token=WriteToken.of(TOKEN, where="a test"))
    with TestClient(app, base_url="http://127.0.0.1:8421", headers=BEARER) as client:
        yield client


@pytest.fixture
def digests(filled):
    return [snapshot.digest for snapshot in filled.list_all()]


@pytest.fixture
def refused():
    """Asserts that an answer is a problem of this status, and gives it."""

    def check(answer, status):
        assert answer.status_code == status, answer.text
        assert answer.headers["content-type"] == "application/problem+json"
        problem = answer.json()
        assert problem["status"] == status
        assert problem["title"]
        assert problem["detail"]
        assert "Traceback" not in answer.text
        return problem

    return check
