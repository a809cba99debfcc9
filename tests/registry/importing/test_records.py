from __future__ import annotations

import json

import pytest

from legion.foundation.canonical import canonical_json, digest_bytes, short
from legion.foundation.errors import IntegrityError, InvalidValueError
from legion.neuro_architecture.registry.importing import read_records
from legion.neuro_architecture.spec.architecture import parse_architecture
from legion.neuro_architecture.spec.semantics import semantic_hash
from legion.neuro_architecture.spec.snapshot import ArchitectureSnapshot

NOTE = b"what was seen\n"


def write_registry(root):
    """A registry of format 1 with three records, as its writer laid it out."""
    (root / "records").mkdir(parents=True)
    blob = digest_bytes(NOTE)
    place = root / "blobs" / "sha256" / blob[7:9] / blob[7:]
    place.parent.mkdir(parents=True)
    place.write_bytes(NOTE)
    previous, parents = None, {}
    for sequence, strategy in enumerate(("LoRA", "MoE", "LoRA"), start=1):
        architecture = parse_architecture({"strategy": strategy})
        name = semantic_hash(architecture)
        revision, parent = parents.get(name, (0, None))
        snapshot = ArchitectureSnapshot(
            version=f"1.{sequence}",
            semantic_hash=name,
            revision=revision + 1,
            config=architecture.to_dict(),
            metrics={"accuracy": {"value": 0.5, "n": 10}},
            provenance={"commit": "abc"},
            tags=("a",),
            blobs={"note.txt": blob} if sequence == 1 else {},
            parent=parent,
            created_at="2026-01-01T00:00:00Z",
        )
        parents[name] = (snapshot.revision, snapshot.digest)
        previous = write_record(root, sequence, previous, snapshot)
    return root


def write_record(root, sequence, previous, snapshot):
    record = {"format": 1, "kind": "snapshot", "sequence": sequence, "previous": previous}
    content = canonical_json(record | {"digest": snapshot.digest, "snapshot": snapshot.to_dict()})
    digest = digest_bytes(content)
    (root / "records" / f"{sequence:08d}-{short(digest)}.json").write_bytes(content)
    (root / "head.json").write_bytes(canonical_json({"sequence": sequence, "digest": digest}) + b"\n")
    return digest


@pytest.fixture
def root(tmp_path):
    return write_registry(tmp_path / "old")


def records_of(root):
    return sorted((root / "records").iterdir())


def test_every_record_becomes_a_draft_with_its_files_and_its_own_measurements(root):
    report = read_records(root)
    assert report.skipped == ()
    assert [draft.version for draft in report.drafts] == ["1.1", "1.2", "1.3"]
    first = report.drafts[0]
    assert first.metrics == {"accuracy": {"value": 0.5, "n": 10}}
    assert first.files["note.txt"].read_bytes() == NOTE
    assert first.tags == ("a",)
    source = first.provenance["imported_from"]
    assert (source["kind"], source["sequence"], source["created_at"]) == ("records", 1, "2026-01-01T00:00:00Z")
    assert first.provenance["commit"] == "abc"
    assert read_records(root) == report


@pytest.mark.parametrize("position", [0, 1, 2])
def test_a_missing_record_stops_everything(root, position):
    records_of(root)[position].unlink()
    with pytest.raises(IntegrityError):
        read_records(root)


def test_every_flipped_byte_of_a_record_stops_everything(root):
    path = records_of(root)[1]
    content = path.read_bytes()
    for position in range(0, len(content), 11):
        path.write_bytes(content[:position] + bytes([content[position] ^ 1]) + content[position + 1 :])
        with pytest.raises(IntegrityError):
            read_records(root)


def test_records_that_change_places_stop_everything(root):
    second, third = records_of(root)[1:]
    second_place, third_place = "00000003" + second.name[8:], "00000002" + third.name[8:]
    second.rename(second.with_name(second_place))
    third.rename(third.with_name(third_place))
    with pytest.raises(IntegrityError):
        read_records(root)


def test_a_record_rewritten_with_its_own_digests_breaks_the_chain(root):
    path = records_of(root)[1]
    said = json.loads(path.read_bytes())["snapshot"]
    snapshot = ArchitectureSnapshot.model_validate(said | {"metrics": {"accuracy": 0.99}})
    head = (root / "head.json").read_bytes()
    previous = digest_bytes(records_of(root)[0].read_bytes())
    path.unlink()
    write_record(root, 2, previous, snapshot)
    (root / "head.json").write_bytes(head)
    with pytest.raises(IntegrityError, match="chain breaks"):
        read_records(root)


def test_a_head_may_lag_by_one_record_and_no_more(root):
    contents = [path.read_bytes() for path in records_of(root)]
    for sequence in (2, 3):
        head = {"sequence": sequence, "digest": digest_bytes(contents[sequence - 1])}
        (root / "head.json").write_bytes(canonical_json(head))
        assert len(read_records(root).drafts) == 3
    for head in ({"sequence": 1, "digest": digest_bytes(contents[0])}, {"sequence": 3, "digest": "sha256:" + "0" * 64}):
        (root / "head.json").write_bytes(canonical_json(head))
        with pytest.raises(IntegrityError):
            read_records(root)
    (root / "head.json").unlink()
    with pytest.raises(IntegrityError, match="missing"):
        read_records(root)


def test_a_snapshot_whose_files_are_gone_or_altered_is_left_out_and_told(root):
    (blob,) = [path for path in (root / "blobs").rglob("*") if path.is_file()]
    blob.write_bytes(b"other")
    report = read_records(root)
    assert [draft.version for draft in report.drafts] == ["1.2", "1.3"]
    assert "altered" in report.skipped[0].reason
    blob.unlink()
    assert "missing" in read_records(root).skipped[0].reason


def test_strangers_among_the_records_are_told(root):
    (root / "records" / "notes.txt").write_text("x")
    assert read_records(root).skipped[0].origin == "records/notes.txt"


def test_what_is_no_registry_is_refused(tmp_path):
    with pytest.raises(InvalidValueError, match="format 1"):
        read_records(tmp_path)
