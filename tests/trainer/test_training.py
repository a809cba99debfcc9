import itertools
import json
import math
from statistics import fmean

import pytest
import torch
from safetensors.torch import load_file

from legion.foundation.canonical import digest_file
from legion.neuro_architecture.adapters import load_adapter
from legion.neuro_architecture.data.base_models import resolve_base
from legion.neuro_architecture.data.datasets import read_data
from legion.neuro_architecture.spec.architecture import LoRAArchitecture
from legion.neuro_architecture.spec.training import METRIC_UNITS, TrainingMetrics, TrialState
from legion.neuro_architecture.trainer import ProxyTrainer, TrainerConfig
from legion.neuro_architecture.trainer.feed import Feed
from legion.testing import tiny_classification, tiny_model

STRATEGIES = ("LoRA", "Adapter", "MoE")
FAMILIES = ("bert", "llama", "gpt2")
CPU = torch.device("cpu")


def losses(curve):
    return [line["loss"] for line in curve]


@pytest.fixture(scope="module")
def wide_folders(tmp_path_factory):
    """Bases wide enough that random weights carry the one telling word to the head."""
    root = tmp_path_factory.mktemp("wide")
    return {family: tiny_model(root / family, family, hidden_size=64) for family in FAMILIES}


@pytest.mark.parametrize(("strategy", "family"), list(itertools.product(STRATEGIES, FAMILIES)))
def test_every_strategy_learns_classes_on_every_family(strategy, family, propose, wide_folders, settings, curve_of):
    data = tiny_classification(settings.workspace / "data" / "more", num_train=160)
    proposal = propose(strategy, family, folder=wide_folders[family], batch_size=16)
    metrics = ProxyTrainer(proposal.id).train(data, {"bert": 80, "llama": 40, "gpt2": 60}[family])
    found = losses(curve_of(proposal, "train"))
    assert metrics.state is TrialState.COMPLETED
    assert fmean(found[-10:]) < 0.6 * fmean(found[:10])
    assert metrics.eval_accuracy.value > 0.8  # the majority class has 0.5


@pytest.mark.parametrize(("strategy", "family"), [("LoRA", "llama"), ("Adapter", "gpt2"), ("MoE", "llama")])
def test_causal_models_learn_to_summarise(strategy, family, propose, summarization_data, curve_of):
    proposal = propose(strategy, family, "summarization")
    metrics = ProxyTrainer(proposal.id).train(summarization_data, 24)
    found = losses(curve_of(proposal, "train"))
    # the frozen output head of a tiny base cannot be surer than this
    assert fmean(found[-3:]) < 0.75 * fmean(found[:3])
    seen = curve_of(proposal, "validation")
    assert metrics.validation_loss.value == min(line["loss"] for line in seen)
    assert metrics.eval_accuracy.n == seen[0]["num_predictions"] > 8


def test_two_trainings_agree_bit_for_bit(propose, classification_data, run_of, curve_of):
    proposal = propose("MoE", "bert")
    ProxyTrainer(proposal.id).train(classification_data, 12)
    run = run_of(proposal)
    first, curve = (run.adapter_folder / "adapter_model.safetensors").read_bytes(), curve_of(proposal, "train")
    run.path.rename(run.path.with_name("first"))
    torch.rand(3)  # draws of others change nothing
    ProxyTrainer(proposal.id).train(classification_data, 12)
    assert (run.adapter_folder / "adapter_model.safetensors").read_bytes() == first
    assert curve_of(proposal, "train") == curve


def test_seed_changes_the_training(propose, classification_data, curve_of):
    proposal = propose()
    curves = []
    for seed in (0, 1):
        ProxyTrainer(proposal.id, seed=seed).train(classification_data, 4)
        curves.append(losses(curve_of(proposal, "train")))
    assert curves[0] != curves[1]


def test_training_leaves_torch_and_the_base_alone(propose, classification_data, tiny_folders):
    before = {path.name: digest_file(path) for path in tiny_folders["bert"].iterdir()}
    state, threads = torch.random.get_rng_state(), torch.get_num_threads()
    ProxyTrainer(propose().id).train(classification_data, 3)
    assert torch.equal(torch.random.get_rng_state(), state)
    assert torch.get_num_threads() == threads
    assert {path.name: digest_file(path) for path in tiny_folders["bert"].iterdir()} == before


