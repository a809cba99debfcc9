"""The three prepared data sets: disjoint, reproducible, and never written over somebody's work."""

from __future__ import annotations

import json
import shutil

import pytest

from legion.foundation.errors import AssetError, UnknownNameError
from legion.foundation.rng import RandomStream
from legion.neuro_architecture.data.datasets import read_data
from legion.neuro_architecture.data.examples import Example
from legion.neuro_architecture.data.overlap import normalise_text
from legion.neuro_architecture.data.prepare import prepare_data, prepared_names, split_by_group

SPLITS = ("train", "validation", "test")


def stock(settings, name, files):
    """An asset folder as a fetch leaves it, with made-up content."""
    from legion.foundation.files import write_json
    from legion.neuro_architecture.data.catalog import CATALOG

    folder = settings.home / "assets" / name
    folder.mkdir(parents=True)
    for file, content in files.items():
        (folder / file).write_text(content)
    asset = next(asset for asset in CATALOG if asset.name == name)
    sizes = {file: {"digest": "unread", "size_bytes": (folder / file).stat().st_size} for file in files}
    write_json(folder / "asset.json", {"version": asset.version, "sha256": asset.sha256, "files": sizes})


@pytest.fixture
def stocked_home(settings):
    movies = "".join(f"{n}\t{2.0 if n % 2 else -2.0}\tsentence number {n}\n" for n in range(800))
    news = "".join(json.dumps({"id": f"t/{n}", "text": f"Head {n}\nBody {n}."}) + "\n" for n in range(500))
    stock(settings, "vader-ratings", {"movieReviewSnippets.tsv": movies})
    stock(settings, "bbc-news", {"articles.jsonl": news})
    return settings


def files_of(folder):
    return {path.name: (path.read_bytes(), path.stat().st_mtime_ns) for path in folder.iterdir()}


def test_three_data_sets_are_written_and_read_back(stocked_home):
    assert prepared_names() == ("classification", "task_small", "ci_test")
    movies, news, few = prepare_data(stocked_home)
    assert [len(movies.split(split)) for split in SPLITS] == [640, 80, 80]
    assert [len(news.split(split)) for split in SPLITS] == [300, 60, 60]
    assert [len(few.split(split)) for split in SPLITS] == [240, 60, 60]
    for data in (movies, news, few):
        assert data.warnings == ()
        assert data.folder.parent == stocked_home.workspace / "data"
        assert data.spec.digest == data.digest
        assert data.spec.licence != "unknown"
        assert data.spec.source != "unknown"
        assert not data.spec.is_conventional


def test_text_is_in_one_split_only_across_whole_and_small_set(stocked_home):
    whole, _, few = prepare_data(stocked_home)
    seen = {split: {normalise_text(row.text) for row in whole.split(split)} for split in SPLITS}
    assert not seen["train"] & seen["test"]
    for split in SPLITS:
        assert {normalise_text(row.text) for row in few.split(split)} <= seen[split]


def test_same_assets_give_the_same_rows(stocked_home):
    first = prepare_data(stocked_home)
    shutil.rmtree(stocked_home.workspace / "data")
    assert [data.digest for data in prepare_data(stocked_home)] == [data.digest for data in first]


def test_second_call_touches_nothing_and_needs_no_asset(stocked_home):
    prepare_data(stocked_home)
    folder = stocked_home.workspace / "data" / "ci_test"
    before = files_of(folder)
    shutil.rmtree(stocked_home.home)
    (data,) = prepare_data(stocked_home, ["ci_test"])
    assert files_of(folder) == before
    assert data.warnings == ()


def test_changed_rows_are_kept_with_a_warning(stocked_home, caplog):
    prepare_data(stocked_home, ["ci_test"])
    folder = stocked_home.workspace / "data" / "ci_test"
    with (folder / "train.jsonl").open("a") as file:
        file.write('{"id": "mine", "text": "my own row", "label": "positive"}\n')
    (folder / "task.toml").write_text('kind = "classification"\n')
    before = files_of(folder)
    (data,) = prepare_data(stocked_home, ["ci_test"])
    assert files_of(folder) == before
    assert "kept as it is" in data.warnings[-1]
    assert "kept as it is" in caplog.text


def test_folder_of_ones_own_is_kept_with_a_warning(stocked_home, classification_data):
    folder = stocked_home.workspace / "data" / "classification"
    shutil.copytree(classification_data, folder)
    (data,) = prepare_data(stocked_home, ["classification"])
    assert data.digest == read_data(classification_data).digest
    assert "not written by legion data prepare" in data.warnings[-1]


def test_added_file_counts_as_a_change(stocked_home):
    prepare_data(stocked_home, ["ci_test"])
    (stocked_home.workspace / "data" / "ci_test" / "notes").mkdir()
    assert prepare_data(stocked_home, ["ci_test"])[0].warnings


def test_untouched_folder_of_an_older_recipe_is_made_anew(stocked_home):
    prepare_data(stocked_home, ["ci_test"])
    path = stocked_home.workspace / "data" / "ci_test" / "prepared.json"
    record = json.loads(path.read_text())
    path.write_text(json.dumps(record | {"made_by": record["made_by"] | {"version": 0}}))
    assert prepare_data(stocked_home, ["ci_test"])[0].warnings == ()
    assert json.loads(path.read_text()) == record


def test_empty_folder_is_filled(stocked_home):
    (stocked_home.workspace / "data" / "ci_test").mkdir(parents=True)
    assert len(prepare_data(stocked_home, ["ci_test"])[0].train) == 240


def test_leftovers_of_a_killed_call_are_swept(stocked_home):
    leftover = stocked_home.workspace / "data" / ".ci_test.abc"
    (leftover / "fresh").mkdir(parents=True)
    prepare_data(stocked_home, ["ci_test"])
    assert not leftover.exists()


def test_missing_asset_and_unknown_name_say_what_to_do(settings):
    with pytest.raises(AssetError) as caught:
        prepare_data(settings, ["ci_test"])
    assert caught.value.hint == "legion assets fetch"
    with pytest.raises(UnknownNameError) as unknown:
        prepare_data(settings, ["ci_tests"])
    assert "did you mean 'ci_test'?" in unknown.value.hint


def test_groups_are_never_split_apart():
    rows = [
        Example(id=f"{group}_{n}", text=f"{group} {n}", target="x", group=str(group))
        for group in range(50)
        for n in range(3)
    ]
    splits = split_by_group(rows, RandomStream(0))
    homes = {split: {row.group for row in examples} for split, examples in splits.items()}
    assert sum(map(len, homes.values())) == 50
    assert [len(homes[split]) for split in SPLITS] == [40, 5, 5]
