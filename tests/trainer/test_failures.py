import pytest

from legion.foundation.errors import DataError, InvalidValueError, ModelError, UnknownNameError
from legion.neuro_architecture.records import ProposalStore
from legion.neuro_architecture.spec.training import TrialState
from legion.neuro_architecture.trainer import ProxyTrainer, TrainerConfig
from legion.testing import tiny_model


@pytest.mark.parametrize(("strategy", "family"), [("LoRA", "bert"), ("Adapter", "llama"), ("MoE", "gpt2")])
def test_diverged_trial_fails_with_its_reason(strategy, family, propose, classification_data, run_of):
    proposal = propose(strategy, family, learning_rate=1e4)
    metrics = ProxyTrainer(proposal.id, config=TrainerConfig(explosion_window=3)).train(classification_data, 60)
    assert metrics.state is TrialState.FAILED
    assert "loss" in metrics.reason or "gradient" in metrics.reason
    assert metrics.steps_completed.value < 60
    assert metrics.eval_accuracy.reason == metrics.reason
    assert metrics.adapter_size_bytes.reason == metrics.reason
    stored, record = run_of(proposal).read_metrics()
    assert stored == metrics
    assert record["adapter_digest"] is None
    assert not run_of(proposal).adapter_folder.exists()


def test_failed_trial_is_not_tried_again_with_the_same_steps(propose, classification_data, run_of):
    proposal = propose(learning_rate=1e4)
    config = TrainerConfig(explosion_window=3)
    failed = ProxyTrainer(proposal.id, config=config).train(classification_data, 40)
    written = run_of(proposal).metrics_path.read_bytes()
    assert ProxyTrainer(proposal.id, config=config).train(classification_data, 40) == failed
    assert run_of(proposal).metrics_path.read_bytes() == written
    again = ProxyTrainer(proposal.id, config=config).train(classification_data, 1)
    assert again.state is TrialState.COMPLETED


@pytest.mark.parametrize("steps", [0, -3])
def test_steps_below_one_are_refused(steps, propose, classification_data):
    with pytest.raises(InvalidValueError, match=f"at least 1, got {steps}"):
        ProxyTrainer(propose().id).train(classification_data, steps)


def test_unknown_proposal_is_refused_with_the_nearest(propose):
    proposal = propose()
    with pytest.raises(UnknownNameError) as caught:
        ProxyTrainer(proposal.id[:-1] + "x")
    assert proposal.id in caught.value.hint


def test_missing_data_is_refused(propose, run_of):
    proposal = propose()
    with pytest.raises(DataError):
        ProxyTrainer(proposal.id).train("data/nowhere", 2)
    assert not run_of(proposal).path.exists()


def test_data_of_another_kind_are_refused(propose, summarization_data, run_of):
    proposal = propose()
    with pytest.raises(DataError) as caught:
        ProxyTrainer(proposal.id).train(summarization_data, 2)
    assert "summarization data set" in caught.value.message
    assert "legion generate" in caught.value.hint
    assert not run_of(proposal).path.exists()


def test_base_with_other_weights_is_refused(propose, classification_data, settings, tmp_path, run_of):
    proposal = propose()
    other = tiny_model(tmp_path / "other", "bert", seed=5)
    moved = proposal.model_copy(update={"base": proposal.base.model_copy(update={"name": str(other)})})
    ProposalStore(settings).save(moved)
    with pytest.raises(ModelError, match="is not the one"):
        ProxyTrainer(proposal.id).train(classification_data, 2)
    assert not run_of(proposal).path.exists()
