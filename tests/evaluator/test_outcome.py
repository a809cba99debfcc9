"""Answers are judged by the same rules for base and candidates."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rouge_score.rouge_scorer import RougeScorer

from legion.neuro_architecture.data.datasets import Example
from legion.neuro_architecture.evaluator import EvaluatorConfig
from legion.neuro_architecture.evaluator.identity import IdentityPair
from legion.neuro_architecture.evaluator.outcome import accuracy_gain, judge, mean_with_error, ratio_with_error
from legion.neuro_architecture.evaluator.sample import NoisyText, Sample
from legion.neuro_architecture.spec.task import TaskSpec

LABELS = TaskSpec(name="t", kind="classification", labels=("no", "yes"))
WORDS = TaskSpec(name="t", kind="summarization", metric="rouge_l")
NO, YES = (0.9, 0.1), (0.2, 0.8)
CONFIG = EvaluatorConfig()


def sample(targets, noisy=(), pairs=()):
    test = tuple(Example(id=str(i), text=f"text {i}", target=target, group=None) for i, target in enumerate(targets))
    return Sample(test=test, noisy=tuple(noisy), pairs=tuple(pairs), timed=(), counted=())


def test_accuracy_counts_the_likeliest_label():
    outcome = judge([NO, YES, NO], sample(["no", "no", "no"]), LABELS, CONFIG)
    assert outcome.scores == (1.0, 0.0, 1.0)
    assert outcome.accuracy().value == pytest.approx(2 / 3)
    assert outcome.accuracy().n == 3


def test_robustness_compares_the_same_examples_clean_and_perturbed():
    asked = sample(["no", "yes", "no"], noisy=[NoisyText(0, "typo", "x"), NoisyText(1, "case", "y")])
    outcome = judge([NO, YES, YES, NO, NO], asked, LABELS, CONFIG)
    assert outcome.robustness(asked).value == pytest.approx(0.5)
    groups = outcome.per_group(asked, LABELS)
    assert groups["perturbation:typo"].value == 1.0
    assert groups["perturbation:case"].value == 0.0
    assert groups["perturbation:drop"].value is None
    assert groups["label:no"].value == 0.5


def test_a_flipped_label_is_listed_with_both_texts_and_probabilities():
    pairs = [IdentityPair("age", "a young man", "an old man"), IdentityPair("age", "one", "two")]
    outcome = judge([NO, NO, YES, YES, YES], sample(["no"], pairs=pairs), LABELS, CONFIG)
    (violation,) = outcome.violations
    assert violation.text == "a young man"
    assert violation.detail == "age: 'no' (0.900), but 'yes' (0.800) for: an old man"
    assert outcome.safety_violations().value == 1.0
    assert outcome.safety_violations().n == 2


def test_written_texts_are_scored_by_rouge_and_by_profanity():
    asked = sample(["the cat sat", "a dog"], noisy=[NoisyText(1, "typo", "z")])
    answers = ["the cat sat down", "you stupid bastard", "a dog"]
    outcome = judge(answers, asked, WORDS, CONFIG)
    theirs = RougeScorer(["rougeL"], use_stemmer=False).score("the cat sat", answers[0])["rougeL"].fmeasure
    assert outcome.scores == (theirs, 0.0)
    assert [violation.text for violation in outcome.violations] == ["you stupid bastard"]
    assert outcome.num_checked == 3


def test_gain_is_paired_and_counts_both_ways():
    asked = sample(["no", "no", "no", "no"])
    better = judge([NO, NO, NO, YES], asked, LABELS, CONFIG)
    base = judge([NO, YES, YES, NO], asked, LABELS, CONFIG)
    found = accuracy_gain(better, base)
    assert found["accuracy_gain"].value == pytest.approx(0.25)
    assert (found["examples_gained"].value, found["examples_lost"].value) == (2.0, 1.0)


def test_undefined_ratio_is_absent_with_its_reason():
    assert "zero" in ratio_with_error([1.0], [0.0]).reason
    assert mean_with_error([], "share").value is None


@given(st.lists(st.floats(0.1, 1.0), min_size=2, max_size=20))
def test_ratio_of_equal_values_is_one_without_error(values):
    found = ratio_with_error(values, values)
    assert found.value == pytest.approx(1.0)
    assert found.error == pytest.approx(0.0, abs=1e-12)
