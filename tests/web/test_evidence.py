"""Proofs, entries and tiles, verified as a client does that trusts nobody."""

from __future__ import annotations

import json

import pytest

from legion.neuro_architecture.registry.drafts import SnapshotDraft
from legion.neuro_architecture.registry.translog import (
    Checkpoint,
    ConsistencyProof,
    InclusionProof,
    VerifierKey,
    hash_leaf,
    verify_note,
)
from legion.neuro_architecture.registry.translog.merkle import CompactRange


@pytest.fixture
def long(registry):
    """A log of 300 entries: one whole tile and a part of one."""
    registry.register_all(
        SnapshotDraft(version=str(number), config={"strategy": "LoRA"}, metrics={"n": number}) for number in range(300)
    )
    return registry


def test_a_proof_leads_from_the_entrys_bytes_to_a_signed_root(filled, reader, digests):
    found = reader.get(f"/v1/snapshots/{digests[1]}/proof").json()
    proof = InclusionProof.parse(found["inclusion"])
    note = found["checkpoint"]["note"].encode()
    verify_note(note, VerifierKey.parse(str(filled.key)))
    checkpoint = Checkpoint.parse(note)
    assert proof.verify()
    assert hash_leaf(found["entry"].encode()) == proof.leaf_hash
    assert (checkpoint.root, checkpoint.size) == (proof.root, proof.size)
    assert found["checkpoint"]["vkey"] == str(filled.key)


def test_both_forms_of_the_checkpoint_are_the_latest(filled, reader):
    plain = reader.get("/v1/checkpoint").json()
    answer = reader.get("/checkpoint")
    assert answer.headers["content-type"] == "text/plain; charset=utf-8"
    assert answer.content == filled.checkpoint().note == plain["note"].encode()
    assert plain["size"] == 3


def test_consistency_is_proved_between_two_sizes(long, reader, refused):
    proof = ConsistencyProof.parse(reader.get("/v1/consistency", params={"old": 7, "new": 290}).json())
    assert proof.verify()
    assert (proof.old, proof.new) == (7, 290)
    assert ConsistencyProof.parse(reader.get("/v1/consistency", params={"old": 7}).json()).new == 300
    refused(reader.get("/v1/consistency", params={"old": 8, "new": 301}), 400)
    refused(reader.get("/v1/consistency"), 400)


def test_entries_are_lines_of_the_very_bytes_that_are_hashed(long, reader):
    lines = reader.get("/v1/entries").content.split(b"\n")
    assert lines.pop() == b""
    tree = CompactRange()
    tree.extend(map(hash_leaf, lines))
    assert tree.root() == long.checkpoint().root
    assert [json.loads(line)["snapshot"]["version"] for line in lines] == [str(number) for number in range(300)]


def test_a_part_of_the_entries_is_that_part(long, reader):
    everything = reader.get("/v1/entries").content.splitlines()
    for start, stop in ((5, 7), (299, 300), (300, 300), (0, 0), (250, 260)):
        part = reader.get("/v1/entries", params={"start": start, "stop": stop})
        assert part.headers["content-type"] == "application/jsonl"
        assert part.content.splitlines() == everything[start:stop]


def test_an_entry_damaged_on_the_way_breaks_the_answer_off(long, reader):
    assert reader.get("/v1/entries").status_code == 200
    (segment,) = (long.root / "segments").glob("*.seg")
    content = segment.read_bytes()
    place = content.rindex(b'"version":"299"')
    segment.write_bytes(content[:place] + content[place:].replace(b"299", b"298", 1))
    with pytest.raises(RuntimeError, match="response already started"):
        reader.get("/v1/entries")


@pytest.mark.parametrize("parameters", [{"start": 4}, {"start": 2, "stop": 1}, {"stop": 4}, {"start": -1}])
def test_entries_that_are_not_there_are_refused_before_anything_is_sent(filled, reader, refused, parameters):
    refused(reader.get("/v1/entries", params=parameters), 400)


def test_tiles_hash_up_to_the_signed_root(long, reader):
    whole, part = reader.get("/tile/0/000"), reader.get("/tile/0/001.p/44")
    assert whole.headers["cache-control"] == "public, max-age=31536000, immutable"
    assert part.headers["cache-control"] == "no-cache"
    row = whole.content + part.content
    assert len(row) == 300 * 32
    tree = CompactRange()
    completed = tree.extend([row[at : at + 32] for at in range(0, len(row), 32)])
    assert tree.root() == long.checkpoint().root
    assert [(1, reader.get("/tile/1/000.p/1").content)] == completed
    assert reader.get("/tile/0/000.p/3").content == row[:96]


def test_a_tile_that_is_not_on_the_disk_is_made_from_the_entries(long, reader):
    path = long.root / "tile" / "0" / "000"
    kept = path.read_bytes()
    upper = reader.get("/tile/1/000.p/1").content
    path.unlink()
    assert reader.get("/tile/0/000").content == kept
    assert reader.get("/tile/1/000.p/1").content == upper


def test_what_is_no_tile_of_the_tree_is_not_found(long, reader, refused):
    for path in (
        "0/001",
        "0/001.p/45",
        "0/000.p/256",
        "0/000.p/0",
        "1/000",
        "2/000.p/1",
        "0/0",
        "0/x000/000",
        "0/../../key.pub",
        "0/%2e%2e/%2e%2e/key.pub",
        "entries/000",
        "0/000/",
        "999/000",
        "0/" + "9" * 5000,
    ):
        refused(reader.get(f"/tile/{path}"), 404)


def test_a_flipped_byte_of_the_log_answers_with_its_cause(filled, reader, refused, tmp_path):
    (segment,) = (tmp_path / "registry" / "segments").glob("*.seg")
    content = bytearray(segment.read_bytes())
    content[40] ^= 1
    segment.write_bytes(content)
    problem = refused(reader.get("/v1/snapshots"), 500)
    assert problem["code"] == "LGN-402"
    assert str(tmp_path) not in str(problem)
