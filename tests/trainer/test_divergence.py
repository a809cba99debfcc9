import math

import pytest

from legion.neuro_architecture.trainer.config import TrainerConfig
from legion.neuro_architecture.trainer.divergence import find_divergence

CONFIG = TrainerConfig(explosion_factor=4.0, explosion_window=5)


@pytest.mark.parametrize("loss", [math.nan, math.inf])
def test_a_loss_that_is_no_number_is_a_divergence(loss):
    assert find_divergence([0.7, 0.6], loss, 1.0, CONFIG) == f"the loss is {loss} at step 3"


def test_a_gradient_that_is_no_number_is_a_divergence():
    assert "gradient's norm is inf at step 1" in find_divergence([], 0.7, math.inf, CONFIG)


def test_mean_loss_beyond_the_factor_is_an_explosion():
    assert find_divergence([2.0, 8.5, 8.5, 8.5, 8.5], 8.5, 1.0, CONFIG).startswith("the loss exploded: mean 8.5 nats")


def test_one_spike_is_no_explosion():
    assert find_divergence([2.0, 2.0, 2.0, 2.0, 2.0], 20.0, 1.0, CONFIG) is None


def test_explosion_needs_a_whole_window():
    assert find_divergence([2.0, 90.0, 90.0], 90.0, 1.0, CONFIG) is None


def test_a_small_first_loss_does_not_make_fluctuations_explosions():
    assert find_divergence([0.01] + [0.9] * 10, 0.9, 1.0, CONFIG) is None
    assert find_divergence([0.01] + [4.1] * 10, 4.1, 1.0, CONFIG) is not None
