"""What the tests of populations share beside their fixtures."""

from __future__ import annotations

import os
import signal

from legion.neuro_architecture.spec.architecture import (
    AdapterArchitecture,
    LoRAArchitecture,
    MoEArchitecture,
    PeftArchitecture,
)
from legion.neuro_architecture.spec.training import TrialState
from legion.neuro_architecture.trainer import PopulationTrainer, Rungs, TrainerConfig

OFTEN = TrainerConfig(
    checkpoint_every_s=0.0, checkpoint_share=0.33, num_validations=3, validation_share=9.0, latency_examples=0
)
STEPS = 12
RUNGS = Rungs(steps=(3, 6), factor=2.0)
# Between packed and alone, and between two packed runs in other company.
CLOSE, SAME = 1e-5, 1e-6
# Unlike in family, size, layers, rate, decay, clipping, warm-up and batch.
CROWD = (
    ({"architecture": LoRAArchitecture(rank=2, alpha=8.0)}, {"learning_rate": 1e-2}),
    ({"architecture": LoRAArchitecture(rank=7, layers=(1, 2))}, {"learning_rate": 3e-3, "weight_decay": 0.3}),
    ({"architecture": AdapterArchitecture(bottleneck_size=8)}, {"learning_rate": 5e-3, "batch_size": 4}),
    ({"architecture": MoEArchitecture(num_experts=4, bottleneck_size=4, layers=(2,))}, {"max_gradient_norm": 0.1}),
    ({"architecture": AdapterArchitecture(bottleneck_size=5, placement="seq")}, {"warmup_share": 0.5}),
    ({"architecture": PeftArchitecture(strategy="OFT", block_size=4, layers=(1,))}, {}),
)


class Listener:
    """Hears; with `at`, the report of that number is hit by a Ctrl-C."""

    def __init__(self, at=None):
        self.at, self.heard, self.totals = at, [], []

    def start(self, label, total):
        self.totals.append((label, total))

    def advance(self, done, **fields):
        self.heard.append(done)
        if len(self.heard) == self.at:
            os.kill(os.getpid(), signal.SIGINT)

    def finish(self, note=""):
        pass


def train(proposals, data, steps=STEPS, *, rungs=None, **choices):
    trainer = PopulationTrainer(**({"config": OFTEN} | choices))
    return trainer.train([proposal.id for proposal in proposals], data, steps, rungs=rungs)


def largest_difference(left, right):
    assert left.keys() == right.keys()
    return max(float((item - right[name]).abs().max()) for name, item in left.items())


def stopped_at(metrics):
    """The steps at which trials were stopped, by proposal."""
    return {name: int(item.steps_completed.value) for name, item in metrics.items() if item.state is TrialState.STOPPED}
