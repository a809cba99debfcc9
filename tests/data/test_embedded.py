"""The real embedded assets: what is pinned is what works."""

from __future__ import annotations

import subprocess
import sys

import pytest
import torch

from legion.neuro_architecture.data.assets import AssetStore
from legion.neuro_architecture.data.base_models import embedded_bases, resolve_base
from legion.neuro_architecture.data.encoding import TaskEncoder
from legion.neuro_architecture.data.prepare import prepare_data

pytestmark = pytest.mark.assets


@pytest.fixture(scope="module")
def prepared(embedded_home):
    return {data.folder.name: data for data in prepare_data(embedded_home)}


def test_every_asset_is_there_and_unchanged(embedded_home):
    store = AssetStore(embedded_home)
    assert {status["state"] for status in store.status()} == {"ready"}
    for name in store.names():
        store.verify(name)


def test_second_fetch_needs_no_network(embedded_home, monkeypatch):
    monkeypatch.setattr(sys, "executable", "/nonexistent/python")
    monkeypatch.setattr(subprocess, "run", None)
    assert not any(status["fetched"] for status in AssetStore(embedded_home).fetch())


def test_prepared_data_has_the_published_sizes(prepared):
    movies = prepared["classification"]
    assert [len(rows) for rows in (movies.train, movies.validation, movies.test)] == [8056, 1007, 1007]
    assert movies.digest == "sha256:aa1a23d450d5ef4b0104840d871b59243dd8c8a6053f5a3cb712296c8adc2f0d"
    assert prepared["task_small"].digest == "sha256:891f14a39f98f92c7c970b7ff30b55f03fc9e05da98642a2bfdaf845f507932c"
    assert prepared["ci_test"].digest == "sha256:0f295697475c688a67f08f7e753b7bdc916128476f5ad91cf2fc7754f04d4901"
    assert all(data.warnings == () for data in prepared.values())


def test_pound_sign_of_the_latin_1_article_survives(embedded_home):
    articles = (AssetStore(embedded_home).folder("bbc-news") / "articles.jsonl").read_text(encoding="utf-8")
    assert "\ufffd" not in articles
    assert "a £15.8m signing" in articles


def test_embedded_bases_have_known_weights(embedded_home):
    minilm, smollm2 = (resolve_base(name, embedded_home) for name in embedded_bases())
    assert minilm.reference.digest == "sha256:6e2fa58948e445d1da5a4e522edfc295344d81ee7451e2d0d457c0de8e7bdc70"
    assert (minilm.reference.model_type, minilm.max_tokens) == ("bert", 512)
    assert (smollm2.reference.model_type, smollm2.max_tokens) == ("llama", 8192)


def test_minilm_classifies_a_batch(embedded_home, prepared):
    data = prepared["ci_test"]
    base = resolve_base("minilm-l6", embedded_home)
    encoder = TaskEncoder(base.tokenizer(), data.spec, max_tokens=256)
    batch = encoder.collate(encoder.encode_all(data.test[:8]))
    with torch.no_grad():
        output = base.load(data.spec)(**batch)
    assert output.logits.shape == (8, 2)
    assert output.loss.isfinite()


def test_smollm2_prefers_the_real_headline_to_another_articles(embedded_home, prepared):
    """The chat prompt, the labels and the converted weights fit together: each headline is likelier for its article."""
    data = prepared["task_small"]
    base = resolve_base("smollm2-135m", embedded_home)
    model = base.load(data.spec)
    encoder = TaskEncoder(base.tokenizer(), data.spec, max_tokens=192)
    first, second = data.test[0], data.test[1]
    pairs = [(text, target) for text in (first, second) for target in (first, second)]
    losses = []
    for text, target in pairs:
        example = type(text)(id="x", text=text.text, target=target.target)
        with torch.no_grad():
            losses.append(float(model(**encoder.collate([encoder.encode(example)])).loss))
    assert losses[0] < losses[2]
    assert losses[3] < losses[1]
