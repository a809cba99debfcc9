from __future__ import annotations

import json
import os

import pytest

from legion.foundation.errors import InvalidValueError
from legion.neuro_architecture.registry.importing import read_prototype

SNAPSHOT = {
    "version": "4.1.0",
    "semantic_hash": "a1b2c3d4e5f6a7b8",
    "config": {"strategy": "LoRA", "rank": 8},
    "metrics": {"accuracy": 0.92, "latency_ms": 45},
    "provenance": {"branch": "main", "commit": "abc123"},
    "tags": ["production", "lora"],
    "created_at": "2025-11-01T00:00:00",
}


@pytest.fixture
def folder(tmp_path):
    return tmp_path


def write(folder, name, value):
    (folder / name).write_text(value if isinstance(value, str) else json.dumps(value))


def reasons(report):
    return {item.origin: item.reason for item in report.skipped}


def test_a_file_is_a_snapshot_whose_metrics_are_only_claimed(folder):
    write(folder, "a1b2c3d4e5f6a7b8.json", SNAPSHOT)
    report = read_prototype(folder)
    (draft,) = report.drafts
    assert report.skipped == ()
    assert draft.version == "4.1.0"
    assert (draft.config["strategy"], draft.config["rank"], draft.config["alpha"]) == ("LoRA", 8, 16.0)
    assert draft.metrics == {"claimed": {"accuracy": 0.92, "latency_ms": 45}}
    assert draft.tags == ("lora", "production")
    assert (draft.provenance["branch"], draft.provenance["commit"]) == ("main", "abc123")
    source = draft.provenance["imported_from"]
    assert "drew its metrics at random" in source["metrics"]
    assert source["entry"] == "a1b2c3d4e5f6a7b8.json"
    assert source["said"] == {"semantic_hash": "a1b2c3d4e5f6a7b8", "created_at": "2025-11-01T00:00:00"}
    assert read_prototype(folder) == report
    assert read_prototype(folder / "a1b2c3d4e5f6a7b8.json").drafts == report.drafts


@pytest.mark.parametrize(
    "wrapped",
    [
        [SNAPSHOT],
        {"a1b2c3d4e5f6a7b8": SNAPSHOT},
        {"snapshots": [SNAPSHOT], "format": 1},
        {"architectures": {"a1b2c3d4e5f6a7b8": SNAPSHOT}},
        [SNAPSHOT, SNAPSHOT],
    ],
)
def test_an_index_holds_snapshots_in_a_list_or_under_their_hashes(folder, wrapped):
    write(folder, "index.json", wrapped)
    (draft,) = read_prototype(folder).drafts
    assert draft.version == "4.1.0"


def test_a_snapshot_that_is_in_the_index_and_in_a_file_comes_once_and_that_is_told(folder):
    write(folder, "a.json", SNAPSHOT)
    write(folder, "index.json", [SNAPSHOT, SNAPSHOT | {"version": "4.2.0"}])
    report = read_prototype(folder)
    assert [draft.version for draft in report.drafts] == ["4.1.0", "4.2.0"]
    assert reasons(report) == {"index.json, entry 0": "it says the same as a.json"}


@pytest.mark.parametrize(
    "config",
    [
        {"strategy": "lora", "rank": 8},
        {"type": "LoRA", "params": {"rank": 8}},
        {"strategy": "LoRA", "hyperparameters": {"rank": 8}},
    ],
)
def test_configs_are_read_in_each_of_their_spellings(folder, config):
    write(folder, "a.json", SNAPSHOT | {"config": config})
    (draft,) = read_prototype(folder).drafts
    assert (draft.config["strategy"], draft.config["rank"]) == ("LoRA", 8)


def test_what_no_architecture_has_is_told_and_kept_in_the_provenance(folder):
    write(folder, "a.json", SNAPSHOT | {"config": {"strategy": "LoRA", "rank": 8, "colour": "red"}})
    report = read_prototype(folder)
    assert report.drafts[0].provenance["imported_from"]["unread_config"] == {"colour": "red"}
    assert "colour" in reasons(report)["a.json, config"]


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        ("{", "Expecting"),
        ('{"config": {}, "config": {}}', "twice"),
        ('{"config": {"strategy": "LoRA"}, "metrics": {"a": NaN}}', "NaN"),
        ("[" * 100_000, "deeper"),
        ("3", "no snapshot"),
        ("[]", "no snapshot"),
        ('{"config": {"strategy": "Magic"}}', "unknown strategy 'Magic'"),
        ('{"config": {}}', "unknown strategy"),
        ('{"config": {"strategy": "LoRA", "rank": -1}}', "rank"),
        ('{"version": "../x", "config": {"strategy": "LoRA"}}', "climbs"),
        ('{"config": {"strategy": "LoRA"}, "metrics": [1]}', "metrics are no object"),
        ('{"config": {"strategy": "LoRA"}, "provenance": "x"}', "provenance are no object"),
    ],
)
def test_what_cannot_be_read_is_left_out_and_told(folder, content, reason):
    write(folder, "a.json", content)
    write(folder, "b.json", SNAPSHOT)
    report = read_prototype(folder)
    assert [draft.origin for draft in report.drafts] == ["b.json"]
    assert reason in reasons(report)["a.json"]


def test_files_of_other_kinds_links_and_fifos_are_told_and_not_opened(folder, tmp_path_factory):
    outside = tmp_path_factory.mktemp("outside")
    write(outside, "x.json", SNAPSHOT)
    (folder / "link.json").symlink_to(outside / "x.json")
    os.mkfifo(folder / "fifo.json")
    (folder / "weights.pkl").write_bytes(b"\x80\x04N.")
    (folder / "nested").mkdir()
    report = read_prototype(folder)
    assert report.drafts == ()
    assert set(reasons(report)) == {"link.json", "fifo.json", "weights.pkl", "nested"}
    assert "no regular file" in reasons(report)["fifo.json"]


def test_tags_that_cannot_be_are_left_out_and_told(folder):
    write(folder, "a.json", SNAPSHOT | {"tags": ["good", "../bad", 7]})
    report = read_prototype(folder)
    assert report.drafts[0].tags == ("good",)
    assert sum(item.origin == "a.json, tag" for item in report.skipped) == 2


def test_an_earlier_import_is_not_forgotten(folder):
    write(folder, "a.json", SNAPSHOT | {"provenance": {"imported_from": {"kind": "elsewhere"}}})
    (draft,) = read_prototype(folder).drafts
    assert draft.provenance["imported_from"]["kind"] == "prototype"
    assert draft.provenance["imported_from"]["before"] == {"kind": "elsewhere"}


def test_a_folder_that_is_not_there_is_told(folder):
    with pytest.raises(InvalidValueError, match="absent"):
        read_prototype(folder / "absent")


def test_a_report_is_plain_json(folder):
    write(folder, "a.json", SNAPSHOT)
    write(folder, "b.json", "{")
    said = json.loads(json.dumps(read_prototype(folder).to_dict()))
    assert (len(said["drafts"]), len(said["skipped"])) == (1, 1)
