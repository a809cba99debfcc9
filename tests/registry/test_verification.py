from __future__ import annotations

import json

import pytest

from legion.foundation.canonical import canonical_json
from legion.foundation.errors import IntegrityError
from legion.neuro_architecture.registry import ArchitectureRegistry
from legion.neuro_architecture.registry.translog import TransparencyLog


def findings_of(root):
    report = ArchitectureRegistry(root).verify()
    assert report.is_clean == (report.problems == [])
    return {(finding.problem, finding.path) for finding in report.findings}


def overwrite(path, content):
    path.chmod(0o644)
    path.write_bytes(content)


def log_of(root):
    from legion.foundation.settings import Settings

    return TransparencyLog(root, keys=Settings.load().keys)


def test_sound_registry_has_no_findings(filled):
    report = filled.verify()
    assert report.is_clean
    assert (report.num_entries, report.num_blobs, report.leftovers) == (3, 1, ())
    assert json.loads(json.dumps(report.to_dict()))["is_clean"] is True


def test_empty_registry_is_sound(registry):
    assert registry.verify().is_clean


def test_flipped_bytes_of_every_file_are_found_in_their_file(filled, root):
    paths = [path for part in ("segments", "blobs") for path in (root / part).rglob("*") if path.is_file()]
    paths += [root / name for name in ("origin", "key.pub", "checkpoint")]
    for path in paths:
        content = path.read_bytes()
        for position in range(0, len(content), 41):
            flipped = bytes([content[position] ^ 1])
            overwrite(path, content[:position] + flipped + content[position + 1 :])
            assert str(path.relative_to(root)) in {place for _, place in findings_of(root)}, (path, position)
        overwrite(path, content)
    assert findings_of(root) == set()


def test_missing_and_foreign_blobs_are_found(filled, root):
    (blob,) = [path for path in (root / "blobs").rglob("*") if path.is_file()]
    misplaced = root / "blobs" / "sha256" / blob.name
    blob.rename(misplaced)
    assert findings_of(root) == {
        ("missing", f"blobs/{blob.name[:12]}"),
        ("unexpected", str(misplaced.relative_to(root))),
    }


def test_leftovers_of_a_killed_writer_are_told_and_harmless(filled, root):
    (root / "tmp" / "torn.tmp").write_bytes(b"half")
    orphan = root / "blobs" / "sha256" / "5f" / ("5f" + "0" * 62)
    orphan.parent.mkdir()
    orphan.write_bytes(b"x")
    assert findings_of(root) == {("altered", str(orphan.relative_to(root)))}
    orphan.unlink()
    report = filled.verify()
    assert report.is_clean
    assert report.leftovers == ("tmp/torn.tmp",)


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"revision": 7}, "revision 7"),
        ({"parent": "sha256:" + "0" * 64}, "revision 2"),
    ],
)
def test_a_signed_entry_that_cannot_follow_is_found(filled, root, change, told):
    """Whoever has the key and writes nonsense is found by what the entries say one after another."""
    snapshot = filled.register("9", {"strategy": "MoE"}, {}).model_copy(update={"version": "10"})
    entry = {"at": "2026-01-01T00:00:00Z", "by": None, "key": None, "kind": "snapshot"}
    forged = snapshot.model_copy(update={"revision": 3, "parent": snapshot.digest} | change)
    log_of(root).append([canonical_json(entry | {"snapshot": forged.to_dict()})])
    (finding,) = ArchitectureRegistry(root).verify().findings
    assert (finding.problem, finding.entry) == ("chain broken", 4)
    assert told in finding.detail


def test_an_alias_that_was_elsewhere_before_is_found(filled, root):
    first = filled.list_all()[0]
    entry = {
        "at": "2026-01-01T00:00:00Z",
        "by": None,
        "key": None,
        "kind": "alias",
        "alias": "champion",
        "snapshot": first.digest,
        "previous": first.digest,
    }
    log_of(root).append([canonical_json(entry)])
    (finding,) = ArchitectureRegistry(root).verify().findings
    assert "champion" in finding.detail


def test_an_entry_that_no_version_writes_stops_every_read(filled, root):
    log_of(root).append([b'{"kind":"surprise"}'])
    with pytest.raises(IntegrityError, match="entry 3"):
        ArchitectureRegistry(root).list_all()


def test_truncated_log_stops_every_read(filled, root):
    filled.list_all()
    (segment,) = (root / "segments").glob("*.seg")
    content = segment.read_bytes()
    overwrite(segment, content[: len(content) // 2])
    assert ArchitectureRegistry(root).verify().findings
    with pytest.raises(IntegrityError):
        ArchitectureRegistry(root).list_all()


@pytest.mark.parametrize(
    "metrics",
    [
        {},
        {"parent": "sha256:" + "1" * 64, "revision": 9, "semantic_hash": "0" * 16},
        {"note": ',"revision":7,"semantic_hash":"0123456789abcdef"', "revision": 3},
        {"deep": {"parent": None, "provenance": {"revision": 5}}},
    ],
)
def test_words_of_the_record_inside_its_evidence_confuse_no_check(registry, weights, metrics):
    """What is read off the bytes is what stands in the record, not what its evidence happens to say."""
    for version in "123":
        registry.register(version, {"strategy": "LoRA"}, metrics, {"parent": metrics, "revision": 2}, ["a"])
    registry.register("4", {"strategy": "LoRA"}, metrics, files={weights.name: weights})
    report = registry.verify()
    assert report.problems == []
    assert report.num_blobs == 1
