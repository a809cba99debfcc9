import pytest
import torch
from tests.trainer.populations import CLOSE, OFTEN, SAME, STEPS, Listener, largest_difference, train

from legion.foundation.errors import AdapterError, DataError, InvalidValueError, UnknownNameError, WorldError
from legion.foundation.files import exclusive_lock
from legion.neuro_architecture.packed import Dispatch
from legion.neuro_architecture.spec.architecture import (
    AdapterArchitecture,
    LoRAArchitecture,
    VirtualTokensArchitecture,
)
from legion.neuro_architecture.spec.training import TrialState
from legion.neuro_architecture.trainer import PopulationTrainer, ProxyTrainer, TrainerConfig
from legion.testing import tiny_classification, tiny_model


def test_every_trial_ends_as_it_would_alone(crowd, classification_data, reference, weights_of):
    weights, metrics, _ = reference("alone")
    report = train(crowd, classification_data)
    assert list(report.metrics) == [proposal.id for proposal in crowd]
    for proposal in crowd:
        assert largest_difference(weights_of(proposal), weights[proposal.id]) <= CLOSE
        found, expected = report.metrics[proposal.id], metrics[proposal.id]
        assert found.state is TrialState.COMPLETED
        assert found.eval_accuracy == expected.eval_accuracy
        assert found.validation_loss.value == pytest.approx(expected.validation_loss.value, abs=CLOSE)
        assert found.trainable_parameters == expected.trainable_parameters
        assert found.adapter_size_bytes == expected.adapter_size_bytes


def test_causal_trials_end_as_they_would_alone(propose, summarization_data, weights_of, clear):
    architectures = (
        LoRAArchitecture(rank=2),
        LoRAArchitecture(rank=4, layers=(2,), use_dora=True),
        AdapterArchitecture(bottleneck_size=4, placement="seq_layer"),
        VirtualTokensArchitecture(strategy="PromptTuning", num_virtual_tokens=3),
    )
    proposals = [propose(family="llama", kind="summarization", architecture=each) for each in architectures]
    report = train(proposals, summarization_data, 6)
    assert list(report.record["forms"].values()) == ["stacked", "looped", "stacked", "whole"]
    together = {proposal.id: weights_of(proposal) for proposal in proposals}
    clear()
    for proposal in proposals:
        metrics = ProxyTrainer(proposal.id, config=OFTEN).train(summarization_data, 6)
        assert largest_difference(weights_of(proposal), together[proposal.id]) <= CLOSE
        assert report.metrics[proposal.id].eval_accuracy == metrics.eval_accuracy


def test_order_of_the_proposals_changes_no_bit(crowd, classification_data, weights_of, clear):
    train(crowd, classification_data, 4)
    first = {proposal.id: weights_of(proposal) for proposal in crowd}
    clear()
    train(crowd[::-1], classification_data, 4)
    for proposal in crowd:
        assert all(torch.equal(item, first[proposal.id][name]) for name, item in weights_of(proposal).items())


def test_fewer_places_than_trials_change_nothing(crowd, classification_data, weights_of, reference):
    weights, _, _ = reference("together")
    report = train(crowd, classification_data, places=4)
    for proposal in crowd:
        assert report.metrics[proposal.id].state is TrialState.COMPLETED
        assert largest_difference(weights_of(proposal), weights[proposal.id]) <= SAME


def test_record_says_what_was_computed(crowd, classification_data, run_of):
    report = train(crowd, classification_data)
    record = report.record
    assert record["trained_steps"] == len(crowd) * STEPS
    assert record["spared_steps"] == 0
    passes = record["block_passes_below_adapters"]
    assert 0 < passes["computed"] < passes["wanted"]
    assert passes["saved_share"] == pytest.approx(1 - passes["computed"] / passes["wanted"])
    assert record["cache_memory_bytes"] > 0
    assert record["dispatch"]["precision"] == "float32"
    assert record["peak_memory_mb"] > 0
    _, own = run_of(crowd[1]).read_metrics()
    assert own["population"] == {
        "form": "stacked",
        "precision": "float32",
        "frozen_blocks": 1,
        "num_blocks": 3,
        "frozen_share": 0.3333,
        "threads": 1,
    }


