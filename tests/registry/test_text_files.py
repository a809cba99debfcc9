"""Snapshots as text for version control."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.registry.bundles import METRICS, snapshot_of

from legion.foundation.errors import InvalidValueError, RefusedError
from legion.neuro_architecture.registry.text_files import check_text_files, write_text_files
from legion.neuro_architecture.spec.snapshot import ArchitectureSnapshot


@pytest.fixture
def snapshots():
    first = snapshot_of()
    return [first, snapshot_of(revision=2, parent=first.digest, version="2"), snapshot_of({"strategy": "MoE"})]


def _state(folder):
    return {path: (path.read_bytes(), path.stat().st_mtime_ns) for path in folder.rglob("*") if path.is_file()}


def test_each_snapshot_is_one_file_and_the_table_names_all(tmp_path, snapshots):
    written = write_text_files(tmp_path, snapshots)
    first, _, other = snapshots
    assert sorted(str(path.relative_to(tmp_path)) for path in written) == sorted(
        [
            "architectures/README.md",
            f"architectures/{first.semantic_hash}/1.json",
            f"architectures/{first.semantic_hash}/2.json",
            f"architectures/{other.semantic_hash}/1.json",
        ]
    )
    table = (tmp_path / "architectures" / "README.md").read_text()
    assert table.count("\n| [") == 3
    assert f"| MoE | 1.0 | {METRICS['accuracy']} | candidate, tiny |" in table


def test_running_again_changes_nothing_not_even_a_time(tmp_path, snapshots):
    write_text_files(tmp_path, snapshots)
    before = _state(tmp_path)
    assert write_text_files(tmp_path, reversed(snapshots)) == []
    assert _state(tmp_path) == before
    assert check_text_files(tmp_path, snapshots) == []


def test_a_later_snapshot_adds_its_file_and_a_row(tmp_path, snapshots):
    write_text_files(tmp_path, snapshots[:2])
    written = write_text_files(tmp_path, snapshots)
    assert [path.name for path in written] == ["1.json", "README.md"]


def test_files_are_named_by_digest_and_not_copied(tmp_path, snapshots):
    write_text_files(tmp_path, snapshots)
    text = (tmp_path / "architectures" / snapshots[0].semantic_hash / "1.json").read_text()
    plain = json.loads(text)
    assert plain["blobs"] == snapshots[0].blobs
    assert plain.pop("digest") == snapshots[0].digest
    assert ArchitectureSnapshot.parse(plain, what="text") == snapshots[0]


JSON = st.recursive(
    st.none() | st.booleans() | st.floats(allow_nan=False, allow_infinity=False) | st.text(max_size=6),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=6), inner, max_size=3),
    max_leaves=6,
)


@given(st.dictionaries(st.text(max_size=6), JSON, max_size=3), st.text(max_size=8))
def test_whatever_a_snapshot_holds_comes_back_with_its_digest(tmp_path_factory, metrics, version):
    folder = tmp_path_factory.mktemp("text")
    snapshot = snapshot_of(metrics=metrics, version=version)
    write_text_files(folder, [snapshot])
    assert check_text_files(folder, [snapshot]) == []
    plain = json.loads((folder / "architectures" / snapshot.semantic_hash / "1.json").read_text(encoding="utf-8"))
    assert (
        ArchitectureSnapshot.parse(
            {name: value for name, value in plain.items() if name != "digest"}, what="text"
        ).digest
        == plain["digest"]
    )
    rows = (folder / "architectures" / "README.md").read_text(encoding="utf-8").split("\n")
    assert sum(row.startswith("| [") for row in rows) == 1


def test_what_was_altered_removed_or_added_is_named(tmp_path, snapshots):
    write_text_files(tmp_path, snapshots)
    folder = tmp_path / "architectures"
    altered = folder / snapshots[0].semantic_hash / "1.json"
    altered.write_text(altered.read_text().replace('"accuracy": 0.8', '"accuracy": 0.9'))
    (folder / snapshots[0].semantic_hash / "2.json").unlink()
    (folder / "notes.txt").write_text("mine")
    (folder / "link").symlink_to(tmp_path)
    found = {(item.path, item.problem) for item in check_text_files(tmp_path, snapshots)}
    assert found == {
        (f"architectures/{snapshots[0].semantic_hash}/1.json", "altered"),
        (f"architectures/{snapshots[0].semantic_hash}/2.json", "missing"),
        ("architectures/notes.txt", "unexpected"),
        ("architectures/link", "unexpected"),
    }
    assert "line " in str(next(item for item in check_text_files(tmp_path, snapshots) if item.problem == "altered"))
    write_text_files(tmp_path, snapshots)
    assert {item.problem for item in check_text_files(tmp_path, snapshots)} == {"unexpected"}
    assert (folder / "notes.txt").read_text() == "mine"


def test_nothing_is_written_through_a_link(tmp_path, snapshots):
    outside = tmp_path / "outside"
    outside.mkdir()
    repository = tmp_path / "repository"
    repository.mkdir()
    (repository / "architectures").symlink_to(outside)
    with pytest.raises(RefusedError, match="is a link"):
        write_text_files(repository, snapshots)
    assert list(outside.iterdir()) == []


@pytest.mark.parametrize("name", ["../../x", "", "0123", "g" * 16, "/etc"])
def test_a_semantic_hash_that_is_none_writes_nothing(tmp_path, name):
    with pytest.raises(InvalidValueError, match="is no semantic hash"):
        write_text_files(tmp_path, [snapshot_of(semantic_hash=name)])
    assert list(tmp_path.iterdir()) == []


def test_two_snapshots_of_one_revision_are_refused(tmp_path):
    with pytest.raises(InvalidValueError, match="two snapshots are revision 1"):
        write_text_files(tmp_path, [snapshot_of(), snapshot_of(version="other")])


def test_no_cell_of_the_table_ends_early(tmp_path):
    write_text_files(tmp_path, [snapshot_of(version="a|b\n| c", tags=("x|y",))])
    (row,) = [
        line for line in (tmp_path / "architectures" / "README.md").read_text().split("\n") if line.startswith("| [")
    ]
    assert row.replace("\\|", "").count("|") == 9
