"""Data sets: every mistake with its place and all at once, every doubt aloud."""

from __future__ import annotations

import json
import logging

import pytest

from legion.foundation.errors import DataError
from legion.neuro_architecture.data.datasets import read_data

TASK = 'kind = "classification"\nlabels = ["bad", "good"]\n'


def rows(split, count=4, **extra):
    return [{"text": f"{split} text {n}", "label": ("bad", "good")[n % 2]} | extra for n in range(count)]


def mistakes(folder, **options) -> str:
    with pytest.raises(DataError) as caught:
        read_data(folder, **options)
    return caught.value.cause or caught.value.message


def test_classification_is_read(classification_data):
    data = read_data(classification_data)
    assert (len(data.train), len(data.validation), len(data.test)) == (48, 16, 24)
    assert data.spec.labels == ("negative", "positive")
    assert data.split("test") is data.test
    assert data.train[0].id == "train-1"
    assert data.warnings == ()


def test_summarization_is_read(summarization_data):
    data = read_data(summarization_data, kind="summarization")
    assert data.spec.kind == "summarization"
    assert data.spec.metric == "rouge_l"
    assert data.spec.labels == ()


def test_folder_may_be_a_relative_name(classification_data):
    assert read_data("data/tiny").folder == classification_data


@pytest.mark.parametrize(
    ("line", "said"),
    [
        (b'{"text": "a", "label": "good"', "is not JSON"),
        (b'["a", "good"]', "is no JSON object but list"),
        (b"\xff\xfe", "is not UTF-8"),
        (b"[" * 100_000, "is not JSON"),
        (b'{"text": "  ", "label": "good"}', "'text' is blank"),
        (b'{"text": "a", "label": ""}', "'label' is blank"),
        (b'{"text": 7, "label": "good"}', "'text' is int, not text"),
        (b'{"text": null, "label": "good"}', "no 'text'"),
        (b'{"text": "a"}', "no 'label'"),
        (b'{"text": "a", "label": NaN}', "'label' is nan"),
        (b'{"text": "a", "label": 1.5}', "'label' is 1.5"),
        (b'{"text": "a", "label": ["good"]}', "'label' is list, not text"),
        (b'{"text": "a\\ud800", "label": "good"}', "half of a surrogate pair"),
        (b'{"text": "a", "label": "odd"}', "label 'odd' is not among those of task.toml (bad, good)"),
    ],
)
def test_bad_row_is_named_with_file_and_line(write_data, line, said):
    good = b'{"text": "one", "label": "bad"}\n{"text": "two", "label": "good"}\n'
    told = mistakes(write_data(train=good + line + b"\n", task=TASK))
    assert told.startswith("train.jsonl:3: ")
    assert said in told


def test_all_mistakes_come_at_once(write_data):
    bad = [{"text": "", "label": "good"}]
    folder = write_data(train=[*rows("train"), *bad], validation=bad + rows("v"), test=[{"text": "x"}, *rows("t")])
    told = mistakes(folder).splitlines()
    assert [line.split(": ")[0] for line in told] == ["train.jsonl:5", "validation.jsonl:1", "test.jsonl:1"]


def test_long_lists_of_mistakes_are_cut_and_counted(write_data):
    folder = write_data(train=[{"text": "", "label": "good"}] * 30 + rows("train"))
    with pytest.raises(DataError, match="30 mistakes") as caught:
        read_data(folder)
    assert len(caught.value.cause.splitlines()) == 21
    assert caught.value.cause.endswith("and 10 more")


def test_blank_lines_are_no_rows(write_data):
    lines = "\n\n".join(json.dumps(row) for row in rows("train")).encode() + b"\n\n"
    assert len(read_data(write_data(train=lines, task=TASK)).train) == 4


def test_unicode_line_separators_do_not_end_a_row(write_data):
    text = "one\u2028two\x85three"
    lines = [json.dumps(row, ensure_ascii=False) for row in [*rows("train"), {"text": text, "label": "good"}]]
    assert read_data(write_data(train="\n".join(lines).encode(), task=TASK)).train[4].text == text


def test_missing_column_is_said_once_with_the_columns(write_data):
    told = mistakes(write_data(task=TASK + 'text_column = "txt"\n'))
    assert told.splitlines()[0] == "train.jsonl: no column 'txt' (columns: text, label)"
    assert len(told.splitlines()) == 3


def test_missing_split_is_an_error(write_data):
    assert "validation: no file validation.jsonl, .csv, .parquet" in mistakes(write_data(validation=None))


def test_empty_split_is_an_error(write_data):
    assert "test.jsonl: the split is empty" in mistakes(write_data(test=[]))
    assert "train.jsonl: the split is empty" in mistakes(write_data("other", train=[]))


