"""Who comes in: tokens, hosts, bounds; and that no error says more than it should."""

from __future__ import annotations

import json

import pytest
from starlette.testclient import TestClient

from legion.foundation.errors import (
    IntegrityError,
    LegionError,
    NotPortableError,
    RefusedError,
    TrainingError,
    UnknownNameError,
    UsageError,
    WorldError,
)
from legion.neuro_architecture.registry import ArchitectureRegistry
from legion.web import create_app
from legion.web.doorman import MAX_BODY_BYTES
from legion.web.problems import problem_of

WRITES = [
    ("POST", "/v1/snapshots"),
    ("PUT", "/v1/snapshots/x/tags"),
    ("DELETE", "/v1/snapshots/x/tags?tag=a"),
    ("PUT", "/v1/aliases/champion"),
    ("DELETE", "/v1/aliases/champion"),
    ("POST", "/v1/snapshots/x/approvals"),
    ("PATCH", "/v1/snapshots"),
    ("OPTIONS", "/v1/snapshots"),
    ("POST", "/no/such/route"),
]
JSON = {"Content-Type": "application/json"}


@pytest.mark.parametrize(("method", "path"), WRITES)
def test_without_a_token_configured_nobody_writes(filled, reader, refused, method, path):
    problem = refused(reader.request(method, path, headers={"Authorization": "Bearer "}), 403)
    assert problem["cause"] == "no token is configured"


@pytest.mark.parametrize(("method", "path"), WRITES)
def test_whoever_has_not_the_token_does_not_write(filled, writer, refused, method, path):
    for offered in ("", "Bearer", "Bearer wrong", "Basic Y29ycmVjdA==", "correct-horse-battery-staple", "Bearer \xe9"):
        answer = writer.request(method, path, headers={"Authorization": offered.encode("latin-1")})
        refused(answer, 401)
        assert answer.headers["www-authenticate"] == 'Bearer realm="legion.registry"'
        assert "correct-horse" not in answer.text
    assert writer.get("/healthz").json()["entries"] == 3


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost:8421", "LOCALHOST", "[::1]:8421", "[::1]"])
def test_a_server_of_this_machine_answers_to_its_own_names(reader, host):
    assert reader.get("/healthz", headers={"Host": host}).status_code == 200


@pytest.mark.parametrize("host", ["evil.example", "127.0.0.1.evil.example:8421", "localhost.", "", "[::2]:8421"])
def test_a_strangers_name_for_this_machine_is_turned_away(reader, refused, host):
    refused(reader.get("/healthz", headers={"Host": host}), 421)


def test_a_server_for_others_answers_to_any_name(registry, keys):
    with TestClient(create_app(registry, keys=keys, hosts=None), base_url="http://registry.example") as client:
        assert client.get("/healthz").status_code == 200


def test_a_page_of_another_origin_is_allowed_nothing(reader):
    answer = reader.get("/v1/snapshots", headers={"Origin": "https://evil.example"})
    assert not [name for name in answer.headers if name.startswith("access-control")]
    assert answer.headers["x-content-type-options"] == "nosniff"


def test_a_body_above_the_bound_is_refused_by_name(registry, writer, refused):
    problem = refused(writer.post("/v1/snapshots", content=b" " * (MAX_BODY_BYTES + 1), headers=JSON), 413)
    assert str(MAX_BODY_BYTES) in problem["detail"]
    pieces = (b" " * (1 << 16) for _ in range(33))
    assert str(MAX_BODY_BYTES) in refused(writer.post("/v1/snapshots", content=pieces, headers=JSON), 413)["detail"]
    body = {"version": "9", "config": {"strategy": "LoRA"}}
    padded = json.dumps(body).encode().ljust(MAX_BODY_BYTES)
    assert writer.post("/v1/snapshots", content=padded, headers=JSON).status_code == 201


@pytest.mark.parametrize(
    ("body", "said"),
    [
        (b'{"version": "1", "version": "2"}', "twice"),
        (b'{"metrics": {"x": NaN}}', "NaN"),
        (b'{"metrics": {"x": 1e999}}', "beyond every number"),
        (b'{"metrics": ' + b"[" * 5000 + b"]" * 5000 + b"}", "nested deeper"),
        (b"\xff{}", "utf-8"),
        (b"{", "the body"),
    ],
)
def test_odd_json_is_refused_by_name_whatever_it_is_called(writer, refused, body, said):
    for kind in ("application/json", "application/vnd.legion+json", "text/plain"):
        answer = writer.post("/v1/snapshots", content=body, headers={"Content-Type": kind})
        assert said in refused(answer, 400)["detail"]


def test_a_body_of_another_kind_is_refused(writer, refused):
    for kind in ("text/plain", "application/x-www-form-urlencoded", "multipart/form-data; boundary=x"):
        refused(writer.post("/v1/snapshots", content=b'{"version": "1"}', headers={"Content-Type": kind}), 400)


def test_unknown_routes_and_methods_are_problems(writer, refused):
    refused(writer.get("/v2/snapshots"), 404)
    answer = writer.post("/v1/checkpoint")
    refused(answer, 405)
    assert answer.headers["allow"] == "GET"
    for path in ("/docs", "/redoc", "/v1/snapshots/"):
        refused(writer.get(path), 404)


@pytest.mark.parametrize(
    ("error", "status"),
    [
        (UsageError("x"), 400),
        (UnknownNameError("x"), 404),
        (RefusedError("x"), 409),
        (NotPortableError("x"), 409),
        (IntegrityError("x", cause="y"), 500),
        (TrainingError("x"), 500),
        (LegionError("x"), 500),
        (WorldError("x", hint="z"), 503),
    ],
)
def test_each_error_of_the_tree_has_its_status(error, status):
    problem = problem_of(error)
    assert (problem.status, problem.code) == (status, error.code)
    assert (problem.detail, problem.cause, problem.hint) == (error.message, error.cause, error.hint)


def test_a_bug_of_ours_says_its_kind_and_no_more(registry, keys, refused, monkeypatch):
    def broken(_self):
        raise ZeroDivisionError("secret")

    monkeypatch.setattr(ArchitectureRegistry, "aliases", broken)
    app = create_app(registry, keys=keys)
    with TestClient(app, base_url="http://127.0.0.1", raise_server_exceptions=False) as client:
        answer = client.get("/v1/aliases")
    assert "ZeroDivisionError" in refused(answer, 500)["detail"]
    assert "secret" not in answer.text


def test_a_disk_that_says_no_is_503_without_its_path(registry, keys, refused, monkeypatch):
    def full(self):
        raise WorldError(f"cannot write {self.root}/x", cause="No space left on device")

    monkeypatch.setattr(ArchitectureRegistry, "aliases", full)
    with TestClient(create_app(registry, keys=keys), base_url="http://127.0.0.1") as client:
        problem = refused(client.get("/v1/aliases"), 503)
    assert problem["detail"] == "cannot write <registry>/x"
    assert problem["cause"] == "No space left on device"
