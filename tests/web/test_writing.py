"""Writes: with the token, once each, and only where what was expected still stands."""

from __future__ import annotations

import pytest

BODY = {"version": "9", "config": {"strategy": "LoRA"}, "metrics": {"accuracy": 0.5}, "tags": ["new"]}


def test_a_snapshot_is_registered_once(registry, writer):
    first = writer.post("/v1/snapshots", json=BODY)
    assert first.status_code == 201
    digest = first.json()["digest"]
    assert first.headers["location"] == f"/v1/snapshots/{digest}"
    assert registry.get(digest).metrics == {"accuracy": 0.5}
    again = writer.post("/v1/snapshots", json=BODY)
    assert again.status_code == 200
    assert again.json() == first.json()
    assert len(registry.list_all()) == 1
    assert writer.get(first.headers["location"]).json() == first.json()


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"config": {"strategy": "LoRa"}}, "LoRa"),
        ({"config": {"strategy": "LoRA", "rank": -1}}, "rank"),
        ({"tags": ["../x"]}, "climbs like a path"),
        ({"version": ""}, "version"),
        ({"metrics": [1]}, "metrics"),
        ({"files": {"a.json": "/etc/passwd"}}, "files"),
    ],
)
def test_what_the_registry_does_not_let_in_is_refused_by_name(registry, writer, refused, change, said):
    problem = refused(writer.post("/v1/snapshots", json=BODY | change), 400)
    assert said in problem["detail"] + problem.get("cause", "")
    assert len(registry.list_all()) == 0


def test_tags_are_put_on_and_taken_off_and_the_log_says_by_whom(filled, writer, digests):
    url = f"/v1/snapshots/{digests[0]}/tags"
    assert writer.put(url, json={"tags": ["x", "y"]}).json() == {"digest": digests[0], "tags": ["a", "x", "y"]}
    assert writer.delete(url, params={"tag": ["a", "x"]}).json()["tags"] == ["y"]
    size = writer.get("/healthz").json()["entries"]
    assert writer.put(url, json={"tags": ["y"]}).json()["tags"] == ["y"]
    assert writer.get("/healthz").json()["entries"] == size
    assert filled.events(digests[0])[-1][1].by == "http"


@pytest.mark.parametrize("body", [{"tags": "abc"}, {"tags": ["a\nb"]}, {"tags": ["a"], "remove": ["b"]}, {}])
def test_odd_tags_are_refused(filled, writer, digests, refused, body):
    refused(writer.put(f"/v1/snapshots/{digests[0]}/tags", json=body), 400)
    assert filled.tags(digests[0]) == ("a",)


def test_an_alias_moves_only_from_what_if_match_names(filled, writer, digests, refused):
    one, two, three = digests
    url = "/v1/aliases/champion"
    first = writer.put(url, json={"key": one}, headers={"If-None-Match": "*"})
    assert first.json() == {"alias": "champion", "digest": one, "previous": None}
    tag = first.headers["etag"]
    refused(writer.put(url, json={"key": two}, headers={"If-None-Match": "*"}), 412)
    second = writer.put(url, json={"key": two}, headers={"If-Match": tag})
    assert second.json() == {"alias": "champion", "digest": two, "previous": one}
    problem = refused(writer.put(url, json={"key": three}, headers={"If-Match": tag}), 412)
    assert two in problem["detail"]
    refused(writer.put(url, json={"key": three}, headers={"If-Match": f'"sha256:{"0" * 64}"'}), 412)
    assert filled.aliases() == {"champion": two}


def test_an_alias_moves_only_from_what_the_body_expects(filled, writer, digests, refused):
    one, two, _ = digests
    url = "/v1/aliases/champion"
    assert writer.put(url, json={"key": one, "expected": None}).status_code == 200
    refused(writer.put(url, json={"key": two, "expected": None}), 409)
    assert writer.put(url, json={"key": two, "expected": one}).json()["previous"] == one
    assert writer.put(url, json={"key": one}).json()["previous"] == two
    assert filled.aliases() == {"champion": one}


@pytest.mark.parametrize(
    ("headers", "body"),
    [
        ({"If-Match": "champion"}, {}),
        ({"If-Match": "*"}, {}),
        ({"If-Match": f'W/"sha256:{"0" * 64}"'}, {}),
        ({"If-None-Match": f'"sha256:{"0" * 64}"'}, {}),
        ({"If-Match": f'"sha256:{"0" * 64}"', "If-None-Match": "*"}, {}),
        ({"If-None-Match": "*"}, {"expected": None}),
    ],
)
def test_a_precondition_that_says_no_single_thing_is_refused(filled, writer, digests, refused, headers, body):
    refused(writer.put("/v1/aliases/champion", json={"key": digests[0]} | body, headers=headers), 400)
    assert filled.aliases() == {}


def test_an_alias_is_taken_away(filled, writer, digests, refused):
    filled.set_alias("champion", digests[0])
    other = f'"{digests[1]}"'
    refused(writer.delete("/v1/aliases/champion", headers={"If-Match": other}), 412)
    answer = writer.delete("/v1/aliases/champion", headers={"If-Match": f'"{digests[0]}"'})
    assert answer.json() == {"alias": "champion", "digest": None, "previous": digests[0]}
    assert filled.aliases() == {}


def test_an_alias_cannot_name_what_is_not_there(filled, writer, refused):
    refused(writer.put("/v1/aliases/champion", json={"key": "champignon"}), 404)
    refused(writer.put("/v1/aliases/..", json={"key": "champignon"}), 404)
    refused(writer.put("/v1/aliases/a b", json={"key": filled.list_all()[0].digest}), 400)


def test_an_approval_sent_again_with_its_key_is_written_once(filled, writer, digests, refused):
    url, body = f"/v1/snapshots/{digests[0]}/approvals", {"by": "Ada", "is_approved": True, "reason": "reviewed"}
    key = {"Idempotency-Key": "6f0d2c"}
    first = writer.post(url, json=body, headers=key)
    assert (first.status_code, first.json()) == (201, {"entry": 3})
    assert writer.post(url, json=body, headers=key).json() == {"entry": 3}
    for other in (body | {"is_approved": False}, body | {"by": "Eve"}):
        assert "entry 3" in refused(writer.post(url, json=other, headers=key), 409)["detail"]
    refused(writer.post(f"/v1/snapshots/{digests[1]}/approvals", json=body, headers=key), 409)
    assert writer.get("/healthz").json()["entries"] == 4
    assert writer.post(url, json=body).json() == {"entry": 4}


@pytest.mark.parametrize(
    ("body", "key"),
    [
        ({"by": "Ada", "is_approved": "yes"}, "k"),
        ({"by": "", "is_approved": True}, "k"),
        ({"is_approved": True}, "k"),
        ({"by": "Ada", "is_approved": True, "reason": "x" * 4097}, "k"),
        ({"by": "Ada", "is_approved": True}, "a b"),
        ({"by": "Ada", "is_approved": True}, "k" * 101),
    ],
)
def test_an_approval_must_say_yes_or_no_and_who(filled, writer, digests, refused, body, key):
    refused(writer.post(f"/v1/snapshots/{digests[0]}/approvals", json=body, headers={"Idempotency-Key": key}), 400)
    assert writer.get("/healthz").json()["entries"] == 3