def test_asked_again_it_answers_without_training(crowd, classification_data, run_of):
    first = train(crowd, classification_data, 4)
    written = {proposal.id: run_of(proposal).metrics_path.read_bytes() for proposal in crowd}
    listener = Listener()
    again = train(crowd, classification_data, 4, progress=listener)
    assert again.metrics == first.metrics
    assert again.record == {"trained": 0}
    assert listener.heard == []
    assert {proposal.id: run_of(proposal).metrics_path.read_bytes() for proposal in crowd} == written


def test_new_proposals_join_what_was_trained_before(crowd, classification_data, weights_of, reference):
    weights, _, _ = reference("alone")
    train(crowd[:2], classification_data)
    listener = Listener()
    report = train(crowd, classification_data, progress=listener)
    assert report.record["trained_steps"] == len(crowd[2:]) * STEPS
    assert list(report.metrics) == [proposal.id for proposal in crowd]
    for proposal in crowd:
        assert largest_difference(weights_of(proposal), weights[proposal.id]) <= CLOSE


def test_more_steps_extend_all(crowd, classification_data, run_of, weights_of, clear):
    chosen = crowd[:2]
    for proposal in chosen:
        for steps in (4, 8):
            ProxyTrainer(proposal.id, config=OFTEN).train(classification_data, steps)
    weights = {proposal.id: weights_of(proposal) for proposal in chosen}
    clear()
    train(chosen, classification_data, 4)
    train(chosen, classification_data, 8)
    for proposal in chosen:
        assert run_of(proposal).read_metrics()[1]["extended_from"] == [4]
        assert largest_difference(weights_of(proposal), weights[proposal.id]) <= SAME


def test_a_neighbour_that_diverges_fails_and_changes_nothing(
    crowd, propose, classification_data, weights_of, reference, run_of
):
    chosen = crowd[:3]
    sound, _, _ = reference("together")
    broken = propose(architecture=LoRAArchitecture(rank=4), learning_rate=1e30)
    report = train([chosen[0], broken, *chosen[1:]], classification_data)
    metrics = report.metrics[broken.id]
    assert metrics.state is TrialState.FAILED
    assert "nan" in metrics.reason or "inf" in metrics.reason
    assert not run_of(broken).adapter_folder.exists()
    for proposal in chosen:
        assert report.metrics[proposal.id].state is TrialState.COMPLETED
        assert largest_difference(weights_of(proposal), sound[proposal.id]) <= SAME
    assert train([broken], classification_data).metrics[broken.id] == metrics  # it stays failed


@pytest.mark.parametrize(
    ("moment", "at"), [("step", 9), ("write", 6), ("completed", 2)], ids=["step", "checkpoint", "end"]
)
def test_killed_population_resumes_to_the_same_weights(
    moment, at, crowd, classification_data, weights_of, run_of, reference, kill_population
):
    chosen = crowd[:4]
    weights, metrics, _ = reference("together")
    kill_population(chosen, moment, at)
    states = [run_of(proposal).read_metrics()[0].state for proposal in chosen]
    assert TrialState.RUNNING in states
    report = train(chosen, classification_data)
    for proposal in chosen:
        assert report.metrics[proposal.id].eval_accuracy == metrics[proposal.id].eval_accuracy
        assert report.metrics[proposal.id].state is TrialState.COMPLETED
        assert largest_difference(weights_of(proposal), weights[proposal.id]) <= SAME
        assert not list(run_of(proposal).path.rglob(".*"))


def test_ctrl_c_saves_every_trial_and_resumes_to_the_same_weights(
    crowd, classification_data, weights_of, run_of, reference
):
    chosen = crowd[:4]
    weights, _, _ = reference("together")
    for at in (5, 9):
        with pytest.raises(KeyboardInterrupt):
            train(chosen, classification_data, progress=Listener(at))
        found = [run_of(proposal).read_metrics()[0] for proposal in chosen]
        assert {metrics.state for metrics in found} == {TrialState.INTERRUPTED}
        assert {metrics.reason for metrics in found} == {
            f"interrupted at step {metrics.steps_completed.value:g} of {STEPS}" for metrics in found
        }
    train(chosen, classification_data)
    for proposal in chosen:
        assert largest_difference(weights_of(proposal), weights[proposal.id]) <= SAME
        attempts = run_of(proposal).read_metrics()[1]["attempts"]
        assert len(attempts) == 3
        assert attempts[0]["from_step"] == 0 < attempts[1]["from_step"] < attempts[2]["from_step"]


