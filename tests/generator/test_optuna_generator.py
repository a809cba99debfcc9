from __future__ import annotations

import random

import pytest
from tests.generator.point_spaces import seen_as, small_space

from legion.foundation.errors import UnknownNameError
from legion.foundation.rng import RandomStream
from legion.neuro_architecture.generator.optuna_generator import OptunaGenerator
from legion.neuro_architecture.objectives import Observation

pytest.importorskip("optuna")


def test_unknown_sampler_is_refused():
    with pytest.raises(UnknownNameError, match="Optuna sampler"):
        OptunaGenerator(small_space(), RandomStream(0), sampler="Nothing")


@pytest.mark.parametrize("sampler", ["TPESampler", "NSGAIISampler"])
def test_sampler_knows_every_trial_with_its_losses_and_violation(sampler):
    space, draw = small_space(), random.Random(0)
    generator = OptunaGenerator(space, RandomStream(0), sampler=sampler)
    others = [space.draw(draw) for _ in range(3)]
    told = [seen_as(point, draw, num_objectives=3, violation=0.5) for point in (*generator.propose(4), *others)]
    generator.tell(told)
    generator.tell([seen_as(point, draw, num_objectives=3) for point in generator.propose(2)])
    trials = [trial for trial in generator._study.trials if trial.state.name == "COMPLETE"]
    assert [tuple(trial.values) for trial in trials[:7]] == [each.losses for each in told]
    assert [trial.constraints["violation"] for trial in trials] == [0.5] * 7 + [0.0] * 2


def test_population_begins_with_what_was_proposed_before_the_first_loss():
    generator = OptunaGenerator(small_space(), RandomStream(0), sampler="NSGAIISampler")
    points = generator.propose(6)
    generator.tell([Observation(point=point, losses=(1.0, 2.0)) for point in points])
    assert all("NSGAIISampler:generation" in trial.system_attrs for trial in generator._study.trials)
