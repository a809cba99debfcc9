"""What a member ends with is its own: others may be of any kind, come, go, or break."""

import math
import random

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
    train_alone,
    train_packed,
    weights_of,
)

from legion.foundation.errors import InvalidValueError
from legion.neuro_architecture.packed import Pool
from legion.neuro_architecture.packed.group import Turn
from legion.neuro_architecture.spec.architecture import AdapterArchitecture, LoRAArchitecture, MoEArchitecture
from legion.neuro_architecture.spec.proposal import TrainingRecipe

CLOSE, SAME_COMPANY = 1e-5, 1e-6
LORAS = {
    "r2": LoRAArchitecture(rank=2, alpha=4.0),
    "r3": LoRAArchitecture(rank=3, alpha=64.0, use_rslora=True),
    "r5": LoRAArchitecture(rank=5, rank_pattern={"q_proj": 9, "1.mlp.down_proj": 1}, alpha_pattern={"v_proj": 1.5}),
    "r16": LoRAArchitecture(rank=16, alpha=1.0, target_modules=("q_proj", "v_proj")),
    "r8": LoRAArchitecture(rank=8, layers=(0, 2), target_modules=("down_proj", "k_proj", "o_proj")),
    "r4": LoRAArchitecture(rank=4, layers=(0,)),
}
OTHERS = {
    "w3": AdapterArchitecture(bottleneck_size=3),
    "w20": AdapterArchitecture(bottleneck_size=20, non_linearity="relu"),
    "w7": AdapterArchitecture(bottleneck_size=7, non_linearity="silu", is_gated=True, layers=(0, 2)),
    "s6": AdapterArchitecture(bottleneck_size=6, placement="seq_layer"),
}
RECIPES = (
    {"learning_rate": 1e-2, "weight_decay": 0.0, "max_gradient_norm": 1.0},
    {"learning_rate": 3e-4, "weight_decay": 0.5, "max_gradient_norm": 0.01},
    {"learning_rate": 3e-3, "weight_decay": 0.01, "max_gradient_norm": 100.0},
)
RANDOM = {
    "dropped": Trial(LoRAArchitecture(rank=4, dropout=0.3), seed=1),
    "dropped-too": Trial(LoRAArchitecture(rank=6, dropout=0.1), seed=2),
    "not-dropped": Trial(LoRAArchitecture(rank=3), seed=3),
    "inner": Trial(AdapterArchitecture(bottleneck_size=8, dropout=0.4), seed=4),
    "inner-too": Trial(AdapterArchitecture(bottleneck_size=5, dropout=0.2), seed=5),
    "drawn": Trial(MoEArchitecture(num_experts=3, top_k=1, bottleneck_size=4, routing="random"), seed=6),
    "drawn-too": Trial(MoEArchitecture(num_experts=4, top_k=1, bottleneck_size=4, routing="random"), seed=7),
}


def mixed(architectures):
    return {
        name: Trial(architecture, TrainingRecipe(**RECIPES[number % len(RECIPES)]), seed=number)
        for number, (name, architecture) in enumerate(architectures.items())
    }


def opened(trials, family="bert", task="labels", **choices):
    examples = Examples(family, task)
    pool = make_pool(tiny_base(family, task), examples, **({"group_blocks": 100} | choices))
    enter(pool, trials)
    return pool, examples


def test_unlike_neighbours_end_as_each_alone():
    trials = mixed(LORAS | OTHERS)
    packed, outcomes = train_packed("llama", "labels", trials, 8, group_blocks=1000)
    for name, trial in trials.items():
        alone, last = train_alone("llama", "labels", trial, 8)
        assert largest_difference(packed[name], alone) <= CLOSE, name
        assert outcomes[name].loss == pytest.approx(last["loss"], abs=CLOSE)
        assert outcomes[name].learning_rate == trial.rate(7)


