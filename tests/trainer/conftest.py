"""Proposals made by hand, so that the trainer is tested without the generator."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from tests.trainer.populations import CROWD, OFTEN, RUNGS, STEPS, train

from legion.foundation.rng import RandomStream
from legion.neuro_architecture.data.base_models import resolve_base
from legion.neuro_architecture.data.datasets import read_data
from legion.neuro_architecture.packed import Dispatch, Member, Pool
from legion.neuro_architecture.packed.group import Turn
from legion.neuro_architecture.packed.prefix import CacheBudget
from legion.neuro_architecture.records import ProposalStore, RunFolder
from legion.neuro_architecture.spec.architecture import AdapterArchitecture, LoRAArchitecture, MoEArchitecture
from legion.neuro_architecture.spec.proposal import (
    ArchitectureProposal,
    CostEstimate,
    RiskAssessment,
    RiskFactor,
    TrainingRecipe,
)
from legion.neuro_architecture.trainer import ProxyTrainer, TrainerConfig
from legion.neuro_architecture.trainer.feed import TRAIN, Feed

ARCHITECTURES = {
    "LoRA": LoRAArchitecture(rank=4, alpha=8.0, dropout=0.1),
    "Adapter": AdapterArchitecture(bottleneck_size=16, dropout=0.1),
    "MoE": MoEArchitecture(num_experts=4, top_k=2, bottleneck_size=8),
    "random MoE": MoEArchitecture(num_experts=4, top_k=1, bottleneck_size=8, routing="random"),
}


@pytest.fixture
def propose(settings, tiny_folders):
    """Stores a proposal for a tiny base and returns it."""

    def make(strategy="LoRA", family="bert", kind="classification", *, architecture=None, folder=None, **recipe):
        base = resolve_base(str(folder or tiny_folders[family]), settings).reference
        chosen = architecture or ARCHITECTURES[strategy]
        training = TrainingRecipe(**({"learning_rate": 1e-2, "batch_size": 8} | recipe))
        proposal = ArchitectureProposal(
            id=ArchitectureProposal.id_of("tiny", base, chosen, training),
            task="tiny",
            task_kind=kind,
            base=base,
            architecture=chosen,
            training=training,
            estimate=CostEstimate(
                trainable_parameters=1,
                adapter_size_bytes=4,
                expected_flops=2.0,
                expected_base_flops=1.0,
                expected_latency_ms=1.0,
                sequence_length=16,
            ),
            risk=RiskAssessment(
                score=0.1, factors=(RiskFactor(name="size", share=0.1, weight=1.0, explanation="made by hand"),)
            ),
            seed=0,
        )
        ProposalStore(settings).save(proposal)
        return proposal

    return make


@dataclass
class Opened:
    """A pool of one, stepped by hand."""

    pool: Pool
    pool_base: object
    member: Member
    feed: Feed

    def step(self, step):
        examples, batch = self.feed.batch(self.member.recipe.batch_size, step)
        turn = Turn(step=step, rate=self.member.recipe.learning_rate)
        return self.pool.step(TRAIN, examples, self.pool.read(batch), {self.member.name: turn})[self.member.name]


@pytest.fixture
def opened(settings):
    """Opens a proposal's trial without a run folder."""

    def make(proposal, folder, *, seed=0):
        base, data = resolve_base(proposal.base.name, settings), read_data(folder)
        model = base.load(data.spec)
        pool = Pool(model, key={}, dispatch=Dispatch(), device=torch.device("cpu"), budget=CacheBudget(memory_bytes=0))
        stream = RandomStream(seed).child("trainer")
        member = pool.add(proposal.id, proposal.architecture, proposal.training, stream)
        return Opened(pool, model, member, Feed(base, data, TrainerConfig()))

    return make


@pytest.fixture
def run_of(settings):
    """The run folder of a proposal."""
    return lambda proposal: RunFolder.of(settings, proposal.id)


@pytest.fixture
def curve_of(run_of):
    """The learning curve of a proposal without its times, by kind of line."""

    def read(proposal, kind):
        lines = [json.loads(line) for line in run_of(proposal).curve_path.read_text().splitlines()]
        return [{key: line[key] for key in line if key != "seconds"} for line in lines if line["kind"] == kind]

    return read


@pytest.fixture
def crowd(propose):
    return [propose(**what, **recipe) for what, recipe in CROWD]


@pytest.fixture
def weights_of(run_of):
    """Trainable tensors as a trial's checkpoint holds them."""

    def read(proposal):
        stored = load_file(run_of(proposal).checkpoint_folder / "trial.safetensors")
        return {name: item for name, item in stored.items() if name.startswith("weights/")}

    return read


@pytest.fixture
def clear(run_of, settings):
    """Moves what was trained out of the way."""
    count = iter(range(100))

    def move():
        root = settings.workspace / "artifacts" / "proxy_runs"
        root.rename(root.with_name(f"cleared-{next(count)}"))

    return move


# References of the crowd, the same in every test: trained in the first that asks.
_REFERENCES: dict[str, tuple[dict, dict, dict]] = {}


@pytest.fixture
def reference(crowd, classification_data, weights_of, clear):
    """`reference(how)`: final weights, metrics and record of the crowd.

    Trained one by one (`alone`), `together`, or with `rungs`; nothing of it is left in the workspace.
    """

    def make(how):
        if how not in _REFERENCES:
            if how == "alone":
                trainers = {each.id: ProxyTrainer(each.id, config=OFTEN) for each in crowd}
                metrics, record = {name: each.train(classification_data, STEPS) for name, each in trainers.items()}, {}
            else:
                report = train(crowd, classification_data, rungs=RUNGS if how == "rungs" else None)
                metrics, record = report.metrics, report.record
            _REFERENCES[how] = ({each.id: weights_of(each) for each in crowd}, metrics, record)
            clear()
        return _REFERENCES[how]

    return make


@pytest.fixture(scope="session")
def population_victim():
    """The process whose children train and die."""
    command = [sys.executable, str(Path(__file__).with_name("_population_victim.py"))]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        yield process
        process.stdin.close()


@pytest.fixture
def kill_population(population_victim, settings, classification_data):
    """Trains in another process that dies by SIGKILL at a moment."""

    def die(proposals, moment, at, *, rungs=None, places=None):
        order = {
            "workspace": str(settings.workspace),
            "proposal_ids": [proposal.id for proposal in proposals],
            "data": str(classification_data),
            "steps": STEPS,
            "config": OFTEN.to_dict(),
            "rungs": rungs.to_dict() if rungs else None,
            "places": places,
            "moment": moment,
            "at": at,
        }
        population_victim.stdin.write(json.dumps(order) + "\n")
        population_victim.stdin.flush()
        assert int(population_victim.stdout.readline()) == -signal.SIGKILL

    return die
