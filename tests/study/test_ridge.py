"""A linear head on frozen states, beside scikit-learn's."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from sklearn.linear_model import Ridge

from legion.neuro_architecture.data.base_models import resolve_base
from legion.neuro_architecture.data.datasets import read_data
from legion.neuro_architecture.study.ridge import _accuracy, block_of, ridge_accuracies


def test_the_head_is_scikit_learns_ridge():
    draws = np.random.default_rng(0)
    x, asked = draws.normal(size=(80, 6)), draws.normal(size=(50, 6))
    labels, expected = (x[:, 0] > 0).astype(int), (asked[:, 0] + 0.5 * draws.normal(size=50) > 0).astype(int)
    centred = x - x.mean(axis=0)
    penalty = 0.1 * (centred**2).sum(axis=0).mean()
    ridge = Ridge(alpha=penalty).fit(x, np.eye(2)[labels])
    wanted = (ridge.predict(asked).argmax(axis=1) == expected).mean()
    found = _accuracy(*(torch.tensor(each) for each in (x, labels, asked, expected)))
    assert found == pytest.approx(wanted)
    assert found > 0.7


def test_there_is_one_share_for_each_block_and_one_more(ground, classification_data):
    base, data = resolve_base(ground.base, ground), read_data(classification_data)
    found = ridge_accuracies(base, data, max_tokens=32)
    assert len(found) == base.load(data.spec).config.num_hidden_layers + 1
    assert all(0.0 <= share <= 1.0 for share in found)
    assert found == ridge_accuracies(base, data, max_tokens=32)


def test_the_lowest_block_is_read_off_the_trait():
    assert [block_of(each) for each in ("all", "3-5", "1,3,5", "4")] == [0, 3, 1, 4]