def test_split_in_two_formats_is_an_error(write_data):
    folder = write_data()
    (folder / "test.csv").write_text("text,label\na,bad\n")
    assert "test: several files: test.jsonl, test.csv" in mistakes(folder)


def test_label_unseen_in_training_is_an_error(write_data):
    folder = write_data(test=[*rows("test"), {"text": "new", "label": "odd"}])
    assert "test.jsonl:5: label 'odd' is not among those of train (bad, good)" in mistakes(folder)


def test_stated_label_without_training_row_is_an_error_where_it_is_measured(write_data):
    folder = write_data(
        test=[*rows("test"), {"text": "new", "label": "odd"}],
        task='kind = "classification"\nlabels = ["bad", "good", "odd"]\n',
    )
    assert "test.jsonl:5: label 'odd' has no row in train" in mistakes(folder)


def test_stated_label_without_any_row_is_a_warning(write_data):
    data = read_data(write_data(task='kind = "classification"\nlabels = ["bad", "good", "odd"]\n'))
    assert data.warnings == ("label 'odd' has no row in train",)


def test_one_label_is_an_error(write_data):
    one = [{"text": f"t{n}", "label": "good"} for n in range(3)]
    assert "one label only ('good')" in mistakes(write_data(train=one, validation=one, test=one))


def test_labels_are_sorted_where_none_are_stated(write_data):
    train = [{"text": "a", "label": 10}, {"text": "b", "label": 2}, {"text": "c", "label": True}]
    data = read_data(write_data(train=train, validation=train[:1], test=train[1:]))
    assert data.spec.labels == ("10", "2", "true")
    assert data.train[2].target == "true"


@pytest.mark.parametrize("later", ["validation", "test"])
def test_overlap_with_training_is_a_loud_warning(write_data, later, caplog):
    same = {"text": "  TRAIN\ttext 0 ", "label": "bad"}
    with caplog.at_level(logging.WARNING):
        data = read_data(write_data(task=TASK, **{later: [same, *rows(later)]}))
    (warning,) = data.warnings
    assert warning.startswith(f"train and {later} overlap: 1 of 5 {later} texts")
    assert f"{later}-1" in warning
    assert warning in caplog.text


def test_repeated_and_contradicting_texts_are_a_warning(write_data):
    train = [*rows("train"), {"text": "train text 0", "label": "bad"}, {"text": "train text 1", "label": "bad"}]
    assert read_data(write_data(train=train, task=TASK)).warnings == (
        "train repeats 2 texts, 1 of them with different targets",
    )


def test_group_in_two_splits_is_an_error(write_data):
    task = TASK + 'group_column = "who"\n'
    folder = write_data(
        train=rows("train", who="ann"), validation=rows("v", who="bob"), test=rows("t", who="ann"), task=task
    )
    assert "test.jsonl:1: group 'ann' is also in train" in mistakes(folder)


def test_ids_come_from_their_column_and_may_not_repeat(write_data):
    train = [row | {"id": n} for n, row in enumerate(rows("train"))]
    assert [row.id for row in read_data(write_data(train=train, task=TASK)).train] == ["0", "1", "2", "3"]
    train[3]["id"] = 1
    assert "train.jsonl:4: repeats the id '1' of train.jsonl:2" in mistakes(write_data("b", train=train, task=TASK))


def test_digest_follows_content_not_format(write_data):
    jsonl = read_data(write_data(task=TASK))
    folder = write_data("csv", train=None, validation=None, test=None, task=TASK)
    for split in ("train", "validation", "test"):
        lines = [f"{row['text']},{row['label']}\n" for row in rows(split)]
        (folder / f"{split}.csv").write_text("text,label\n" + "".join(lines))
    assert read_data(folder).digest == jsonl.digest
    assert read_data(write_data("more", train=rows("train", 5), task=TASK)).digest != jsonl.digest


def test_stated_digest_must_be_that_of_the_rows(write_data):
    digest = read_data(write_data(task=TASK)).digest
    assert read_data(write_data("same", task=TASK + f'digest = "{digest}"\n')).digest == digest
    folder = write_data("other", train=rows("train", 5), task=TASK + f'digest = "{digest}"\n')
    assert digest in mistakes(folder)


def test_other_kind_than_needed_is_an_error(classification_data):
    assert "is for classification, not summarization" in mistakes(classification_data, kind="summarization")


def test_absent_folder_names_the_next_command(settings):
    with pytest.raises(DataError) as caught:
        read_data(settings.workspace / "none")
    assert "legion data prepare" in caught.value.hint