def test_base_weights_stay_as_they_were(propose, classification_data, opened):
    trial = opened(propose("LoRA"), classification_data)
    trained = {id(parameter) for parameter in trial.member.parameters.values()}
    model = trial.member.model
    frozen = {name: item.clone() for name, item in model.named_parameters() if id(item) not in trained}
    moving = trial.member.weights()
    for step in range(3):
        trial.step(step)
    after = dict(model.named_parameters())
    assert all(torch.equal(after[name], item) for name, item in frozen.items())
    assert any(not torch.equal(item, moving[name]) for name, item in trial.member.weights().items())


def test_nothing_below_the_lowest_adapter_is_differentiated(propose, classification_data, opened):
    trial = opened(propose(architecture=LoRAArchitecture(layers=(2,))), classification_data)
    found = {}
    for index, layer in enumerate(trial.pool_base.bert.encoder.layer):
        layer.intermediate.dense.register_forward_hook(
            lambda module, inputs, output, index=index: found.update({index: inputs[0].requires_grad})
        )
    trial.step(0)
    assert found == {0: False, 1: False, 2: True}


def test_first_loss_is_the_bare_base_s(propose, classification_data, opened):
    first = {strategy: opened(propose(strategy), classification_data).step(0).loss for strategy in STRATEGIES}
    assert first["LoRA"] == pytest.approx(first["Adapter"], abs=1e-6)
    assert first["LoRA"] == pytest.approx(first["MoE"], abs=1e-6)


def test_auxiliary_loss_is_reported_apart_from_the_task_s(propose, classification_data, opened):
    assert opened(propose("MoE"), classification_data).step(0).auxiliary_loss > 0.0
    assert opened(propose("LoRA"), classification_data).step(0).auxiliary_loss is None


def test_validation_is_measured_on_a_seeded_subset(propose, settings, classification_data):
    proposal = propose()
    base, data = resolve_base(proposal.base.name, settings), read_data(classification_data)
    config = TrainerConfig(validation_examples=10, validation_batch_size=4)
    model = base.load(data.spec)
    found, again = (Feed(base, data, config).validator(CPU, has_positions=False).measure(model, 0) for _ in range(2))
    assert (found.num_examples, found.num_predictions) == (10, 10)
    assert again == found


def test_saved_adapter_is_the_best_checkpoint(propose, settings, classification_data, run_of):
    proposal = propose("Adapter")
    metrics = ProxyTrainer(proposal.id).train(classification_data, 30)
    _, record = run_of(proposal).read_metrics()
    best = max(record["validations"], key=lambda item: (item["accuracy"], -item["loss"]))
    assert record["best_step"] == best["step"]
    assert metrics.eval_accuracy.value == best["accuracy"]
    base = resolve_base(proposal.base.name, settings)
    data = read_data(classification_data)
    model = load_adapter(base.load(data.spec, seed=9), run_of(proposal).adapter_folder, base=base.reference)
    found = Feed(base, data, TrainerConfig()).validator(CPU, has_positions=False).measure(model, best["step"])
    assert found.accuracy == best["accuracy"]
    assert found.loss == pytest.approx(best["loss"], rel=1e-6)  # transformers' own pass, ours took the packed one


def test_best_may_be_an_earlier_validation_than_the_last(propose, classification_data, run_of):
    proposal = propose("LoRA", "llama", learning_rate=1.0)
    ProxyTrainer(
        proposal.id, config=TrainerConfig(num_validations=10, validation_share=9.0, explosion_factor=1e9)
    ).train(classification_data, 10)
    _, record = run_of(proposal).read_metrics()
    assert record["best_step"] < 10
    weights = load_file(run_of(proposal).adapter_folder / "adapter_model.safetensors")
    last = load_file(run_of(proposal).checkpoint_folder / "trial.safetensors")
    best_norm = sum(float(item.norm()) for item in weights.values())
    assert best_norm == pytest.approx(sum(float(last[key].norm()) for key in last if key.startswith("best/")))
    assert best_norm != pytest.approx(sum(float(last[key].norm()) for key in last if key.startswith("weights/")))