def test_mistakes_are_named(propose, crowd, classification_data, summarization_data):
    with pytest.raises(InvalidValueError, match="places cannot be 0"):
        PopulationTrainer(places=0)
    with pytest.raises(InvalidValueError, match="steps must be at least 1, got 0"):
        train(crowd, classification_data, 0)
    with pytest.raises(InvalidValueError):
        train([], classification_data)
    with pytest.raises(InvalidValueError, match=crowd[0].id):
        train([crowd[0], crowd[1], crowd[0]], classification_data)
    with pytest.raises(InvalidValueError):
        train([crowd[0], propose(family="llama")], classification_data)
    with pytest.raises(InvalidValueError):
        train([propose(family="llama"), propose(family="llama", kind="summarization")], classification_data)
    with pytest.raises(DataError, match="is a summarization data set"):
        train(crowd, summarization_data)
    with pytest.raises(UnknownNameError):
        PopulationTrainer(config=OFTEN).train(["nobody-123"], classification_data, 2)


def test_a_beginning_of_an_id_names_the_same_proposal_once(crowd, classification_data):
    with pytest.raises(InvalidValueError, match=crowd[0].id):
        PopulationTrainer(config=OFTEN).train([crowd[0].id, crowd[0].id[:-2]], classification_data, 2)


def test_other_processes_are_kept_off_every_run_folder(crowd, classification_data, run_of):
    path = run_of(crowd[2]).path
    with exclusive_lock(path.with_name(f".{path.name}.lock")), pytest.raises(WorldError) as caught:
        train(crowd, classification_data, 2)
    assert f"proposal {crowd[2].id} is being trained by another process" in caught.value.message
    assert not any(run_of(proposal).path.exists() for proposal in crowd)


@pytest.fixture
def learnable(tmp_path_factory, settings):
    """A base and data on which adapters reach full marks."""
    folder = tiny_model(tmp_path_factory.mktemp("wide") / "bert", "bert", hidden_size=64)
    return folder, tiny_classification(settings.workspace / "data" / "more", num_train=160)


@pytest.mark.parametrize("kind", ["moe", "oft", "lora"])
def test_latency_is_measured_in_bf16_too(kind, crowd, classification_data):
    (proposal,) = [crowd[{"lora": 0, "moe": 3, "oft": 5}[kind]]]
    config = TrainerConfig(latency_examples=2, latency_warmup=1)
    report = train([proposal], classification_data, 2, config=config, dispatch=Dispatch(precision="bfloat16"))
    assert report.metrics[proposal.id].latency_ms.value > 0


def test_bf16_ends_within_half_a_point_of_fp32(propose, learnable, clear):
    folder, data = learnable
    architectures = (LoRAArchitecture(rank=4), AdapterArchitecture(bottleneck_size=16))
    proposals = [propose(architecture=each, folder=folder, batch_size=16) for each in architectures]
    accuracies = []
    for precision in ("float32", "bfloat16"):
        dispatch = Dispatch(precision=precision)
        report = train(proposals, data, 80, dispatch=dispatch)
        accuracies.append([report.metrics[proposal.id].eval_accuracy.value for proposal in proposals])
        assert report.record["dispatch"]["precision"] == precision
        clear()
    assert min(accuracies[0]) > 0.8
    for whole, half in zip(*accuracies, strict=True):
        assert half >= whole - 0.005


def test_one_that_does_not_fit_the_base_fails_alone(crowd, propose, classification_data, reference, weights_of):
    weights, _, _ = reference("together")
    misfit = propose(architecture=LoRAArchitecture(rank=2, target_modules=("no_such_layer",)))
    report = train([misfit, *crowd], classification_data)
    assert report.metrics[misfit.id].state is TrialState.FAILED
    assert "no_such_layer" in report.metrics[misfit.id].reason
    for proposal in crowd:
        assert report.metrics[proposal.id].state is TrialState.COMPLETED
        assert largest_difference(weights_of(proposal), weights[proposal.id]) <= SAME
    with pytest.raises(AdapterError, match="no_such_layer"):
        train([propose(architecture=LoRAArchitecture(rank=3, target_modules=("no_such_layer",)))], classification_data)
