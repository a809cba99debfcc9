"""Weights are read as given, or refused with every mistake at once."""

from __future__ import annotations

import pytest

from legion.foundation.errors import InvalidValueError
from legion.neuro_architecture.evaluator import MultiObjectiveEvaluator, check_weights, parse_weights
from legion.neuro_architecture.spec.evaluation import DEFAULT_WEIGHTS


def test_the_specification_s_weights_are_read():
    assert parse_weights("accuracy:0.5,latency:0.2,safety:0.3") == {"accuracy": 0.5, "latency": 0.2, "safety": 0.3}


def test_weights_are_not_rescaled():
    assert parse_weights(" accuracy : 3 , cost:1 ") == {"accuracy": 3.0, "cost": 1.0}


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("acuracy:0.5", "did you mean 'accuracy'"),
        ("speed:1", "known: accuracy"),
        ("accuracy:-1", "0 or more"),
        ("accuracy:much", "no number"),
        ("accuracy:nan", "no weight"),
        ("accuracy:inf", "no weight"),
        ("accuracy:0,latency:0", "above zero"),
        ("accuracy:1,accuracy:2", "named twice"),
        ("accuracy", "not name:number"),
        ("", "above zero"),
    ],
)
def test_each_mistake_is_named(text, said):
    with pytest.raises(InvalidValueError) as caught:
        parse_weights(text)
    assert said in caught.value.cause
    assert caught.value.exit_code == 2
    assert "--weights" in caught.value.hint


def test_all_mistakes_are_named_at_once():
    with pytest.raises(InvalidValueError) as caught:
        parse_weights("acuracy:0.5,latency:-1,cost:x,safety")
    assert len(caught.value.cause.splitlines()) == 4


@pytest.mark.parametrize("weight", [True, "0.5", None])
def test_a_mapping_holds_numbers_only(weight):
    with pytest.raises(InvalidValueError, match="cannot be used"):
        check_weights({"accuracy": weight})


def test_a_wrong_weight_is_refused_before_anything_is_loaded(settings):
    with pytest.raises(InvalidValueError):
        MultiObjectiveEvaluator("accuracy:-1", settings=settings)


def test_default_weights_are_the_specification_s(settings):
    assert MultiObjectiveEvaluator(settings=settings).weights == DEFAULT_WEIGHTS