def test_all_that_begin_at_one_place_do_stand_in_one_group():
    pool, examples = opened(mixed(LORAS | OTHERS), "llama")
    advance(pool, examples, mixed(LORAS | OTHERS), 1)
    assert {frozenset(group) for group in pool.report().groups} == {frozenset(LORAS), frozenset(OTHERS)}
    assert set(pool.report().forms.values()) == {"stacked"}


def test_order_of_entry_changes_no_bit():
    trials = mixed({name: LORAS[name] for name in ("r2", "r3", "r4")} | OTHERS)
    order = list(trials)
    random.Random(0).shuffle(order)
    first, _ = train_packed("llama", "labels", trials, 4)
    second, _ = train_packed("llama", "labels", {name: trials[name] for name in order}, 4)
    assert order != list(trials)
    assert all(torch.equal(second[name][key], item) for name in trials for key, item in first[name].items())


def test_order_of_turns_changes_no_bit():
    trials = {"a": Trial(LoRAArchitecture(rank=2)), "b": Trial(LoRAArchitecture(rank=4), seed=1)}
    found = []
    for order in (["a", "b"], ["b", "a"]):
        pool, examples = opened(trials)
        advance(pool, examples, {name: trials[name] for name in order}, 3)
        found.append(weights_of(pool))
    assert all(torch.equal(found[1][name][key], item) for name in trials for key, item in found[0][name].items())


def test_a_stopped_neighbour_changes_nothing():
    trials = mixed(
        {"r2": LoRAArchitecture(rank=2), "r9": LoRAArchitecture(rank=9), "w4": AdapterArchitecture(bottleneck_size=4)}
    )
    together, _ = train_packed("bert", "labels", trials, 10)
    pool, examples = opened(trials)
    advance(pool, examples, trials, 5)
    pool.drop(["r9"])
    rest = {name: trial for name, trial in trials.items() if name != "r9"}
    advance(pool, examples, rest, 10, first=5)
    assert [member.name for member in pool.members] == list(rest)
    for name in rest:
        assert largest_difference(weights_of(pool)[name], together[name]) <= SAME_COMPANY


def test_a_neighbour_of_another_group_changes_no_bit():
    trials = mixed(
        {
            "low": LoRAArchitecture(rank=2),
            "high": LoRAArchitecture(rank=4, layers=(2,)),
            "moe": MoEArchitecture(num_experts=4, bottleneck_size=4),
        }
    )
    together, _ = train_packed("bert", "labels", trials, 6)
    for name, trial in trials.items():
        alone, _ = train_packed("bert", "labels", {name: trial}, 6)
        assert all(torch.equal(alone[name][key], item) for key, item in together[name].items()), name


def test_a_neighbour_replaced_by_another_of_its_size_changes_no_bit():
    trials = mixed({"a": LoRAArchitecture(rank=4), "b": LoRAArchitecture(rank=4, alpha=3.0)})
    other = {"a": trials["a"], "b": Trial(LoRAArchitecture(rank=4, alpha=99.0), seed=77)}
    one, two = (train_packed("bert", "labels", each, 6)[0]["a"] for each in (trials, other))
    assert all(torch.equal(one[key], item) for key, item in two.items())


@pytest.mark.parametrize(("broken", "poison"), [("r9", math.nan), ("w4", math.inf), ("moe", math.nan)])
def test_a_neighbour_whose_weights_break_changes_nothing(broken, poison):
    trials = mixed(
        {
            "r2": LoRAArchitecture(rank=2),
            "r9": LoRAArchitecture(rank=9),
            "w4": AdapterArchitecture(bottleneck_size=4),
            "w7": AdapterArchitecture(bottleneck_size=7),
            "moe": MoEArchitecture(num_experts=4, bottleneck_size=4),
            "moe-too": MoEArchitecture(num_experts=2, bottleneck_size=4),
        }
    )
    sound, _ = train_packed("bert", "labels", trials, 6, group_blocks=100)
    pool, examples = opened(trials)
    advance(pool, examples, trials, 3)
    member = next(member for member in pool.members if member.name == broken)
    member.set_weights({name: torch.full_like(item, poison) for name, item in member.weights().items()})
    outcomes = advance(pool, examples, trials, 6, first=3)
    assert not torch.isfinite(torch.tensor([outcomes[broken].loss, outcomes[broken].gradient_norm])).all()
    for name in trials.keys() - {broken}:
        found = weights_of(pool)[name]
        assert all(torch.equal(found[key], item) for key, item in sound[name].items()), name