def test_metrics_file_holds_every_measurement_with_unit_or_reason(propose, classification_data, run_of):
    proposal = propose()
    metrics = ProxyTrainer(proposal.id[:8]).train("data/tiny", 10)
    text = run_of(proposal).metrics_path.read_text()
    data = json.loads(text, parse_constant=lambda name: pytest.fail(f"{name} in metrics.json"))
    assert set(METRIC_UNITS) <= data.keys()
    assert data["units"] == METRIC_UNITS
    assert data["absent"] == {"gpu_memory_mb": "trained on the CPU"}
    assert TrainingMetrics.from_flat(data) == metrics
    assert data["steps_completed"] == 10
    assert data["examples_seen"] == 80
    assert data["tokens_seen"] > 80
    weights = run_of(proposal).adapter_folder / "adapter_model.safetensors"
    assert data["adapter_size_bytes"] == weights.stat().st_size
    assert data["trainable_parameters"] == sum(item.numel() for item in load_file(weights).values())
    assert data["errors"]["eval_accuracy"] == pytest.approx(
        math.sqrt(data["eval_accuracy"] * (1 - data["eval_accuracy"]) / 16)
    )


def test_record_says_what_was_trained_on_what_and_where(propose, classification_data, run_of, settings):
    proposal = propose()
    ProxyTrainer(proposal.id, seed=7).train("data/tiny", 2)
    _, record = run_of(proposal).read_metrics()
    data = read_data(classification_data)
    expected = {
        "proposal_id": proposal.id,
        "base": proposal.base.to_dict(),
        "recipe": proposal.training.to_dict(),
        "architecture": proposal.architecture.to_dict(),
        "data_path": "data/tiny",
        "data_digest": data.digest,
        "task": "tiny",
        "task_kind": "classification",
        "labels": ["negative", "positive"],
        "split_sizes": {"train": 48, "validation": 16, "test": 24},
        "seed": 7,
        "steps": 2,
        "settings": settings.to_dict(),
        "curve": "curve.jsonl",
        "adapter": "adapter",
        "extended_from": [],
    }
    assert {key: record[key] for key in expected} == expected
    assert record["adapter_digest"].startswith("sha256:")
    assert record["machine"]["threads"] == 1
    assert record["versions"]["torch"] == torch.__version__.partition("+")[0] or record["versions"]["torch"]
    assert [attempt["from_step"] for attempt in record["attempts"]] == [0]


def test_curve_has_a_line_for_each_step_and_validation(propose, classification_data, curve_of):
    proposal = propose()
    ProxyTrainer(proposal.id, config=TrainerConfig(validation_share=9.0)).train(classification_data, 10)
    assert [line["step"] for line in curve_of(proposal, "train")] == list(range(1, 11))
    assert [line["step"] for line in curve_of(proposal, "validation")] == [2, 4, 6, 8, 10]


def test_progress_hears_of_every_step_with_loss_and_metric(propose, classification_data):
    heard = []

    class Listener:
        def start(self, label, total):
            heard.append((label, total))

        def advance(self, done, **fields):
            heard.append((done, fields))

        def finish(self, note=""):
            heard.append(note)

    proposal = propose()
    config = TrainerConfig(validation_share=9.0)
    ProxyTrainer(proposal.id, progress=Listener(), config=config).train(classification_data, 5)
    assert heard[0] == (f"train {proposal.id}", 5)
    assert [done for done, _ in heard[1:-1]] == [1, 2, 3, 4, 5]
    assert heard[1][1]["accuracy"] is None
    assert 0.0 <= heard[2][1]["accuracy"] <= 1.0
    assert heard[-1] == "completed at step 5"


@pytest.mark.parametrize("strategy", ["LoRA", "MoE"])  # with dropout, and with routing
def test_golden_losses_of_a_tiny_run(strategy, propose, classification_data, curve_of):
    proposal = propose(strategy, "bert")
    ProxyTrainer(proposal.id).train(classification_data, 5)
    assert losses(curve_of(proposal, "train")) == pytest.approx(GOLDEN[strategy], abs=1e-4)


GOLDEN = {
    "LoRA": [0.693786, 0.655445, 0.711334, 0.715302, 0.766044],
    "MoE": [0.693786, 0.652999, 0.709528, 0.712529, 0.763466],
}
