"""CSV and Parquet say where a row is wrong, as JSONL does."""

from __future__ import annotations

import csv

import pyarrow as pa
import pytest
from pyarrow import parquet

from legion.foundation.errors import DataError
from legion.neuro_architecture.data.datasets import read_data
from legion.neuro_architecture.data.mistakes import Mistakes
from legion.neuro_architecture.data.rows import read_table

GOOD = "text,label\na,bad\nb,good\n"


def read_csv(folder, content):
    path = folder / "train.csv"
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    found = Mistakes()
    table = read_table(path, found)
    return table, found


def told(found, folder) -> str:
    with pytest.raises(DataError) as caught:
        found.raise_any(folder)
    return caught.value.cause


def test_quoted_fields_may_span_lines_and_places_stay_right(tmp_path):
    table, found = read_csv(tmp_path, 'text,label\n"one\ntwo, three",bad\n\nb,good\n')
    assert [row.place for row in table.rows] == ["train.csv:2", "train.csv:5"]
    assert table.rows[0].values == {"text": "one\ntwo, three", "label": "bad"}
    found.raise_any(tmp_path)


def test_byte_order_mark_is_no_part_of_a_column(tmp_path):
    assert read_csv(tmp_path, b"\xef\xbb\xbf" + GOOD.encode())[0].columns == ("text", "label")


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (GOOD + "c\n", "train.csv:4: has 1 fields, not 2"),
        (GOOD + "c,good,extra\n", "train.csv:4: has 3 fields, not 2"),
        (GOOD + '"never closed,good\n', "train.csv:4: is not CSV"),
        (GOOD.encode() + b"\xff,good\n", "train.csv:4: is not UTF-8"),
        ("text,text\na,b\n", "train.csv:1: repeats the column text"),
    ],
)
def test_bad_record_is_named_with_its_line(tmp_path, content, said):
    assert said in told(read_csv(tmp_path, content)[1], tmp_path)


def test_long_articles_fit_and_the_process_limit_is_put_back(tmp_path):
    before = csv.field_size_limit()
    table, _ = read_csv(tmp_path, f"text,label\n{'x' * 300_000},good\n")
    assert len(table.rows[0].values["text"]) == 300_000
    assert csv.field_size_limit() == before


def write_parquet(folder, **columns):
    for split in ("train", "validation", "test"):
        texts = [f"{split} {n}" for n in range(4)]
        table = pa.table({"text": texts, "label": [0, 1, 0, 1]} | (columns if split == "train" else {}))
        parquet.write_table(table, folder / f"{split}.parquet")


def test_parquet_is_read(tmp_path):
    write_parquet(tmp_path)
    data = read_data(tmp_path)
    assert data.spec.labels == ("0", "1")
    assert data.train[1].text == "train 1"


def test_bad_parquet_row_is_named_with_its_number(tmp_path):
    write_parquet(tmp_path, text=["fine", None, "good", "well"])
    with pytest.raises(DataError) as caught:
        read_data(tmp_path)
    assert caught.value.cause == "train.parquet row 2: no 'text'"


def test_file_that_is_no_parquet_is_named(tmp_path):
    (tmp_path / "train.parquet").write_bytes(b"PAR1 is not enough")
    found = Mistakes()
    read_table(tmp_path / "train.parquet", found)
    assert "train.parquet: is not Parquet" in told(found, tmp_path)
