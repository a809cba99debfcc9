"""bf16: the base and the activations are halved, what is trained stays in fp32."""

import math

import pytest
import torch
from tests.packed.harness import (
    Examples,
    Trial,
    advance,
    enter,
    largest_difference,
    make_pool,
    tiny_base,
    weights_of,
    zoo_trials,
)

from legion.neuro_architecture.packed.precision import widened, wider
from legion.neuro_architecture.spec.architecture import WIDEST_DENSE_MIXTURE, MoEArchitecture

# So wide that each expert computes its own tokens only.
WIDE = Trial(MoEArchitecture(num_experts=8, bottleneck_size=WIDEST_DENSE_MIXTURE // 4))
PAIRS = (("bert", "labels"), ("llama", "tokens"))


@pytest.mark.parametrize("pair", PAIRS, ids="-".join)
def test_every_kind_trains_over_a_base_in_bf16_with_masters_and_moments_in_fp32(pair):
    trials = zoo_trials(*pair) | {"wide": WIDE}
    examples = Examples(*pair)
    model = tiny_base(*pair)
    pool = make_pool(model, examples, precision="bfloat16")
    enter(pool, trials)
    before = weights_of(pool)
    outcomes = advance(pool, examples, trials, 2)
    chosen, batch = examples.batch(0)
    pool.measure("train", chosen, pool.read(batch), list(trials))
    assert {item.dtype for item in model.base_model.parameters()} == {torch.bfloat16}
    for member in pool.members:
        assert {item.dtype for item in member.parameters.values()} == {torch.float32}, member.name
        moments = member.optimizer.moments()
        assert {state["exp_avg"].dtype for state in moments.values()} == {torch.float32}
        assert any(not torch.equal(item, before[member.name][key]) for key, item in member.weights().items())
        assert math.isfinite(outcomes[member.name].gradient_norm), member.name


def test_bf16_follows_fp32():
    trials = zoo_trials("bert", "labels", ("lora", "par"))
    losses, starts = [], []
    for precision in ("float32", "bfloat16"):
        examples = Examples("bert", "labels")
        pool = make_pool(tiny_base("bert", "labels"), examples, precision=precision)
        enter(pool, trials)
        starts.append(weights_of(pool))
        losses.append({name: outcome.loss for name, outcome in advance(pool, examples, trials, 8).items()})
    for name in trials:
        heads = [{key: item for key, item in start[name].items() if "classifier" in key} for start in starts]
        assert largest_difference(*heads) == 0.0  # drawn as in fp32
        assert largest_difference(starts[0][name], starts[1][name]) <= 0.005  # drawn likewise, and rounded
        assert losses[1][name] == pytest.approx(losses[0][name], abs=0.02)
        assert losses[1][name] != losses[0][name]


def test_never_less_than_fp32():
    assert [wider(dtype) for dtype in (torch.bfloat16, torch.float16, torch.float32, torch.float64)] == [
        torch.float32,
        torch.float32,
        torch.float32,
        torch.float64,
    ]
    x = torch.ones(2)
    assert widened(x) is x
