"""The seed decides what is asked; nothing else does."""

from __future__ import annotations

from collections import Counter

from legion.foundation.rng import RandomStream
from legion.neuro_architecture.data.datasets import read_data
from legion.neuro_architecture.evaluator import EvaluatorConfig
from legion.neuro_architecture.evaluator.sample import draw_sample


def test_same_seed_asks_the_same_texts(classification_data):
    data, config = read_data(classification_data), EvaluatorConfig(test_examples=10, robustness_examples=7)
    assert draw_sample(data, config, RandomStream(1)) == draw_sample(data, config, RandomStream(1))
    assert draw_sample(data, config, RandomStream(1)) != draw_sample(data, config, RandomStream(2))


def test_other_sample_sizes_do_not_shift_the_draws(classification_data):
    data = read_data(classification_data)
    few, many = (
        draw_sample(data, EvaluatorConfig(robustness_examples=7, latency_examples=size), RandomStream(1))
        for size in (3, 9)
    )
    assert few.noisy == many.noisy


def test_perturbations_are_spread_evenly(classification_data):
    sample = draw_sample(read_data(classification_data), EvaluatorConfig(robustness_examples=21), RandomStream(0))
    assert set(Counter(noisy.perturbation for noisy in sample.noisy).values()) == {3}


def test_all_of_the_test_split_is_asked_unless_limited(classification_data):
    data = read_data(classification_data)
    assert draw_sample(data, EvaluatorConfig(), RandomStream(0)).test == data.test
    assert len(draw_sample(data, EvaluatorConfig(test_examples=5), RandomStream(0)).test) == 5


def test_texts_are_test_then_noisy_then_pairs(classification_data):
    sample = draw_sample(read_data(classification_data), EvaluatorConfig(identity_examples=3), RandomStream(0))
    texts = sample.texts()
    assert texts[0] == sample.test[0].text
    assert texts[len(sample.test)] == sample.noisy[0].text
    assert texts[-1] == sample.pairs[-1].second


def test_written_tasks_have_no_identity_pairs(summarization_data):
    assert draw_sample(read_data(summarization_data), EvaluatorConfig(), RandomStream(0)).pairs == ()
