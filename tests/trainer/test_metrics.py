import pytest

from legion.neuro_architecture.spec.measurement import Measurement
from legion.neuro_architecture.spec.training import METRIC_UNITS, TrainingMetrics, TrialState
from legion.neuro_architecture.trainer.metrics import metrics_of
from legion.neuro_architecture.trainer.state import TrialProgress
from legion.neuro_architecture.trainer.validation import Validation

BEST = Validation(step=20, loss=0.4, loss_error=0.05, accuracy=0.8, num_predictions=100, num_examples=100)


def progress():
    return TrialProgress(
        step=20,
        losses=[1.0] * 18 + [0.5, 0.3],
        seconds=4.0,
        tokens_seen=900,
        examples_seen=80,
        validations=[BEST],
        best=BEST,
    )


def test_training_loss_is_the_mean_of_the_last_tenth():
    found = metrics_of("lora-0", TrialState.COMPLETED, progress(), {})
    assert found.training_loss.value == pytest.approx(0.4)
    assert found.training_loss.n == 2
    assert found.training_loss.error == pytest.approx(0.1)


def test_completed_trial_reports_its_best_validation_with_its_error():
    found = metrics_of("lora-0", TrialState.COMPLETED, progress(), {})
    assert (found.eval_accuracy.value, found.eval_accuracy.n) == (0.8, 100)
    assert found.eval_accuracy.error == pytest.approx(0.04)
    assert (found.validation_loss.value, found.validation_loss.error) == (0.4, 0.05)
    assert found.throughput_samples_sec.value == 20.0


def test_failed_trial_claims_no_accuracy():
    found = metrics_of("lora-0", TrialState.FAILED, progress(), {}, reason="the loss is nan at step 21")
    assert found.eval_accuracy == Measurement.absent("share", "the loss is nan at step 21")
    assert found.steps_completed.value == 20
    assert found.training_loss.value == pytest.approx(0.4)


def test_trial_without_a_step_has_a_reason_for_every_number_it_lacks():
    found = metrics_of("lora-0", TrialState.RUNNING, TrialProgress(), {})
    flat = found.to_flat()
    assert {name for name in METRIC_UNITS if flat[name] is None} == set(flat["absent"])
    assert flat["absent"]["training_loss"] == "the trial is running"
    assert TrainingMetrics.from_flat(flat) == found


def test_what_was_measured_is_taken_over():
    latency = Measurement.measured(3.5, "ms", n=20)
    assert metrics_of("lora-0", TrialState.COMPLETED, progress(), {"latency_ms": latency}).latency_ms == latency
