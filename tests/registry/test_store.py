from __future__ import annotations

import math
import os
import pickle
import shutil
import threading
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import settings as settings_of_hypothesis
from hypothesis import strategies as st

from legion.foundation.canonical import canonical_json
from legion.foundation.errors import IntegrityError, InvalidValueError, RefusedError, UnknownNameError
from legion.foundation.settings import Settings
from legion.neuro_architecture import ArchitectureRegistry
from legion.neuro_architecture.registry import SnapshotDraft, verify_bundle
from legion.neuro_architecture.registry.translog import TransparencyLog


def files_of(root: Path) -> dict[str, bytes]:
    return {str(path.relative_to(root)): path.read_bytes() for path in sorted(root.rglob("*")) if path.is_file()}


def test_snippet_of_the_specification_runs(settings):
    registry = ArchitectureRegistry()
    snapshot = registry.register(
        version="4.1.0",
        config={"strategy": "LoRA", "rank": 8},
        metrics={"accuracy": 0.92, "latency_ms": 45},
        provenance={"branch": "main", "commit": "abc123"},
        tags=["production", "lora"],
    )
    assert len(snapshot.semantic_hash) == 16
    assert registry.get("a1b2c3d4e5f6g7h8") is None
    assert registry.get(snapshot.semantic_hash) == snapshot
    assert registry.get_by_tag("production") == [snapshot]
    assert registry.list_all() == [snapshot]
    assert (settings.workspace / "artifacts" / "architecture_registry" / "segments").is_dir()
    assert ArchitectureRegistry.of(settings).root == registry.root


def test_key_order_and_spelled_out_defaults_do_not_matter(registry):
    short = registry.register("1", {"strategy": "LoRA", "rank": 8}, {})
    long = registry.register("1", {"dropout": 0.0, "alpha": 16, "rank": 8, "layers": None, "strategy": "LoRA"}, {})
    assert long == short
    assert long.config["target_modules"] == ["all-linear"]


def test_same_content_twice_writes_nothing(filled, root, weights):
    before = files_of(root)
    again = filled.register("1", {"strategy": "LoRA"}, {"accuracy": 0.8}, None, ["a"], files={weights.name: weights})
    assert again == filled.list_all()[0]
    after = files_of(root)
    assert {name for name in before if before[name] != after[name]} <= {"index.sqlite-shm"}
    assert set(after) == set(before)


def test_other_evidence_is_the_next_revision_of_its_parent(filled):
    first, _, second = filled.list_all()
    assert (first.revision, first.parent) == (1, None)
    assert (second.revision, second.parent) == (2, first.digest)
    assert filled.get(first.semantic_hash) == second
    assert filled.history(first.semantic_hash) == [first, second]


@pytest.mark.parametrize("change", ["version", "metrics", "provenance", "tags", "files"])
def test_each_part_of_the_content_makes_a_revision(registry, weights, change):
    content = {"version": "1", "metrics": {"a": 1}, "provenance": {"b": 1}, "tags": ["t"], "files": {}}
    changed = {
        "version": "2",
        "metrics": {"a": 2},
        "provenance": {"b": 2},
        "tags": ["u"],
        "files": {"w.safetensors": weights},
    }
    registry.register(config={"strategy": "LoRA"}, **content)
    second = registry.register(config={"strategy": "LoRA"}, **(content | {change: changed[change]}))
    assert second.revision == 2


def test_digest_is_found_with_and_without_its_prefix(filled):
    for snapshot in filled.list_all():
        assert filled.get(snapshot.digest) == snapshot
        assert filled.get(snapshot.digest.removeprefix("sha256:")) == snapshot
    assert filled.get("sha256:" + "0" * 64) is None
    assert filled.get("../records") is None


def test_tags_are_found_in_order(filled):
    first, second, third = filled.list_all()
    assert filled.get_by_tag("a") == [first, third]
    assert filled.get_by_tag("b") == [second, third]
    assert filled.get_by_tag("c") == []


