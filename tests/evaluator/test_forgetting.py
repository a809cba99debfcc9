"""What a causal model has become worse at, beside what it was trained for."""

from __future__ import annotations

import dataclasses
import math
import shutil

import pytest
import torch
from tests.evaluator.conftest import ARCHITECTURES

from legion.neuro_architecture.data.base_models import resolve_base
from legion.neuro_architecture.data.datasets import read_data
from legion.neuro_architecture.data.encoding import TaskEncoder
from legion.neuro_architecture.evaluator import MultiObjectiveEvaluator
from legion.neuro_architecture.evaluator import forgetting as room
from legion.neuro_architecture.evaluator.forgetting import forgetting, plain_losses

ALL = ["artifacts/proxy_runs/*/metrics.json"]


@pytest.fixture
def articles(study_of):
    """`articles(family)`: a bare model, its encoder, and texts of unlike lengths, the last of a single token."""

    def make(family):
        study = study_of(family, "summarization")
        base, data = resolve_base(str(study.base_folder), study.settings), read_data(study.data_folder)
        encoder = TaskEncoder(base.tokenizer(), data.spec, max_tokens=64)
        texts = [example.text for example in data.test]
        return base.load(data.spec).eval(), encoder, [*texts[:3], " ".join(texts[3].split()[:3]), "film"]

    return make


@pytest.fixture
def learnt(settings):
    """`learnt(study)`: the study on a copy of its base that has learnt to foretell the training texts."""

    def make(study):
        folder = settings.workspace / "learnt"
        shutil.copytree(study.base_folder, folder)
        base, data = resolve_base(str(folder), settings), read_data(study.data_folder)
        model = base.load(data.spec)
        encoder = TaskEncoder(base.tokenizer(), data.spec, max_tokens=64)
        batch = encoder.collate(encoder.encode_plain([example.text for example in data.train]))
        optimizer = torch.optim.AdamW(model.parameters(), lr=3e-3)
        for _ in range(20):
            optimizer.zero_grad()
            model(**batch).loss.backward()
            optimizer.step()
        model.save_pretrained(folder)
        return dataclasses.replace(study, base_folder=folder)

    return make


def evaluate(study, small):
    evaluator = MultiObjectiveEvaluator("latency:1", settings=study.settings, config=small)
    return evaluator.evaluate(ALL), evaluator.summary


@pytest.mark.parametrize("family", ["llama", "gpt2"])
def test_loss_is_transformers_own_on_each_text_by_itself(articles, family):
    model, encoder, texts = articles(family)
    found = plain_losses(model, encoder, texts, batch_size=4)
    rows = [torch.tensor([item.input_ids]) for item in encoder.encode_plain(texts)]
    with torch.no_grad():
        expected = [float(model(input_ids=ids, labels=ids).loss) for ids in rows if ids.shape[1] > 1]
    assert len(found) == len(texts) - 1  # a single token foretells nothing
    assert found == pytest.approx(expected, rel=1e-5)


def test_no_pass_holds_more_logits_than_it_may(articles, monkeypatch):
    model, encoder, texts = articles("gpt2")
    expected = plain_losses(model, encoder, texts, batch_size=8)
    monkeypatch.setattr(room, "_MOST_LOGITS", 1)
    sizes = []
    model.register_forward_hook(lambda _module, _inputs, output: sizes.append(len(output.logits)))
    assert plain_losses(model, encoder, texts, batch_size=8) == pytest.approx(expected, rel=1e-5)
    assert sizes == [1] * len(expected)


@pytest.mark.parametrize("family", ["llama", "gpt2"])
def test_adapter_without_effect_forgets_exactly_nothing(study_of, small, family):
    study = study_of(family, "summarization")
    for proposal_id in ARCHITECTURES:
        study.run(proposal_id, moved=1e-30)  # lost beside any activation; exact zeros are refused as never trained
    results, summary = evaluate(study, small)
    for result in results:
        found = result.measurements["forgetting"]
        assert (found.value, found.error, found.unit, found.n) == (0.0, 0.0, "nats", 8)
        assert result.measurements["plain_loss"] == result.measurements["base_plain_loss"]
    assert summary.baseline["forgetting"].value == 0.0
    assert any("Forgetting" in note for note in summary.notes)


def test_broken_adapter_forgets_much_of_what_its_base_knows(study_of, small, learnt):
    study = learnt(study_of("llama", "summarization"))
    study.run(moved=3.0)
    (result,), summary = evaluate(study, small)
    found = result.measurements
    assert summary.baseline["plain_loss"].value < 3.5  # guessing among its words costs 4.1
    assert found["forgetting"].value > 1.0
    assert found["forgetting"].value > 5 * found["forgetting"].error > 0.0
    gap = found["plain_loss"].value - found["base_plain_loss"].value
    assert found["forgetting"].value == pytest.approx(gap)


def test_error_is_of_the_paired_differences():
    bare = [1.0, 5.0, 9.0]
    assert forgetting([2.0, 6.0, 10.0], bare).error == 0.0
    found = forgetting([1.0, 6.0, 11.0], bare)
    assert (found.value, found.n) == (1.0, 3)
    assert found.error == pytest.approx(1.0 / math.sqrt(3))


def test_better_foretelling_is_below_zero():
    assert forgetting([1.5, 2.5], [2.0, 3.0]).value == -0.5


@pytest.mark.parametrize("loss", [math.nan, math.inf])
def test_loss_that_is_no_number_is_absent_with_a_reason(loss):
    found = forgetting([1.0, loss], [1.0, 1.0])
    assert found.value is None
    assert "not finite" in found.reason


def test_of_a_classifier_it_is_absent_with_a_reason(study, small):
    study.run()
    (result,), summary = evaluate(study, small)
    assert result.measurements["forgetting"].value is None
    assert "no language model" in result.measurements["forgetting"].reason
    assert "plain_loss" not in result.measurements
    assert "forgetting" not in summary.baseline
    assert not any("Forgetting" in note for note in summary.notes)
