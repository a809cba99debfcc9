"""A folder without task.toml is read by convention, and says so; what cannot be told is not guessed."""

from __future__ import annotations

import logging

import pytest

from legion.foundation.errors import DataError
from legion.neuro_architecture.data.datasets import read_data


def write(folder_of, *columns, name="mine"):
    rows = [{column: f"{column} {n}" if column != "label" else str(n % 2) for column in columns} for n in range(4)]
    splits = {
        split: [
            {key: f"{split} {value}" if key in columns[:1] else value for key, value in row.items()} for row in rows
        ]
        for split in ("train", "validation", "test")
    }
    return folder_of(name, **splits)


def test_label_column_makes_a_classification(write_data, caplog):
    with caplog.at_level(logging.WARNING):
        data = read_data(write(write_data, "sentence", "label"))
    assert (data.spec.kind, data.spec.text_column, data.spec.target_column) == ("classification", "sentence", "label")
    assert (data.spec.name, data.spec.licence, data.spec.is_conventional) == ("mine", "unknown", True)
    assert data.warnings[0].startswith("no task.toml in ")
    assert "read by convention as classification" in caplog.text


def test_summary_column_makes_a_summarization(write_data):
    spec = read_data(write(write_data, "article", "highlights")).spec
    assert (spec.kind, spec.text_column, spec.target_column) == ("summarization", "article", "highlights")
    assert spec.metric == "rouge_l"


def test_needed_kind_decides_between_both(write_data):
    folder = write(write_data, "text", "label", "title")
    assert read_data(folder).spec.kind == "classification"
    assert read_data(folder, kind="summarization").spec.target_column == "title"


def test_target_column_is_understood_when_the_kind_is_given(write_data):
    folder = write(write_data, "text", "target")
    assert read_data(folder, kind="summarization").spec.target_column == "target"
    with pytest.raises(DataError, match="do not tell what it is for"):
        read_data(folder)


def test_unknown_columns_are_listed_with_what_to_write(write_data):
    with pytest.raises(DataError) as caught:
        read_data(write(write_data, "frage", "antwort"))
    assert caught.value.cause == "columns: frage, antwort"
    assert 'kind = "classification"' in caught.value.hint


def test_group_column_is_found(write_data):
    row = [{"text": f"x{n}", "label": str(n % 2)} for n in range(4)]
    splits = {
        split: [{**each, "text": split + each["text"], "group": f"{split}-{n}"} for n, each in enumerate(row)]
        for split in ("train", "validation", "test")
    }
    data = read_data(write_data(**splits))
    assert data.spec.group_column == "group"
    assert data.train[0].group == "train-0"
