from __future__ import annotations

import json
import shutil

import pytest

from legion.foundation.errors import IntegrityError
from legion.neuro_architecture.registry import ArchitectureRegistry


def records_of(root):
    return sorted((root / "records").iterdir())


def findings_of(root):
    report = ArchitectureRegistry(root).verify()
    assert report.is_clean == (report.problems == [])
    return {(finding.problem, finding.path) for finding in report.findings}


def overwrite(path, content):
    path.chmod(0o644)
    path.write_bytes(content)


def test_sound_registry_has_no_findings(filled, root):
    report = filled.verify()
    assert report.is_clean
    assert (report.num_records, report.num_blobs, report.leftovers) == (3, 1, ())
    assert json.loads(json.dumps(report.to_dict()))["is_clean"] is True


def test_empty_registry_is_sound(registry):
    assert registry.verify().is_clean


def test_every_flipped_byte_of_every_file_is_found(filled, root):
    for path in [*records_of(root), *[p for p in (root / "blobs").rglob("*") if p.is_file()]]:
        content = path.read_bytes()
        for position in range(0, len(content), 7):
            flipped = bytes([content[position] ^ 1])
            overwrite(path, content[:position] + flipped + content[position + 1 :])
            assert str(path.relative_to(root)) in {place for _, place in findings_of(root)}, position
        overwrite(path, content)
    assert findings_of(root) == set()


@pytest.mark.parametrize("position", [0, 1, 2])
def test_deleted_record_is_found(filled, root, position):
    path = records_of(root)[position]
    path.unlink()
    assert ("missing", f"records/{position + 1:08d}-*.json") in findings_of(root)
    with pytest.raises(IntegrityError):
        ArchitectureRegistry(root).list_all()
    with pytest.raises(IntegrityError):
        filled.list_all()


def test_deleted_record_names_it_to_a_reader_that_knew_it(filled, root):
    path = records_of(root)[1]
    filled.list_all()
    path.unlink()
    with pytest.raises(IntegrityError, match=path.name):
        filled.list_all()


def test_renamed_record_is_found(filled, root):
    path = records_of(root)[1]
    path.rename(path.with_name("00000002-0123456789ab.json"))
    assert findings_of(root) == {("renamed", "records/00000002-0123456789ab.json")}
    with pytest.raises(IntegrityError, match="renamed"):
        ArchitectureRegistry(root).list_all()


def test_swapped_records_are_found(filled, root):
    second, third = records_of(root)[1:]
    swapped = [third.with_name("00000002" + third.name[8:]), second.with_name("00000003" + second.name[8:])]
    third.rename(swapped[0])
    second.rename(swapped[1])
    found = findings_of(root)
    assert {("reordered", f"records/{path.name}") for path in swapped} <= found
    with pytest.raises(IntegrityError):
        ArchitectureRegistry(root).list_all()


def test_duplicated_record_is_found(filled, root):
    path = records_of(root)[1]
    shutil.copy(path, path.with_name("00000004" + path.name[8:]))
    assert ("reordered", f"records/00000004{path.name[8:]}") in findings_of(root)


def test_stranger_among_the_records_is_found(filled, root):
    (root / "records" / "notes.json").write_text("{}")
    assert findings_of(root) == {("unexpected", "records/notes.json")}


def test_record_rewritten_with_its_own_digests_breaks_the_chain(filled, root):
    """Who recomputes a record's name and digest still contradicts the record after it."""
    from legion.foundation.canonical import digest_bytes
    from legion.neuro_architecture.registry.log import Record, record_name

    path = records_of(root)[1]
    record = Record.model_validate_json(path.read_bytes())
    forged = record.snapshot.model_copy(update={"metrics": {"accuracy": 0.99}})
    content = record.model_copy(update={"snapshot": forged, "digest": forged.digest}).content()
    path.unlink()
    path.with_name(record_name(2, digest_bytes(content))).write_bytes(content)
    assert ("chain broken", f"records/{records_of(root)[2].name}") in findings_of(root)
    with pytest.raises(IntegrityError, match="chain breaks"):
        ArchitectureRegistry(root).list_all()


def test_damaged_and_missing_head_are_found(filled, root):
    head = root / "head.json"
    content = head.read_bytes()
    overwrite(head, b"{")
    assert findings_of(root) == {("altered", "head.json")}
    overwrite(head, content.replace(b'"sequence":3', b'"sequence":1'))
    assert findings_of(root) == {("altered", "head.json")}
    head.unlink()
    assert findings_of(root) == {("missing", "head.json")}


def test_missing_and_foreign_blobs_are_found(filled, root):
    (blob,) = [path for path in (root / "blobs").rglob("*") if path.is_file()]
    misplaced = root / "blobs" / "sha256" / blob.name
    blob.rename(misplaced)
    place = str(blob.relative_to(root))
    assert findings_of(root) == {("missing", place), ("unexpected", str(misplaced.relative_to(root)))}


def test_leftovers_of_a_killed_writer_are_told_and_harmless(filled, root, weights):
    (root / "tmp" / "torn.tmp").write_bytes(b"half")
    orphan = root / "blobs" / "sha256" / "5f" / ("5f" + "0" * 62)
    orphan.parent.mkdir()
    orphan.write_bytes(b"x")
    assert findings_of(root) == {("altered", str(orphan.relative_to(root)))}
    orphan.unlink()
    report = filled.verify()
    assert report.is_clean
    assert report.leftovers == ("tmp/torn.tmp",)
    filled.register("9", {"strategy": "LoRA"}, {})
    assert filled.verify().leftovers == ()


def test_head_that_lags_by_one_record_is_moved_on(filled, root):
    head = root / "head.json"
    earlier = head.read_bytes()
    snapshot = filled.register("9", {"strategy": "LoRA"}, {})
    later = head.read_bytes()
    overwrite(head, earlier)
    assert findings_of(root) == set()
    assert ArchitectureRegistry(root).register("9", {"strategy": "LoRA"}, {}) == snapshot
    assert head.read_bytes() == later