def test_another_registry_object_sees_what_was_appended(filled, root):
    reader = ArchitectureRegistry(root)
    assert len(reader.list_all()) == 3
    added = filled.register("3", {"strategy": "Adapter"}, {})
    assert reader.get(added.digest) == added


def test_changing_a_returned_snapshot_changes_no_record(filled):
    filled.list_all()[0].metrics["accuracy"] = 1.0
    assert filled.list_all()[0].metrics == {"accuracy": 0.8}


def test_materialised_files_are_the_registered_ones(filled, weights, tmp_path):
    snapshot = filled.list_all()[0]
    folder = filled.materialise(snapshot, tmp_path / "copy")
    assert (folder / weights.name).read_bytes() == weights.read_bytes()
    (folder / weights.name).write_bytes(b"damaged")
    filled.materialise(snapshot, folder)
    assert (folder / weights.name).read_bytes() == weights.read_bytes()


def test_materialising_sweeps_no_foreign_file_away(filled, tmp_path):
    (tmp_path / "mine.txt").write_text("keep me")
    with pytest.raises(InvalidValueError, match=r"mine\.txt"):
        filled.materialise(filled.list_all()[0], tmp_path)


def test_altered_blob_is_refused_on_read(filled, root, tmp_path):
    snapshot = filled.list_all()[0]
    (blob,) = [path for path in (root / "blobs").rglob("*") if path.is_file()]
    blob.chmod(0o644)
    blob.write_bytes(blob.read_bytes()[:-1] + b"\x01")
    with pytest.raises(IntegrityError, match=blob.name):
        filled.verify_files(snapshot)
    with pytest.raises(IntegrityError, match=blob.name):
        filled.materialise(snapshot, tmp_path / "copy")
    assert not (tmp_path / "copy").exists()
    blob.unlink()
    with pytest.raises(IntegrityError, match="missing"):
        filled.verify_files(snapshot)


def test_equal_files_are_kept_once(registry, weights, root):
    for version in ("1", "2"):
        registry.register(version, {"strategy": "LoRA"}, {}, files={"a.safetensors": weights, "b.safetensors": weights})
    assert len([path for path in (root / "blobs").rglob("*") if path.is_file()]) == 1


@pytest.mark.parametrize("value", [math.nan, math.inf, {"deep": [math.nan]}, b"bytes", {1: 2}, 2**60, object()])
def test_evidence_that_is_no_json_is_refused(registry, root, value):
    with pytest.raises(InvalidValueError, match="metrics"):
        registry.register("1", {"strategy": "LoRA"}, {"value": value})
    assert not root.exists()


def test_evidence_that_is_too_deep_or_too_long_is_refused(registry):
    deep: dict = {}
    for _ in range(10_000):
        deep = {"a": deep}
    with pytest.raises(InvalidValueError, match="deeper"):
        registry.register("1", {"strategy": "LoRA"}, deep)
    with pytest.raises(InvalidValueError, match="at most"):
        registry.register("1", {"strategy": "LoRA"}, {"text": "x" * (1 << 20)})


@pytest.mark.parametrize("tags", ["production", [""], ["a\nb"], [" a"], ["x" * 101], [3]])
def test_tags_that_are_no_labels_are_refused(registry, tags):
    with pytest.raises(InvalidValueError):
        registry.register("1", {"strategy": "LoRA"}, {}, tags=tags)


def test_wrong_architectures_are_refused(registry):
    with pytest.raises(UnknownNameError, match="LoRa"):
        registry.register("1", {"strategy": "LoRa"}, {})
    with pytest.raises(InvalidValueError):
        registry.register("1", {"strategy": "LoRA", "rank": 0}, {})
    with pytest.raises(InvalidValueError):
        registry.register("1", "LoRA", {})


def test_pickles_are_refused_under_any_name(registry, tmp_path, root):
    path = tmp_path / "weights"
    path.write_bytes(pickle.dumps({"a": 1}))
    for name in ("weights.bin", "weights.pt", "weights.safetensors", "weights.json", "weights.txt"):
        with pytest.raises(InvalidValueError, match="weights"):
            registry.register("1", {"strategy": "LoRA"}, {}, files={name: path})
    assert registry.list_all() == []
    assert registry.verify().is_clean
    assert not [path for path in root.rglob("*") if path.is_file()]


