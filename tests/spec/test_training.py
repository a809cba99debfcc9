import pytest
from hypothesis import given
from hypothesis import strategies as st

from legion.foundation.errors import InvalidValueError, UsageError
from legion.neuro_architecture.spec.measurement import Measurement
from legion.neuro_architecture.spec.training import (
    METRIC_UNITS,
    TrainingMetrics,
    TrialEvent,
    TrialState,
    transition,
)

_SPEC_FIELDS = (
    "training_loss", "eval_accuracy", "latency_ms", "throughput_samples_sec",
    "gpu_memory_mb", "training_time_sec", "steps_completed",
)  # fmt: skip


def _metrics(**given_fields):
    measured = {name: Measurement.absent(unit, "not measured in this test") for name, unit in METRIC_UNITS.items()}
    return TrainingMetrics(proposal_id="lora-0", state=TrialState.COMPLETED, **(measured | given_fields))


def test_the_flat_form_has_the_fields_of_the_specification_as_bare_numbers():
    flat = _metrics(training_loss=Measurement.measured(0.5, "nats", n=10, error=0.1)).to_flat()
    assert set(_SPEC_FIELDS) <= set(flat)
    assert flat["training_loss"] == 0.5
    assert flat["gpu_memory_mb"] is None
    assert flat["absent"]["gpu_memory_mb"] == "not measured in this test"
    assert flat["units"]["training_loss"] == "nats"


@given(st.floats(-1e6, 1e6), st.integers(1, 100))
def test_the_flat_form_reads_back_equal(value, count):
    metrics = _metrics(training_loss=Measurement.measured(value, "nats", n=count, error=0.25))
    assert TrainingMetrics.from_flat(metrics.to_flat()) == metrics


def test_a_number_without_value_and_reason_is_refused():
    flat = _metrics().to_flat()
    del flat["absent"]["latency_ms"]
    with pytest.raises(InvalidValueError, match=r"metrics\.json") as caught:
        TrainingMetrics.from_flat(flat)
    assert "latency_ms" in (caught.value.cause or "")


def test_a_measurement_is_a_value_or_a_reason_never_both():
    with pytest.raises(ValueError, match="either a value or a reason"):
        Measurement(value=1.0, unit="ms", reason="none")
    with pytest.raises(ValueError, match="either a value or a reason"):
        Measurement(value=None, unit="ms")
    with pytest.raises(ValueError, match="finite"):
        Measurement.measured(float("nan"), "ms")


@given(st.lists(st.sampled_from(list(TrialEvent)), max_size=12))
def test_a_failed_trial_stays_failed_whatever_happens(events):
    state, failed = TrialState.RUNNING, False
    for event in events:
        try:
            state = transition(state, event)
        except UsageError:
            continue
        assert not failed
        failed = state is TrialState.FAILED


def test_a_completed_trial_can_only_be_extended():
    assert transition(TrialState.COMPLETED, TrialEvent.EXTEND) is TrialState.RUNNING
    for event in set(TrialEvent) - {TrialEvent.EXTEND}:
        with pytest.raises(UsageError, match="completed"):
            transition(TrialState.COMPLETED, event)
