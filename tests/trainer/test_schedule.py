import pytest
from hypothesis import given
from hypothesis import strategies as st

from legion.neuro_architecture.trainer.config import TrainerConfig
from legion.neuro_architecture.trainer.schedule import (
    affordable_validations,
    is_checkpoint_due,
    learning_rate,
    validation_points,
)


def rates(steps, warmup_share):
    return [learning_rate(step, steps, peak=1.0, warmup_share=warmup_share) for step in range(steps)]


def test_rate_rises_to_the_peak_then_falls():
    assert rates(10, 0.4) == pytest.approx([0.2, 0.4, 0.6, 0.8, 1.0, 5 / 6, 4 / 6, 3 / 6, 2 / 6, 1 / 6])


@given(st.integers(1, 400), st.floats(0.0, 1.0))
def test_every_update_has_a_rate_within_the_peak(steps, warmup_share):
    found = rates(steps, warmup_share)
    assert all(0.0 < rate <= 1.0 for rate in found)
    top = found.index(max(found))
    assert found[: top + 1] == sorted(found[: top + 1])
    assert found[top:] == sorted(found[top:], reverse=True)


def test_validations_are_spread_evenly_and_end_with_the_last_step():
    assert validation_points(200, 5) == (40, 80, 120, 160, 200)
    assert validation_points(7, 5) == (1, 3, 4, 6, 7)


@given(st.integers(1, 3000), st.integers(1, 9))
def test_there_is_a_validation_at_the_end_of_any_run(steps, num_validations):
    points = validation_points(steps, num_validations)
    assert points[-1] == steps
    assert min(points) >= 1
    assert len(points) == min(steps, num_validations)


@pytest.mark.parametrize(("steps", "expected"), [(1, 2), (60, 2), (100, 3), (160, 5), (5000, 5)])
def test_short_runs_validate_less_often_but_twice_at_least(steps, expected):
    assert affordable_validations(steps, batch_size=16, num_watched=256, config=TrainerConfig()) == expected


def test_config_may_ask_for_one_validation_at_the_end():
    config = TrainerConfig(num_validations=1)
    assert affordable_validations(9, batch_size=16, num_watched=256, config=config) == 1


@pytest.mark.parametrize(
    ("worked_s", "num_steps", "is_due"),
    [(11.0, 100, True), (11.0, 99, False), (9.0, 500, False), (61.0, 1, True), (61.0, 0, False)],
)
def test_checkpoint_waits_for_the_rarer_of_time_and_share_within_a_bound(worked_s, num_steps, is_due):
    assert is_checkpoint_due(worked_s=worked_s, num_steps=num_steps, steps=1000, config=TrainerConfig()) is is_due


def test_an_extension_warms_up_anew_and_then_follows_the_long_schedule():
    long = [learning_rate(step, 100, peak=1.0, warmup_share=0.1) for step in range(100)]
    extended = [learning_rate(step, 100, peak=1.0, warmup_share=0.1, begin=30) for step in range(30, 100)]
    assert extended[0] == pytest.approx(long[30] / 11)
    assert extended[:10] == sorted(extended[:10])
    assert extended[10:] == long[40:]
