"""The loop's own decisions, and one whole pass on a tiny model."""

from __future__ import annotations

import pytest

from legion.foundation.errors import InvalidValueError
from legion.neuro_architecture.spec.measurement import Measurement
from legion.neuro_architecture.spec.training import METRIC_UNITS, TrainingMetrics, TrialState
from legion.neuro_architecture.study import Loop, LoopConfig
from legion.neuro_architecture.study.loop import plan_final_steps, rank_by_validation


def _metrics(state=TrialState.COMPLETED, **values):
    absent = {name: Measurement.absent(unit, "not needed here") for name, unit in METRIC_UNITS.items()}
    measured = {name: Measurement.measured(value, METRIC_UNITS[name]) for name, value in values.items()}
    return TrainingMetrics(proposal_id="x", state=state, **(absent | measured))


def test_the_lowest_validation_loss_comes_first_and_failed_trials_never():
    trained = {
        "b": _metrics(validation_loss=0.4),
        "a": _metrics(validation_loss=0.4),
        "c": _metrics(validation_loss=0.1),
        "failed": _metrics(state=TrialState.FAILED, validation_loss=0.0),
        "unmeasured": _metrics(),
    }
    assert rank_by_validation(trained) == ["c", "a", "b"]


def _config(**changes):
    return LoopConfig(task="t", data="d", proxy_steps=30, min_final_steps=100, max_final_steps=400, **changes)


def _fast(rate: float):
    return _metrics(throughput_samples_sec=rate, examples_seen=480.0, steps_completed=30.0)


def test_final_steps_fit_what_is_left_of_the_budget():
    # 100 examples a second, batches of 16: 0.16 s a step; the evaluation runs through 5,000 examples at 0.4 x 0.01 s.
    steps = plan_final_steps(_config(budget_s=100.0), [_fast(100.0)], 5_000, 40.0)
    assert steps == 30 + int((100.0 - 40.0 - 20.0) / 0.16)


def test_two_finalists_share_what_is_left():
    one = plan_final_steps(_config(budget_s=100.0), [_fast(100.0)], 5_000, 40.0)
    two = plan_final_steps(_config(budget_s=100.0), [_fast(100.0)] * 2, 5_000, 40.0)
    assert two - 30 == (one - 30) // 2


@pytest.mark.parametrize(("rate", "steps"), [(1.0, 100), (1e6, 400)])
def test_final_steps_stay_within_their_bounds(rate, steps):
    assert plan_final_steps(_config(budget_s=100.0), [_fast(rate)], 5_000, 10.0) == steps


def test_given_final_steps_are_never_fewer_than_the_proxies_had():
    assert plan_final_steps(_config(final_steps=10), [_fast(1.0)], 1, 0.0) == 30
    assert plan_final_steps(_config(final_steps=50), [_fast(1.0)], 1, 0.0) == 50


@pytest.mark.parametrize("changes", [{"num_proposals": 0}, {"num_finalists": 0}, {"budget_s": 0.0}])
def test_impossible_configs_are_refused(changes):
    with pytest.raises(InvalidValueError):
        _config(**changes)


def test_one_pass_trains_the_finalist_on_and_a_second_pass_repeats_no_training(
    settings, tiny_folders, classification_data, monkeypatch
):
    monkeypatch.setenv("LEGION_BASE", str(tiny_folders["bert"]))
    from legion.foundation.settings import Settings

    config = LoopConfig(task="tiny", data="data/tiny", num_proposals=3, proxy_steps=4, final_steps=10)
    outcome = Loop(Settings.load()).run(config)
    runs = settings.workspace / "artifacts" / "proxy_runs"
    assert outcome.summary.total_evaluated == 3
    assert outcome.final_steps == 10
    before = {path: path.read_bytes() for path in runs.glob("*/metrics.json")}
    steps = {path.parent.name: outcome_steps(path) for path in before}
    assert steps.pop(outcome.finalists[0]) == 10
    assert set(steps.values()) == {4}
    again = Loop(Settings.load()).run(config)
    assert again.finalists == outcome.finalists
    assert {path: path.read_bytes() for path in runs.glob("*/metrics.json")} == before


def outcome_steps(path) -> float:
    from legion.neuro_architecture.records import RunFolder

    metrics, _ = RunFolder(path.parent).read_metrics()
    return metrics.steps_completed.value