@pytest.mark.parametrize("name", ["../a.json", "/a.json", "a/b.json", ".a.json", "", "a\0.json", "a" * 200 + ".json"])
def test_file_names_that_are_paths_are_refused(registry, weights, name):
    with pytest.raises(InvalidValueError):
        registry.register("1", {"strategy": "LoRA"}, {}, files={name: weights})


def test_links_folders_and_missing_files_are_refused(registry, weights, tmp_path):
    link = tmp_path / "link.safetensors"
    link.symlink_to(weights)
    for path in (link, tmp_path, tmp_path / "absent.safetensors"):
        with pytest.raises(InvalidValueError):
            registry.register("1", {"strategy": "LoRA"}, {}, files={"w.safetensors": path})


json_values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**53) + 1, 2**53 - 1)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(st.characters(exclude_categories=["Cs"])),
    lambda children: (
        st.lists(children, max_size=3)
        | st.dictionaries(st.text(st.characters(exclude_categories=["Cs"])), children, max_size=3)
    ),
    max_leaves=8,
)


@settings_of_hypothesis(max_examples=40, deadline=None)
@given(metrics=st.dictionaries(st.text(st.characters(exclude_categories=["Cs"]), max_size=8), json_values, max_size=4))
def test_any_json_comes_back_as_it_was(tmp_path_factory, metrics):
    root = tmp_path_factory.mktemp("law") / "registry"
    written = ArchitectureRegistry(root).register("1", {"strategy": "LoRA"}, metrics)
    read = ArchitectureRegistry(root).get(written.digest)
    assert read == written
    assert read.metrics == metrics


def test_a_list_reads_each_snapshot_when_it_is_asked_for(filled):
    listed = filled.list_all()
    assert len(listed) == 3
    assert list(listed[1:]) == [listed[1], listed[2]]
    assert listed[-1].version == "2"
    assert listed != [listed[0]]
    assert iter(listed) is not iter(listed)


