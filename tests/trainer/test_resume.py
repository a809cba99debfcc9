import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from safetensors.torch import load_file

from legion.foundation.clock import SystemClock
from legion.foundation.errors import IntegrityError, WorldError
from legion.foundation.files import exclusive_lock
from legion.neuro_architecture.spec.training import TrialState
from legion.neuro_architecture.trainer import ProxyTrainer, TrainerConfig

OFTEN = TrainerConfig(checkpoint_every_s=0.0, checkpoint_share=0.33, num_validations=3, validation_share=9.0)
STEPS = 15
TIMES = {"latency_ms", "throughput_samples_sec", "training_time_sec", "peak_memory_mb"}


class InterruptAt:
    """A listener whose step `at` is hit by a Ctrl-C."""

    def __init__(self, at):
        self.at, self.heard = at, []

    def start(self, label, total):
        pass

    def advance(self, done, **fields):
        self.heard.append(done)
        if done == self.at:
            os.kill(os.getpid(), signal.SIGINT)

    def finish(self, note=""):
        pass


class InterruptingClock:
    """The machine's clock, whose reading number `nth` is hit by a Ctrl-C: before, within and after a step."""

    def __init__(self, nth):
        self.nth, self.real = nth, SystemClock()

    def now(self):
        return self.real.now()

    def monotonic_s(self):
        self.nth -= 1
        if self.nth == 0:
            os.kill(os.getpid(), signal.SIGINT)
        return self.real.monotonic_s()


@pytest.fixture
def outcome(run_of, curve_of):
    """Everything a trial leaves that is no time: numbers, adapter and checkpoint tensors, curve."""

    def read(proposal):
        run = run_of(proposal)
        metrics, record = run.read_metrics()
        numbers = {key: value for key, value in metrics.to_flat().items() if key not in TIMES | {"counts"}}
        tensors = load_file(run.adapter_folder / "adapter_model.safetensors")
        tensors |= load_file(run.checkpoint_folder / "trial.safetensors")
        bits = {name: (item.dtype, tuple(item.shape), item.numpy().tobytes()) for name, item in tensors.items()}
        seen = (record["best_step"], record["validations"], record["adapter_digest"])
        return numbers, seen, bits, curve_of(proposal, "train"), curve_of(proposal, "validation")

    return read


@pytest.fixture
def uninterrupted(propose, classification_data, outcome, run_of):
    """Trains once without a stop and clears the way."""

    def make(strategy):
        proposal = propose(strategy, "bert")
        ProxyTrainer(proposal.id, config=OFTEN).train(classification_data, STEPS)
        expected = outcome(proposal)
        run_of(proposal).path.rename(run_of(proposal).path.with_name("uninterrupted"))
        return proposal, expected

    return make


@pytest.fixture(scope="module")
def victim():
    """The process whose children train and die."""
    command = [sys.executable, str(Path(__file__).with_name("_victim.py"))]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        yield process
        process.stdin.close()


@pytest.fixture
def kill(victim, settings, classification_data):
    """Trains in another process that dies by SIGKILL at a moment."""

    def die(proposal, moment, at):
        order = {
            "workspace": str(settings.workspace),
            "proposal_id": proposal.id,
            "data": str(classification_data),
            "steps": STEPS,
            "config": OFTEN.to_dict(),
            "moment": moment,
            "at": at,
        }
        victim.stdin.write(json.dumps(order) + "\n")
        victim.stdin.flush()
        assert int(victim.stdout.readline()) == -signal.SIGKILL

    return die


@pytest.mark.parametrize(
    ("strategy", "kills"),
    [
        ("LoRA", [("step", 1), ("step", 7), ("write", 2)]),
        ("MoE", [("step", 5), ("write", 3)]),
        ("random MoE", [("step", 5), ("write", 3)]),
        ("Adapter", [("step", 14)]),
    ],
)
def test_killed_training_resumes_to_the_same_bits(
    strategy, kills, uninterrupted, outcome, classification_data, run_of, kill
):
    proposal, expected = uninterrupted(strategy)
    for moment, at in kills:
        kill(proposal, moment, at)
        assert run_of(proposal).read_metrics()[0].state is TrialState.RUNNING
    ProxyTrainer(proposal.id, config=OFTEN).train(classification_data, STEPS)
    assert outcome(proposal) == expected
    _, record = run_of(proposal).read_metrics()
    assert len(record["attempts"]) >= 2 or kills == [("step", 1)]
    assert not list(run_of(proposal).path.rglob(".*"))


def test_ctrl_c_saves_says_so_and_resumes_to_the_same_bits(uninterrupted, outcome, classification_data, run_of):
    proposal, expected = uninterrupted("LoRA")
    for at in (1, 10):
        with pytest.raises(KeyboardInterrupt):
            ProxyTrainer(proposal.id, config=OFTEN, progress=InterruptAt(at)).train(classification_data, STEPS)
        metrics, _ = run_of(proposal).read_metrics()
        assert metrics.state is TrialState.INTERRUPTED
        assert metrics.reason == f"interrupted at step {at} of {STEPS}"
        assert metrics.steps_completed.value == at
        assert metrics.eval_accuracy.reason == metrics.reason
    listener = InterruptAt(-1)
    ProxyTrainer(proposal.id, config=OFTEN, progress=listener).train(classification_data, STEPS)
    assert listener.heard == [11, 12, 13, 14, 15]
    assert outcome(proposal) == expected
    _, record = run_of(proposal).read_metrics()
    assert [attempt["from_step"] for attempt in record["attempts"]] == [0, 1, 10]


