"""The frozen probe is scikit-learn's logistic regression on mean-pooled features, whatever way it is stored."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch
from sklearn.linear_model import LogisticRegression

from legion.foundation.errors import DataError
from legion.neuro_architecture.data.base_models import resolve_base
from legion.neuro_architecture.data.datasets import read_data
from legion.neuro_architecture.data.encoding import TaskEncoder
from legion.neuro_architecture.evaluator.probe import FrozenProbe, encoder_features


@pytest.mark.parametrize("labels", [("no", "yes"), ("bad", "so", "good")])
def test_probabilities_are_scikit_learn_s(labels):
    generator = np.random.default_rng(0)
    features = generator.normal(size=(60, 5))
    targets = [labels[index % len(labels)] for index in range(60)]
    probe = FrozenProbe.fit(features, targets, labels)
    theirs = LogisticRegression(max_iter=3000).fit(features, [labels.index(target) for target in targets])
    np.testing.assert_allclose(probe.probabilities(features), theirs.predict_proba(features), atol=1e-12)


def test_a_stored_probe_answers_as_before():
    features = np.random.default_rng(1).normal(size=(30, 4))
    labels = ("a", "b", "never seen")
    probe = FrozenProbe.fit(features, ["a", "b"] * 15, labels)
    stored = FrozenProbe.from_dict(json.loads(json.dumps(probe.to_dict())), labels)
    np.testing.assert_array_equal(stored.probabilities(features), probe.probabilities(features))
    assert (probe.probabilities(features)[:, 2] == 0.0).all()


def test_one_label_is_no_task():
    with pytest.raises(DataError, match="'a'"):
        FrozenProbe.fit(np.ones((3, 2)), ["a"] * 3, ("a", "b"))


def test_features_are_the_mean_over_real_tokens_whatever_the_batch(settings, tiny_folders, classification_data):
    base, data = resolve_base(str(tiny_folders["bert"]), settings), read_data(classification_data)
    encoder = TaskEncoder(base.tokenizer(), data.spec, max_tokens=64)
    model = base.load_encoder()
    texts = ["good film", "the man with a very bright and warm story", "dull"]
    batched = encoder_features(model, encoder, texts, batch_size=3)
    for row, text in zip(batched, texts, strict=True):
        with torch.no_grad():
            hidden = model(input_ids=torch.tensor([encoder.encode_text(text)])).last_hidden_state
        np.testing.assert_allclose(row, hidden[0].mean(0).numpy(), atol=1e-5)


def test_accuracy_on_features_is_scikit_learn_s_own_score(settings, tiny_folders, classification_data):
    base, data = resolve_base(str(tiny_folders["bert"]), settings), read_data(classification_data)
    encoder = TaskEncoder(base.tokenizer(), data.spec, max_tokens=64)
    model = base.load_encoder()
    train, test = (
        encoder_features(model, encoder, [row.text for row in split], batch_size=8) for split in (data.train, data.test)
    )
    probe = FrozenProbe.fit(train, [row.target for row in data.train], data.spec.labels)
    best = probe.probabilities(test).argmax(axis=1)
    ours = np.mean([data.spec.labels[index] == row.target for index, row in zip(best, data.test, strict=True)])
    theirs = LogisticRegression(max_iter=3000).fit(train, [row.target for row in data.train])
    assert ours == theirs.score(test, [row.target for row in data.test])