def test_many_are_registered_in_one_commit(registry, root):
    drafts = [SnapshotDraft(version=str(n), config={"strategy": "LoRA", "rank": 1 + n % 3}) for n in range(30)]
    found = registry.register_all(drafts)
    assert [item.version for item in found] == [str(n) for n in range(30)]
    assert [item.revision for item in found] == [1 + n // 3 for n in range(30)]
    assert registry.register_all(drafts) == found
    assert registry.checkpoint().size == 30


def test_a_wrong_draft_leaves_nothing_of_its_batch(registry):
    drafts = [SnapshotDraft(version="1", config={"strategy": "LoRA"}), SnapshotDraft(version="1", config={})]
    with pytest.raises(UnknownNameError):
        registry.register_all(drafts)
    assert registry.list_all() == []


def test_tags_move_and_the_record_stays(filled):
    first = filled.list_all()[0]
    assert filled.tag(first.digest, ["production"], ["a"]) == ("production",)
    assert filled.get_by_tag("production") == [first]
    assert first not in list(filled.get_by_tag("a"))
    assert filled.get(first.digest).tags == ("a",)
    size = filled.checkpoint().size
    assert filled.tag(first.digest, ["production"], ["a"]) == ("production",)
    assert filled.checkpoint().size == size
    with pytest.raises(InvalidValueError, match="both"):
        filled.tag(first.digest, ["x"], ["x"])


def test_an_alias_moves_only_from_where_it_is_expected(filled):
    first, second, _ = filled.list_all()
    assert filled.set_alias("champion", first.digest, expected=None) is None
    assert filled.get("champion") == first
    with pytest.raises(RefusedError, match=first.digest):
        filled.set_alias("champion", second.digest, expected=None)
    with pytest.raises(RefusedError, match="champion"):
        filled.set_alias("champion", second.digest, expected=second.digest)
    assert filled.set_alias("champion", second.digest, expected=first.digest) == first.digest
    assert filled.aliases() == {"champion": second.digest}
    assert filled.set_alias("champion", None) == second.digest
    assert filled.get("champion") is None


def test_who_did_what_is_told_in_order(root, weights):
    registry = ArchitectureRegistry(root, by="nightly")
    snapshot = registry.register("1", {"strategy": "LoRA"}, {"accuracy": 0.8})
    registry.tag(snapshot.digest, ["candidate"])
    registry.approve(snapshot.digest, is_approved=True, by="reviewer", reason="measured", idempotency_key="a1")
    again = registry.approve(snapshot.digest, is_approved=True, by="reviewer", reason="measured", idempotency_key="a1")
    registry.note_verdict(snapshot.digest, "accuracy gate", "pass", {"difference": 0.01})
    registry.note_rollout(snapshot.digest, "reviews", "start", weight=0.05)
    events = registry.events(snapshot.digest)
    assert [(number, event.kind, event.by) for number, event in events] == [
        (0, "snapshot", "nightly"),
        (1, "tags", "nightly"),
        (2, "approval", "reviewer"),
        (3, "verdict", "nightly"),
        (4, "rollout", "nightly"),
    ]
    assert again == 2
    assert [entry.kind for entry in registry.entries(3)] == ["verdict", "rollout"]
    with pytest.raises(InvalidValueError, match="verdict"):
        registry.note_verdict(snapshot.digest, "gate", "maybe")
    with pytest.raises(InvalidValueError, match="rollout"):
        registry.note_rollout(snapshot.digest, "reviews", "step", weight=1.5)


def test_restored_content_is_the_newest_revision_and_history_stays(filled):
    first, _, second = filled.list_all()
    restored = filled.restore_snapshot(first.digest)
    assert filled.get(first.semantic_hash) == restored
    assert (restored.revision, restored.parent, restored.metrics) == (3, second.digest, first.metrics)
    assert restored.provenance == {"restored_from": first.digest}
    assert restored.blobs == first.blobs
    assert filled.restore_snapshot(restored.digest) == restored
    assert filled.history(first.semantic_hash) == [first, second, restored]


def test_lineage_goes_up_to_the_first_and_down_to_the_next(filled):
    first, _, second = filled.list_all()
    third = filled.register("3", {"strategy": "LoRA"}, {"accuracy": 0.95})
    lineage = filled.lineage(third.digest)
    assert lineage.ancestors == (second, first)
    assert filled.lineage(first.digest).children == (second,)


def test_a_query_finds_by_numbers_tags_and_aliases(filled):
    first, moe, second = filled.list_all()
    filled.set_alias("champion", second.digest)
    assert filled.query("accuracy > 0.75 and tag:a") == [first, second]
    assert filled.query("alias:champion") == [second]
    assert filled.query("strategy:MoE or accuracy >= 0.9") == [moe, second]
    assert filled.query("all", order="accuracy", is_descending=True, limit=2) == [second, first]
    with pytest.raises(InvalidValueError, match="expected"):
        filled.query("accuracy >")


def test_a_unique_beginning_of_a_digest_is_enough(filled):
    first = filled.list_all()[0]
    assert filled.resolve(first.digest[7:19]) == first
    with pytest.raises(UnknownNameError, match="snapshot"):
        filled.resolve("0000000")
    with pytest.raises(UnknownNameError):
        filled.resolve("champion")


def test_the_index_is_rebuilt_from_the_log(filled, root):
    before = list(filled.list_all())
    for name in ("index.sqlite", "index.sqlite-wal", "index.sqlite-shm"):
        (root / name).unlink(missing_ok=True)
    reader = ArchitectureRegistry(root)
    assert reader.list_all() == before
    (root / "index.sqlite").write_bytes(b"no database" * 1000)
    damaged = ArchitectureRegistry(root)
    assert damaged.rebuild() == 3
    assert damaged.get_by_tag("b") == before[1:]


def test_an_index_of_another_log_is_noticed(filled, root, tmp_path):
    other = ArchitectureRegistry(tmp_path / "other")
    for version in "12345":
        other.register(version, {"strategy": "LoRA"}, {})
    for name in ("index.sqlite", "index.sqlite-wal", "index.sqlite-shm"):
        (root / name).unlink(missing_ok=True)
    shutil.copy(tmp_path / "other" / "index.sqlite", root / "index.sqlite")
    shutil.copy(tmp_path / "other" / "index.sqlite-wal", root / "index.sqlite-wal")
    assert [item.version for item in ArchitectureRegistry(root).list_all()] == ["1", "1", "2"]


def test_a_snapshot_travels_in_one_file(filled, tmp_path, weights):
    first = filled.list_all()[0]
    path = filled.export_snapshot(first.digest, tmp_path / "first.legion")
    report = verify_bundle(path, [str(filled.key)])
    assert report.is_sound
    assert report.snapshot == first.digest
    other = ArchitectureRegistry(tmp_path / "other")
    brought = other.import_snapshot(path, trusted=[str(filled.key)])
    assert (brought.config, brought.metrics, brought.blobs) == (first.config, first.metrics, first.blobs)
    assert brought.provenance["imported_from"]["snapshot"] == first.digest
    assert brought.provenance["imported_from"]["is_vouched"] is True
    assert (other.materialise(brought, tmp_path / "files") / weights.name).read_bytes() == weights.read_bytes()


def test_a_kept_checkpoint_proves_that_the_log_only_grew(filled, tmp_path):
    kept = filled.checkpoint().note
    filled.register("9", {"strategy": "LoRA"}, {})
    assert filled.verify_against(kept).verify()
    other = ArchitectureRegistry(tmp_path / "other")
    other.register("1", {"strategy": "LoRA"}, {})
    with pytest.raises(IntegrityError):
        other.verify_against(kept)


def test_only_blobs_that_nothing_names_are_collected(filled, root):
    (blob,) = [path for path in (root / "blobs").rglob("*") if path.is_file()]
    orphan = root / "blobs" / "sha256" / "2d" / "2d711642b726b04401627ca9fbac32f5c8530fb1903cc4db02258717921a4881"
    orphan.parent.mkdir()
    orphan.write_bytes(b"x")
    assert filled.collect_garbage() == []
    os.utime(orphan, (0, 0))
    os.utime(blob, (0, 0))
    assert filled.collect_garbage() == [(f"sha256:{orphan.name}", 1)]
    assert orphan.exists()
    assert filled.collect_garbage(is_dry_run=False) == [(f"sha256:{orphan.name}", 1)]
    assert not orphan.exists()
    assert blob.exists()
    assert [entry.kind for entry in filled.entries(3)] == ["deletion"]
    assert filled.verify().is_clean


def test_an_entry_is_written_as_its_canonical_json(registry):
    registry.register("é 1", {"strategy": "LoRA"}, {"accuracy": 1e-9, "whole": 2.0, "text": 'a "b"'}, tags=["x/y", "ü"])
    registry.register_all(
        [SnapshotDraft(version="2", config={"strategy": "MoE"}, metrics={"n": number}) for number in range(3)]
    )
    registry.tag(registry.list_all()[0].digest, add=["later"])
    log = TransparencyLog(registry.root, keys=Settings.load().keys)
    for number, entry in enumerate(registry.entries()):
        assert log.refresh() == 5
        assert log.read(number) == canonical_json(entry.to_dict())


def test_one_key_is_one_entry_however_often_it_is_written_at_once(filled):
    """Threads that share a commit are told the number of the one entry too."""
    first = filled.list_all()[0]
    numbers: list[int] = []

    def approve():
        numbers.append(filled.approve(first.digest, is_approved=True, by="ada", idempotency_key="once"))

    threads = [threading.Thread(target=approve) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert numbers == [3] * 8
    assert filled.checkpoint().size == 4
