import math

import pytest

from legion.foundation.errors import InvalidValueError, UnknownNameError
from legion.neuro_architecture.objectives import (
    Constraint,
    choose_objectives,
    parse_constraint,
    total_violation,
)
from legion.neuro_architecture.objectives.constraints import refuse_contradictions


@pytest.mark.parametrize(
    ("text", "relation", "bound"),
    [("latency_ms<=12", "<=", 12.0), (" latency_ms > 1.5e1 ", ">", 15.0), ("latency_ms==0", "==", 0.0)],
)
def test_constraints_are_read_and_written(text, relation, bound):
    constraint = parse_constraint(text)
    assert constraint == Constraint(objective="latency_ms", relation=relation, bound=bound)
    assert parse_constraint(str(constraint)) == constraint


@pytest.mark.parametrize("text", ["latency_ms", "latency_ms=12", "latency_ms<=fast", "<=3", "latency_ms<=1e999", ""])
def test_what_is_no_constraint_is_refused(text):
    with pytest.raises(InvalidValueError):
        parse_constraint(text)


def test_an_unknown_objective_is_refused_with_the_nearest():
    with pytest.raises(UnknownNameError, match="latencyms"):
        parse_constraint("latencyms<=12")
    with pytest.raises(UnknownNameError, match="speed"):
        choose_objectives(["accuracy", "speed"])


def test_violation_is_a_share_of_the_bound_and_infinite_where_nothing_is_known():
    constraint = parse_constraint("latency_ms<=10")
    assert constraint.violation(10.0) == 0.0
    assert constraint.violation(12.0) == pytest.approx(0.2)
    assert constraint.violation(None) == math.inf
    assert parse_constraint("latency_ms<10").violation(10.0) > 0.0
    both = [constraint, parse_constraint("safety_violations==0")]
    assert total_violation(both, {"latency_ms": 15.0, "safety_violations": 2.0}) == pytest.approx(2.5)
    assert total_violation(both, {"latency_ms": 5.0}) == math.inf


@pytest.mark.parametrize(
    ("texts", "is_possible"),
    [
        (("accuracy>=0.8", "accuracy<=0.7"), False),
        (("accuracy>=0.8", "accuracy<=0.8"), True),
        (("accuracy>0.8", "accuracy<=0.8"), False),
        (("accuracy>0.8", "accuracy<0.81"), True),
        (("accuracy==0.8", "accuracy==0.9"), False),
        (("accuracy==0.8", "accuracy<=0.9"), True),
        (("accuracy>=0.8", "latency_ms<=0.7"), True),
        (("latency_ms>=1e6", "latency_ms>=-1"), True),
    ],
)
def test_contradictions_are_found(texts, is_possible):
    constraints = [parse_constraint(text) for text in texts]
    if is_possible:
        refuse_contradictions(constraints)
    else:
        with pytest.raises(InvalidValueError, match="nothing can satisfy both"):
            refuse_contradictions(constraints)


def test_objectives_come_in_the_order_asked_and_once():
    chosen = choose_objectives(["latency_ms", "accuracy"])
    assert [(item.name, item.sign) for item in chosen] == [("latency_ms", -1), ("accuracy", 1)]
    for names in ([], ["accuracy", "accuracy"]):
        with pytest.raises(InvalidValueError):
            choose_objectives(names)
