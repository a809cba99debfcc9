from __future__ import annotations

import statistics

import pytest
import torch

from legion.foundation.errors import DataError, InvalidValueError, UnknownNameError
from legion.neuro_architecture.data.base_models import resolve_base
from legion.neuro_architecture.data.datasets import read_data
from legion.neuro_architecture.data.encoding import TaskEncoder
from legion.neuro_architecture.generator.problem import pose_problem


def test_embedded_task_decides_kind_and_length(settings, tiny_folders):
    problem = pose_problem("summarization", base=str(tiny_folders["llama"]), data=None, settings=settings)
    assert (problem.task, problem.kind, problem.anatomy.is_causal) == ("summarization", "summarization", True)
    assert problem.sequence_length == 128  # a typical article is longer, but this base has 128 positions


def test_typical_sentence_has_32_tokens(settings, tiny_folders):
    problem = pose_problem("classification", base=str(tiny_folders["bert"]), data=None, settings=settings)
    assert problem.sequence_length == 32
    assert problem.anatomy.head_parameters == 2 * 32 + 2


def test_data_set_decides_kind_labels_and_length(settings, tiny_folders, classification_data):
    problem = pose_problem("anything goes", base=str(tiny_folders["bert"]), data="data/tiny", settings=settings)
    data = read_data(classification_data)
    encoder = TaskEncoder(resolve_base(str(tiny_folders["bert"]), settings).tokenizer(), data.spec, max_tokens=128)
    lengths = [len(encoder.encode(example).input_ids) for example in data.train]
    assert (problem.task, problem.kind) == ("anything goes", "classification")
    assert problem.sequence_length == statistics.median_low(lengths)


def test_number_of_labels_sizes_the_head(settings, tiny_folders, classification_data):
    for name in ("train", "validation", "test"):
        path = classification_data / f"{name}.jsonl"
        extra = {"train": "so so", "validation": "fairly so so", "test": "rather so so"}[name]
        path.write_text(path.read_text() + f'{{"text": "{extra}", "label": "fair"}}\n')
    task = classification_data / "task.toml"
    task.write_text(task.read_text().replace('["negative", "positive"]', '["negative", "positive", "fair"]'))
    problem = pose_problem("t", base=str(tiny_folders["bert"]), data=classification_data, settings=settings)
    assert problem.anatomy.head_parameters == 3 * 32 + 3


def test_structure_is_read_without_weights(settings, tiny_folders, monkeypatch):
    def refuse(*_, **__):
        raise AssertionError("weights were loaded")

    monkeypatch.setattr("legion.neuro_architecture.data.loading.load_task_model", refuse)
    monkeypatch.setattr("safetensors.torch.load_file", refuse)
    state = torch.random.get_rng_state()
    problem = pose_problem("classification", base=str(tiny_folders["bert"]), data=None, settings=settings)
    assert problem.anatomy.num_layers == 3
    assert torch.equal(torch.random.get_rng_state(), state)


@pytest.mark.parametrize("task", ["", "  "])
def test_empty_task_is_refused(settings, tiny_folders, classification_data, task):
    with pytest.raises(InvalidValueError, match="task is empty") as caught:
        pose_problem(task, base=str(tiny_folders["bert"]), data=classification_data, settings=settings)
    assert caught.value.hint


def test_unknown_task_without_data_is_refused_with_a_hint(settings):
    with pytest.raises(UnknownNameError, match="unknown task 'clasification'") as caught:
        pose_problem("clasification", base=None, data=None, settings=settings)
    assert "did you mean 'classification'" in (caught.value.hint or "")
    assert "--data" in (caught.value.hint or "")


def test_unknown_base_is_refused(settings):
    with pytest.raises(UnknownNameError, match="unknown base model 'minilm-l7'"):
        pose_problem("classification", base="minilm-l7", data=None, settings=settings)


def test_missing_data_is_refused(settings, tiny_folders):
    with pytest.raises(DataError):
        pose_problem("t", base=str(tiny_folders["bert"]), data="data/nowhere", settings=settings)