def test_draws_are_a_member_s_own_whatever_stands_beside_it():
    together, outcomes = train_packed("bert", "labels", RANDOM, 5, group_blocks=100)
    for name, trial in RANDOM.items():
        alone, last = train_packed("bert", "labels", {name: trial}, 5)
        assert largest_difference(together[name], alone[name]) <= SAME_COMPANY, name
        assert outcomes[name].loss == pytest.approx(last[name].loss, abs=1e-6)


def test_global_draws_between_the_steps_change_no_bit():
    trials = {name: RANDOM[name] for name in ("dropped", "inner", "drawn")}
    first, _ = train_packed("bert", "labels", trials, 3)
    pool, examples = opened(trials, group_blocks=9)
    for step in range(3):
        torch.rand(step + 1)
        advance(pool, examples, trials, step + 1, first=step)
    assert all(
        torch.equal(item, first[name][key]) for name, own in weights_of(pool).items() for key, item in own.items()
    )


def test_members_leave_torch_s_generator_alone():
    state = torch.random.get_rng_state()
    train_packed("gpt2", "tokens", {name: Trial(trial.architecture) for name, trial in list(RANDOM.items())[2:4]}, 2)
    assert torch.equal(torch.random.get_rng_state(), state)


def test_dropout_is_there_and_only_while_training():
    pool, examples = opened({"dropped": RANDOM["dropped"], "not-dropped": RANDOM["not-dropped"]})
    advance(pool, examples, {"dropped": RANDOM["dropped"], "not-dropped": RANDOM["not-dropped"]}, 4)
    chosen, batch = examples.batch(0)
    inputs = pool.read(batch)
    judged = [pool.measure("train", chosen, inputs, ["dropped"])["dropped"].logits_NC for _ in range(2)]
    assert torch.equal(*judged)
    weights = weights_of(pool)["dropped"]
    member = pool.members[0]
    losses = []
    for step in (1000, 1001):  # the same weights under other masks
        member.set_weights(weights)
        losses.append(pool.step("train", chosen, inputs, {"dropped": Turn(step=step, rate=1e-9)})["dropped"].loss)
    assert losses[0] != losses[1]


def test_another_seed_is_another_member():
    one, two = (
        train_packed("bert", "labels", {"a": Trial(LoRAArchitecture(rank=2), seed=seed)}, 2)[0]["a"] for seed in (0, 1)
    )
    assert largest_difference(one, two) > 0.01


def test_a_late_member_begins_where_it_would_have_begun_alone():
    trials = mixed({"early": LoRAArchitecture(rank=2), "late": LoRAArchitecture(rank=5)})
    pool, examples = opened({"early": trials["early"]})
    advance(pool, examples, {"early": trials["early"]}, 3)
    pool.add("late", trials["late"].architecture, trials["late"].recipe, trials["late"].stream)
    advance(pool, examples, {"late": trials["late"]}, 3)
    advance(pool, examples, trials, 6, first=3)
    for name, trial in trials.items():
        assert largest_difference(weights_of(pool)[name], train_alone("bert", "labels", trial, 6)[0]) <= CLOSE


def test_a_name_is_taken_once():
    pool, _ = opened({"a": Trial(LoRAArchitecture(rank=2))})
    assert isinstance(pool, Pool)
    with pytest.raises(InvalidValueError, match="a member 'a' already"):
        pool.add("a", LoRAArchitecture(rank=3), TrainingRecipe(), Trial(None).stream)
    pool.drop(["a"])
    pool.add("a", LoRAArchitecture(rank=3), TrainingRecipe(), Trial(None).stream)
    assert [member.name for member in pool.members] == ["a"]
