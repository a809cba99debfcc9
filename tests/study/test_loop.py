"""The loop's own decisions, and one whole pass on a tiny model."""

from __future__ import annotations

import pytest

from legion.foundation.errors import InvalidValueError
from legion.neuro_architecture.spec.measurement import Measurement
from legion.neuro_architecture.spec.training import METRIC_UNITS, TrainingMetrics, TrialState
from legion.neuro_architecture.study import Loop, LoopConfig
from legion.neuro_architecture.study.loop import rank_by_validation


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
    return LoopConfig(task="t", data="d", **changes)


def test_rungs_lie_a_factor_apart_below_the_end_of_the_schedule():
    assert _config(proxy_steps=30, final_steps=270, factor=3.0).rungs.steps == (30, 90)
    assert _config(proxy_steps=30, final_steps=271, factor=3.0).rungs.steps == (30, 90, 270)
    assert _config(proxy_steps=30, final_steps=30).rungs is None


@pytest.mark.parametrize("changes", [{"num_proposals": 0}, {"num_finalists": 0}, {"final_steps": 0}, {"factor": 1.0}])
def test_impossible_configs_are_refused(changes):
    with pytest.raises(InvalidValueError):
        _config(**changes)


def test_one_pass_stops_the_worse_trains_the_finalist_on_and_a_second_pass_repeats_no_training(
    settings, tiny_folders, classification_data, monkeypatch
):
    monkeypatch.setenv("LEGION_BASE", str(tiny_folders["bert"]))
    from legion.foundation.settings import Settings

    config = LoopConfig(task="tiny", data="data/tiny", num_proposals=3, proxy_steps=4, final_steps=10)
    outcome = Loop(Settings.load()).run(config)
    runs = settings.workspace / "artifacts" / "proxy_runs"
    assert [row.proposal_id for row in outcome.summary.results] == list(outcome.finalists)
    assert outcome.final_steps == 10
    assert outcome.population["rungs"] == [{"steps": 4, "trials": 3, "continued": list(outcome.finalists)}]
    assert outcome.population["spared_steps"] == 2 * 6
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
