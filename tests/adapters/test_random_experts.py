"""AdaMix: what serves is the average of the experts, what trains is drawn, and drawn again the same from the seed."""

from __future__ import annotations

import copy

import pytest
import torch

from legion.foundation.errors import AdapterError
from legion.neuro_architecture.adapters import (
    BottleneckAdapter,
    MoEAdapter,
    RandomMixture,
    auxiliary_loss,
    average_experts,
    expert_usage,
    trainable_parameters,
)
from legion.neuro_architecture.adapters.bottleneck import Bottleneck

ADAPTER = MoEAdapter(3, 1, bottleneck_size=4, routing="random")
GATED = MoEAdapter(3, 1, bottleneck_size=4, routing="random", is_gated=True)


def mixtures(adapted):
    return [module for module in adapted.modules() if isinstance(module, RandomMixture)]


@pytest.mark.parametrize("adapter", [ADAPTER, GATED], ids=["plain", "gated"])
def test_serving_mixture_is_one_bottleneck_of_the_average(build, logits, stir, case, adapter):
    adapted = stir(adapter.apply(build(*case)))
    single = BottleneckAdapter(4, is_gated=adapter.architecture.is_gated).apply(build(*case))
    single.load_state_dict(adapted.state_dict(), strict=False)
    bottlenecks = [module for module in single.modules() if isinstance(module, Bottleneck)]
    for mixture, bottleneck in zip(mixtures(adapted), bottlenecks, strict=True):
        bottleneck.load_state_dict(average_experts(mixture))
    assert (logits(adapted) - logits(build(*case))).abs().max() > 1e-2
    assert (logits(adapted) - logits(single)).abs().max() < 1e-5


def test_training_draws_one_expert_to_rise_and_one_to_fall(build, stir):
    mixture = mixtures(stir(ADAPTER.apply(build("llama"))))[0].train()
    x_ND = torch.randn(50, 32, generator=torch.Generator().manual_seed(0))
    pairs = {}
    for rising in range(3):
        for falling in range(3):
            single = Bottleneck(32, 4, "gelu", is_gated=False, dropout=0.0)
            single.load_state_dict(
                {
                    "up": mixture.up[rising],
                    "up_bias": mixture.up_bias[rising],
                    "down": mixture.down[falling].T,
                    "down_bias": mixture.down_bias[falling],
                }
            )
            pairs[rising, falling] = single(x_ND)
    met = set()
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        for _ in range(60):
            y_ND = mixture(x_ND)
            met |= {pair for pair, expected in pairs.items() if torch.allclose(y_ND, expected, atol=1e-6)}
    assert met == set(pairs)


def test_step_is_the_same_again_from_its_seed(build, batch, stir):
    adapted = stir(ADAPTER.apply(build("llama"))).train()
    twin = copy.deepcopy(adapted)
    twin.eval()(**batch)
    twin.train()
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(5)
        one = adapted(**batch).logits
        other = adapted(**batch).logits
        torch.manual_seed(5)
        again = twin(**batch).logits
    assert torch.equal(one, again)
    assert not torch.equal(one, other)


def test_serving_draws_nothing(build, batch, stir):
    adapted = stir(ADAPTER.apply(build("llama")))
    state = torch.get_rng_state()
    assert torch.equal(adapted(**batch).logits, adapted(**batch).logits)
    assert torch.equal(torch.get_rng_state(), state)


def test_there_is_no_router_to_balance(build, batch):
    adapted = ADAPTER.apply(build("llama")).train()
    with torch.random.fork_rng(devices=[]):
        adapted(**batch)
    assert auxiliary_loss(adapted) is None
    assert expert_usage(adapted) == ()
    assert not any(name.endswith("router") for name in trainable_parameters(adapted))


def test_frozen_experts_are_an_error(build):
    adapted = ADAPTER.apply(build("bert"))
    for mixture in mixtures(adapted):
        mixture.requires_grad_(requires_grad=False)
    with pytest.raises(AdapterError, match="frozen"):
        trainable_parameters(adapted)
