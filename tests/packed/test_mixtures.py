"""Stacked mixtures of experts: of unlike sizes, weighed or not, at some positions or at all."""

import pytest
from tests.packed.harness import Trial, advance, largest_difference, opened, train_alone, weights_of

from legion.neuro_architecture.spec.architecture import WIDEST_DENSE_MIXTURE, MoEArchitecture

CLOSE = 1e-5
TRIALS = {
    "two": Trial(MoEArchitecture(num_experts=2, top_k=1, bottleneck_size=4)),
    "five": Trial(MoEArchitecture(num_experts=5, top_k=3, bottleneck_size=4, load_balancing_coefficient=0.3), seed=1),
    "free": Trial(MoEArchitecture(num_experts=3, top_k=2, bottleneck_size=4, load_balancing=False), seed=2),
    "wider": Trial(MoEArchitecture(num_experts=3, top_k=2, bottleneck_size=6), seed=3),
    "relu": Trial(MoEArchitecture(num_experts=4, top_k=2, bottleneck_size=4, non_linearity="relu"), seed=4),
    "gated": Trial(MoEArchitecture(num_experts=3, top_k=1, bottleneck_size=4, is_gated=True), seed=5),
    "top": Trial(MoEArchitecture(num_experts=4, top_k=2, bottleneck_size=4, layers=(2,)), seed=6),
}


@pytest.mark.parametrize(("family", "task"), [("bert", "labels"), ("llama", "tokens"), ("gpt2", "tokens")])
@pytest.mark.parametrize("overhead", [0.0, 100.0], ids=["apart", "merged"])
def test_mixtures_of_unlike_sizes_end_as_each_alone(family, task, overhead):
    pool, examples = opened(family, task, TRIALS, group_overhead=overhead)
    outcomes = advance(pool, examples, TRIALS, 10)
    assert set(pool.report().forms.values()) == {"stacked"}
    for name, trial in TRIALS.items():
        alone, last = train_alone(family, task, trial, 10)
        assert largest_difference(weights_of(pool)[name], alone) <= CLOSE, name
        assert outcomes[name].loss == pytest.approx(last["loss"], abs=CLOSE)
        assert outcomes[name].auxiliary_loss == pytest.approx(last["auxiliary_loss"], abs=1e-6), name


def test_padded_experts_stay_zero():
    pool, examples = opened("bert", "labels", {name: TRIALS[name] for name in ("two", "five")}, group_overhead=100.0)
    advance(pool, examples, {name: TRIALS[name] for name in ("two", "five")}, 5)
    (group,) = pool._groups.values()
    place = [member.name for member in group.members].index("two")
    for mixtures in group._mixtures:
        for leaf in mixtures._tensors.values():
            assert leaf.shape[1] == 5
            assert not leaf[place, 2:].any()
            assert leaf[place, :2].any()


def test_a_look_between_two_steps_changes_nothing():
    trials = {name: TRIALS[name] for name in ("two", "five")}
    looked, examples = opened("bert", "labels", trials)
    advance(looked, examples, trials, 3)
    chosen, batch = examples.batch(1)
    looked.measure("train", chosen, looked.read(batch), list(trials))
    advance(looked, examples, trials, 6, first=3)
    straight, examples = opened("bert", "labels", trials)
    advance(straight, examples, trials, 6)
    for name in trials:
        assert largest_difference(weights_of(looked)[name], weights_of(straight)[name]) == 0.0


def test_a_mixture_too_wide_to_be_dense_on_the_processor_keeps_its_own_layers():
    inner = WIDEST_DENSE_MIXTURE // 2 + 1
    wide = {"wide": Trial(MoEArchitecture(num_experts=2, top_k=1, bottleneck_size=inner))}
    pool, examples = opened("bert", "labels", wide)
    outcomes = advance(pool, examples, wide, 3)
    assert pool.report().forms == {"wide": "looped"}
    _, last = train_alone("bert", "labels", wide["wide"], 3)
    assert outcomes["wide"].loss == pytest.approx(last["loss"], abs=CLOSE)
    assert outcomes["wide"].auxiliary_loss == pytest.approx(last["auxiliary_loss"], abs=1e-6)
