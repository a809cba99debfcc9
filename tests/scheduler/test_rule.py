"""Who goes on at a rung."""

from __future__ import annotations

import numpy as np
import pytest

from legion.foundation.errors import InvalidValueError
from legion.neuro_architecture.scheduler import Contender, RungRule, Verdict, order


def contender(name, *losses, **changes):
    return Contender(name=name, losses=losses or (1.0,), **changes)


def verdicts(contenders, **rule):
    return {name: found.verdict for name, found in RungRule(**rule).decide(contenders).items()}


def examples(mean, seed=0):
    return tuple(np.random.default_rng(seed).normal(mean, 0.05, 300).tolist())


def test_constraints_come_before_ranks_and_ranks_before_contributions():
    found = order(
        [
            contender("breaks", 0.0, 0.0, violation=0.1),
            contender("dominated", 0.9, 0.9),
            contender("narrow", 0.45, 0.55),
            contender("wide", 0.0, 1.0),
            contender("middle", 0.4, 0.6),
        ]
    )
    assert [item.name for item in found][:1] == ["wide"]
    assert [item.name for item in found][-2:] == ["dominated", "breaks"]


def test_the_best_continue_and_the_rest_pause_where_nothing_certain_is_known():
    found = verdicts([contender(name, float(loss)) for loss, name in enumerate("abcdef")], factor=3.0)
    assert found == {name: Verdict.CONTINUE if name in "ab" else Verdict.PAUSE for name in "abcdef"}


def test_a_trial_stops_only_where_paired_losses_say_that_it_is_worse():
    field = [
        contender("best", 0.2, examples=examples(0.2)),
        contender("alike", 0.21, examples=examples(0.21, seed=1)),
        contender("worse", 0.9, examples=examples(0.9)),
    ]
    decisions = RungRule(factor=3.0).decide(field)
    assert decisions["best"].verdict is Verdict.CONTINUE
    assert decisions["alike"].verdict is Verdict.PAUSE
    assert decisions["worse"].verdict is Verdict.STOP
    assert "certainly worse than best" in decisions["worse"].reason


def test_a_cheap_trial_on_the_front_continues_however_it_learns():
    field = [contender("cheap", 0.9, 1.0, examples=examples(0.9)), contender("dear", 0.2, 9.0, examples=examples(0.2))]
    assert set(verdicts(field, factor=1.5).values()) == {Verdict.CONTINUE}


def test_an_exploratory_trial_continues_whatever_it_shows():
    field = [
        contender("best", 0.2, examples=examples(0.2)),
        contender("explorer", 0.9, examples=examples(0.9), is_exploratory=True),
    ]
    assert verdicts(field, factor=2.0) == {"best": Verdict.CONTINUE, "explorer": Verdict.CONTINUE}


def test_earlier_trials_count_and_nothing_is_decided_of_those_that_went_on():
    earlier = [contender(f"old{place}", float(place), is_decided=place < 2) for place in range(6)]
    found = verdicts([*earlier, contender("fresh", 0.5)], factor=3.0)
    assert set(found) == {"fresh", "old2", "old3", "old4", "old5"}
    assert found["fresh"] is Verdict.CONTINUE  # three of seven go on; two of them had
    assert found["old2"] is Verdict.PAUSE


def test_a_paused_trial_is_promoted_once_more_trials_make_room():
    waiting = [contender("a", 0.0, is_decided=True), contender("b", 1.0)]
    assert verdicts(waiting, factor=3.0) == {"b": Verdict.PAUSE}
    crowd = [contender(f"c{place}", 2.0 + place) for place in range(3)]
    assert verdicts([*waiting, *crowd], factor=3.0)["b"] is Verdict.CONTINUE


def test_a_broken_constraint_stops_where_another_keeps_all():
    field = [contender("keeps", 1.0), contender("breaks", 0.0, violation=0.5)]
    assert verdicts(field, factor=2.0) == {"keeps": Verdict.CONTINUE, "breaks": Verdict.STOP}


def test_the_order_in_which_trials_are_named_decides_nothing():
    draws = np.random.default_rng(3)
    field = [contender(f"t{place}", *draws.random(3).tolist(), examples=examples(0.5, place)) for place in range(12)]
    assert RungRule().decide(field) == RungRule().decide(field[::-1]) == RungRule().decide(field[5:] + field[:5])


@pytest.mark.parametrize("wrong", [{"factor": 1.0}, {"least": 0}, {"delta": 0.0}, {"delta": 1.0}])
def test_rules_that_stop_nobody_or_everybody_are_refused(wrong):
    with pytest.raises(InvalidValueError):
        RungRule(**wrong)


def test_nobody_is_decided_of_nobody():
    assert RungRule().decide([]) == {}
