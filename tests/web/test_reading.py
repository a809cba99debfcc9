"""What anybody may read, and that it is what the registry says."""

from __future__ import annotations

import pytest

from legion.neuro_architecture.registry import verify_bundle


def _entries(answer):
    assert answer.status_code == 200, answer.text
    return [item["entry"] for item in answer.json()["snapshots"]]


def _walk(client, **parameters):
    """All pages, a snapshot each."""
    found, after = [], None
    while True:
        answer = client.get(
            "/v1/snapshots", params=parameters | {"limit": 1} | ({} if after is None else {"after": after})
        )
        found += _entries(answer)
        after = answer.json()["next"]
        if after is None:
            return found


def test_an_empty_registry_has_an_empty_page_and_no_checkpoint(reader, refused):
    assert reader.get("/v1/snapshots").json() == {"snapshots": [], "next": None}
    assert reader.get("/v1/aliases").json() == {"aliases": {}}
    assert reader.get("/healthz").json() == {"status": "ok", "entries": 0, "takes_writes": False}
    refused(reader.get("/v1/checkpoint"), 404)
    refused(reader.get("/checkpoint"), 404)
    assert reader.get("/v1/entries").text == ""


@pytest.mark.parametrize(
    ("parameters", "expected"),
    [
        ({}, [0, 1, 2]),
        ({"descending": True}, [2, 1, 0]),
        ({"tag": "a"}, [0, 2]),
        ({"tag": ["a", "b"]}, [2]),
        ({"query": "accuracy > 0.75"}, [0, 2]),
        ({"query": "accuracy > 0.75 or tag:b", "tag": "b"}, [1, 2]),
        ({"query": "accuracy > 0.75", "descending": True}, [2, 0]),
        ({"order": "accuracy"}, [1, 0, 2]),
        ({"order": "accuracy", "descending": True}, [2, 0, 1]),
        ({"tag": 'no such "tag"\\'}, []),
    ],
)
def test_pages_in_a_row_are_the_whole_list(filled, reader, parameters, expected):
    assert _entries(reader.get("/v1/snapshots", params=parameters)) == expected
    assert _walk(reader, **parameters) == expected


def test_a_page_behind_the_end_is_empty(filled, reader):
    assert reader.get("/v1/snapshots", params={"after": 99}).json() == {"snapshots": [], "next": None}
    assert _entries(reader.get("/v1/snapshots", params={"after": 99, "tag": "a"})) == []


def test_a_walk_by_a_metric_is_refused_when_its_place_was_lost(filled, reader, refused):
    refused(reader.get("/v1/snapshots", params={"order": "accuracy", "tag": "a", "after": 1}), 409)


def test_a_mistake_in_a_query_is_shown_in_the_callers_own_text(reader, refused):
    problem = refused(reader.get("/v1/snapshots", params={"query": "accuracy >", "tag": "a"}), 400)
    assert problem["code"] == "LGN-201"
    assert "tag:" not in str(problem)


def test_a_snapshot_is_found_by_each_of_its_names(filled, reader, digests):
    filled.set_alias("champion", digests[2])
    filled.tag(digests[2], add=["late"])
    for key in ("champion", digests[2], digests[2][7:23], filled.get(digests[2]).semantic_hash):
        found = reader.get(f"/v1/snapshots/{key}").json()
        assert found["digest"] == digests[2]
    assert found["entry"] == 2
    assert found["aliases"] == ["champion"]
    assert found["tags_now"] == ["a", "b", "late"]
    assert found["snapshot"] == filled.get(digests[2]).to_dict()


@pytest.mark.parametrize("route", ["", "/history", "/lineage", "/events", "/proof", "/bundle", "/diff/champion"])
def test_an_unknown_snapshot_is_not_found(filled, reader, refused, route):
    problem = refused(reader.get(f"/v1/snapshots/champignon{route}"), 404)
    assert problem["type"] == "urn:legion:error:LGN-204"
    assert "champignon" in problem["detail"]


def test_history_and_lineage_follow_the_revisions(filled, reader, digests):
    history = reader.get(f"/v1/snapshots/{digests[0]}/history").json()
    assert [item["digest"] for item in history["revisions"]] == [digests[0], digests[2]]
    assert reader.get(f"/v1/snapshots/{digests[2]}/lineage").json() == {
        "digest": digests[2],
        "ancestors": [digests[0]],
        "children": [],
    }


def test_events_are_the_entries_that_speak_of_a_snapshot(filled, reader, digests):
    filled.approve(digests[1], is_approved=True, by="Ada")
    events = reader.get(f"/v1/snapshots/{digests[1]}/events").json()["events"]
    assert [(item["entry"], item["event"]["kind"]) for item in events] == [(1, "snapshot"), (3, "approval")]


def test_a_diff_says_what_differs_and_leaves_out_what_is_absent(filled, reader, digests):
    found = reader.get(f"/v1/snapshots/{digests[0]}/diff/{digests[2]}").json()
    assert found["kinship"] == "next revision"
    assert found["tags"] == {"added": ["b"], "removed": []}
    assert [change["path"] for change in found["files"]] == ["card.json"]
    assert "after" not in found["files"][0]
    assert found["metrics"][0]["difference"] == pytest.approx(0.1)


def test_a_bundle_is_a_file_that_proves_itself(filled, reader, digests, tmp_path):
    answer = reader.get(f"/v1/snapshots/{digests[0]}/bundle")
    path = tmp_path / "bundle.tar"
    path.write_bytes(answer.content)
    report = verify_bundle(path, trusted=[str(filled.key)])
    assert report.is_sound
    assert report.snapshot == digests[0]
    assert int(answer.headers["content-length"]) == len(answer.content)


def test_a_damaged_file_gives_no_bundle_and_no_path_of_the_server(filled, reader, digests, refused, tmp_path):
    (blob,) = (path for path in (tmp_path / "registry" / "blobs").rglob("*") if path.is_file())
    blob.chmod(0o600)
    blob.write_bytes(b"{}")
    problem = refused(reader.get(f"/v1/snapshots/{digests[0]}/bundle"), 500)
    assert problem["code"] == "LGN-402"
    assert str(tmp_path) not in str(problem)


def test_an_alias_is_read_with_an_etag_of_what_it_names(filled, reader, digests, refused):
    filled.set_alias("champion", digests[1])
    answer = reader.get("/v1/aliases/champion")
    assert answer.json() == {"alias": "champion", "digest": digests[1], "previous": None}
    assert answer.headers["etag"] == f'"{digests[1]}"'
    assert reader.get("/v1/aliases").json() == {"aliases": {"champion": digests[1]}}
    refused(reader.get("/v1/aliases/nobody"), 404)


def test_what_another_process_registers_is_seen(filled, reader, registry, keys):
    from legion.neuro_architecture.registry import ArchitectureRegistry

    ArchitectureRegistry(registry.root, keys=keys).register("3", {"strategy": "LoRA"}, {})
    assert _entries(reader.get("/v1/snapshots")) == [0, 1, 2, 3]
    assert reader.get("/healthz").json()["entries"] == 4