def test_ctrl_c_at_any_moment_of_a_step_leaves_a_whole_one(uninterrupted, outcome, classification_data):
    proposal, expected = uninterrupted("Adapter")
    for nth in (5, 6, 7, 8, 9):
        with pytest.raises(KeyboardInterrupt):
            ProxyTrainer(proposal.id, config=OFTEN, clock=InterruptingClock(nth)).train(classification_data, STEPS)
    ProxyTrainer(proposal.id, config=OFTEN).train(classification_data, STEPS)
    assert outcome(proposal) == expected


def test_training_time_adds_up_over_attempts(propose, classification_data, run_of):
    proposal = propose()
    with pytest.raises(KeyboardInterrupt):
        ProxyTrainer(proposal.id, progress=InterruptAt(4)).train(classification_data, 8)
    before = run_of(proposal).read_metrics()[0].training_time_sec.value
    metrics = ProxyTrainer(proposal.id).train(classification_data, 8)
    seconds = [json.loads(line) for line in run_of(proposal).curve_path.read_text().splitlines()]
    total = sum(line["seconds"] for line in seconds if line["kind"] == "train")
    assert metrics.training_time_sec.value == pytest.approx(total, abs=1e-4)
    assert metrics.training_time_sec.value > before


def test_finished_trial_answers_at_once(propose, classification_data, run_of):
    proposal = propose()
    first = ProxyTrainer(proposal.id).train(classification_data, 4)
    written = run_of(proposal).metrics_path.read_bytes()
    listener = InterruptAt(-1)
    assert ProxyTrainer(proposal.id, progress=listener).train(classification_data, 4) == first
    assert listener.heard == []
    assert run_of(proposal).metrics_path.read_bytes() == written


def test_more_steps_extend_the_finished_trial(propose, classification_data, run_of, curve_of):
    proposal = propose()
    ProxyTrainer(proposal.id).train(classification_data, 6)
    first = curve_of(proposal, "train")
    listener = InterruptAt(-1)
    metrics = ProxyTrainer(proposal.id, progress=listener).train(classification_data, 10)
    assert listener.heard == [7, 8, 9, 10]
    assert (metrics.state, metrics.steps_completed.value) == (TrialState.COMPLETED, 10)
    assert curve_of(proposal, "train")[:6] == first
    _, record = run_of(proposal).read_metrics()
    assert record["extended_from"] == [6]
    assert [item["step"] for item in record["validations"]] == [3, 6, 10]


def test_extension_that_was_interrupted_goes_on(propose, classification_data, run_of):
    proposal = propose()
    ProxyTrainer(proposal.id).train(classification_data, 4)
    with pytest.raises(KeyboardInterrupt):
        ProxyTrainer(proposal.id, progress=InterruptAt(6)).train(classification_data, 8)
    assert ProxyTrainer(proposal.id).train(classification_data, 8).steps_completed.value == 8
    assert run_of(proposal).read_metrics()[1]["extended_from"] == [4]


@pytest.mark.parametrize("change", ["fewer steps", "other seed", "other data", "other config"])
def test_another_trial_moves_the_old_one_aside(change, propose, classification_data, run_of, settings):
    proposal = propose()
    ProxyTrainer(proposal.id).train(classification_data, 6)
    old = run_of(proposal).metrics_path.read_bytes()
    if change == "other data":
        path = classification_data / "train.jsonl"
        path.write_text("".join(path.read_text().splitlines(keepends=True)[:-2]))
    config = TrainerConfig(num_validations=2) if change == "other config" else None
    trainer = ProxyTrainer(proposal.id, seed=1 if change == "other seed" else 0, config=config)
    metrics = trainer.train(classification_data, 3 if change == "fewer steps" else 6)
    assert metrics.state is TrialState.COMPLETED
    aside = settings.workspace / "artifacts" / "proxy_runs_replaced" / f"{proposal.id}-1"
    assert (aside / "metrics.json").read_bytes() == old
    assert run_of(proposal).read_metrics()[1]["attempts"][0]["from_step"] == 0


def test_folders_moved_aside_never_meet(propose, classification_data, settings):
    proposal = propose()
    for seed in range(3):
        ProxyTrainer(proposal.id, seed=seed).train(classification_data, 1)
    shelf = settings.workspace / "artifacts" / "proxy_runs_replaced"
    assert sorted(path.name for path in shelf.iterdir()) == [f"{proposal.id}-1", f"{proposal.id}-2"]


def test_two_processes_never_train_the_same_trial(propose, classification_data, run_of):
    proposal = propose()
    path = run_of(proposal).path
    with exclusive_lock(path.with_name(f".{path.name}.lock")), pytest.raises(WorldError) as caught:
        ProxyTrainer(proposal.id).train(classification_data, 2)
    assert "is being trained by another process" in caught.value.message
    assert ProxyTrainer(proposal.id).train(classification_data, 2).state is TrialState.COMPLETED


def test_damaged_checkpoint_is_named_and_not_overwritten(propose, classification_data, run_of):
    proposal = propose()
    with pytest.raises(KeyboardInterrupt):
        ProxyTrainer(proposal.id, progress=InterruptAt(2)).train(classification_data, 4)
    path = run_of(proposal).checkpoint_folder / "trial.safetensors"
    path.write_bytes(b"damaged")
    with pytest.raises(IntegrityError, match="damaged"):
        ProxyTrainer(proposal.id).train(classification_data, 4)
    assert path.read_bytes() == b"damaged"


def test_finished_trial_that_lost_its_adapter_gets_it_back(propose, classification_data, run_of):
    proposal = propose()
    ProxyTrainer(proposal.id).train(classification_data, 4)
    folder = run_of(proposal).adapter_folder
    weights = (folder / "adapter_model.safetensors").read_bytes()
    folder.rename(folder.with_name("lost"))
    ProxyTrainer(proposal.id).train(classification_data, 4)
    assert (folder / "adapter_model.safetensors").read_bytes() == weights
