"""task.toml: every wrong key at once, and what is written reads back."""

from __future__ import annotations

import pytest

from legion.foundation.errors import DataError
from legion.neuro_architecture.data.task_files import read_task, write_task
from legion.neuro_architecture.spec.task import TaskSpec


def mistakes(folder, text) -> str:
    (folder / "task.toml").write_text(text)
    with pytest.raises(DataError) as caught:
        read_task(folder / "task.toml")
    return caught.value.cause


def test_written_task_reads_back(tmp_path):
    spec = TaskSpec(
        name="nötig",
        kind="classification",
        labels=('say "no"', "back\\slash"),
        group_column="who",
        licence="CC0-1.0",
        source="line\nbreak",
        digest="sha256:" + "0" * 64,
    )
    write_task(tmp_path / "task.toml", spec)
    assert read_task(tmp_path / "task.toml") == spec


def test_kind_decides_the_defaults(tmp_path):
    (tmp_path / "task.toml").write_text('kind = "summarization"\n')
    spec = read_task(tmp_path / "task.toml")
    assert (spec.name, spec.target_column, spec.metric) == (tmp_path.name, "summary", "rouge_l")


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ('name = "x"\n', "kind: Field required"),
        ('kind = "translation"\n', "kind: Input should be 'classification' or 'summarization'"),
        ('kind = "classification"\ntext_colum = "t"\n', "text_colum: unknown key; did you mean 'text_column'?"),
        ('kind = "classification"\nis_conventional = true\n', "is_conventional: unknown key"),
        ('kind = "classification"\nlabels = [0, 1]\n', "labels.0: Input should be a valid string"),
        ('kind = "classification"\nlabels = ["a", "a"]\n', "two or more different names"),
        ('kind = "classification"\nlabels = ["a"]\n', "two or more different names"),
        ('kind = "classification"\nmetric = "rouge_l"\n', "classification is measured by accuracy"),
        ('kind = "summarization"\nlabels = ["a", "b"]\n', "a summarization has none"),
        ('kind = "classification"\ntarget_column = "text"\n', "text, target and group must differ"),
        ('kind = "classification"\ndigest = "abc"\n', "digest: must be sha256:<64 hex>"),
        ("kind = \n", "line 1"),
    ],
)
def test_wrong_task_says_which_key(tmp_path, text, said):
    assert said in mistakes(tmp_path, text)


def test_wrong_keys_come_all_at_once(tmp_path):
    told = mistakes(tmp_path, 'kind = "translation"\nlabel = "x"\nlabels = 3\n')
    assert [line.split(":")[0] for line in told.splitlines()] == ["label", "kind", "labels"]
