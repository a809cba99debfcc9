"""Combinations in a pool: stacked like their parts, and begun where the LoRA begins."""

import pytest
from tests.packed.harness import (
    CPU,
    NUM_BLOCKS,
    Examples,
    Trial,
    advance,
    enter,
    largest_difference,
    make_pool,
    tiny_base,
    train_alone,
    weights_of,
)

from legion.foundation.errors import AdapterError
from legion.neuro_architecture.anatomy import inspect_model
from legion.neuro_architecture.packed.cut import Cut, Stage, expected_cut
from legion.neuro_architecture.spec.architecture import AdapterArchitecture, CombinedArchitecture, LoRAArchitecture

CASES = [("bert", "labels"), ("llama", "tokens")]
SMALL = {"rank": 2, "alpha": 4.0, "bottleneck_size": 4}
# Of every boundary, rank and width, beside a LoRA and a bottleneck of their own.
TRIALS = {
    "low": Trial(CombinedArchitecture(**SMALL), seed=1),
    "high": Trial(CombinedArchitecture(**SMALL | {"boundary": 2, "rank": 4, "alpha": 8.0}), seed=4),
    "late": Trial(CombinedArchitecture(**SMALL | {"first_layer": 1, "boundary": 2, "bottleneck_size": 8}), seed=5),
    "lora": Trial(LoRAArchitecture(rank=2, layers=(0,)), seed=3),
    "bottleneck": Trial(AdapterArchitecture(bottleneck_size=4, layers=(1, 2)), seed=6),
}


@pytest.mark.parametrize("pair", CASES, ids="-".join)
def test_combinations_of_all_sizes_stack_and_end_with_the_weights_of_separate_trainings(pair):
    examples = Examples(*pair)
    pool = make_pool(tiny_base(*pair), examples, group_blocks=100)
    enter(pool, TRIALS)
    assert {member.form for member in pool.members} == {"stacked"}
    outcomes = advance(pool, examples, TRIALS, 20)
    found = weights_of(pool)
    for name, trial in TRIALS.items():
        alone, last = train_alone(*pair, trial, 20)
        assert largest_difference(found[name], alone) <= 1e-5, name
        assert outcomes[name].loss == pytest.approx(last["loss"], abs=1e-5), name


def test_combinations_of_one_cut_share_a_group():
    pool = make_pool(tiny_base("bert", "labels"), Examples("bert", "labels"), group_blocks=100)
    combined = {name: trial for name, trial in TRIALS.items() if isinstance(trial.architecture, CombinedArchitecture)}
    enter(pool, combined)
    advance(pool, Examples("bert", "labels"), combined, 1)
    assert sorted(map(len, (group for group in pool.report().groups))) == [1, 2]  # `late` begins a block higher


@pytest.mark.parametrize("pair", CASES, ids="-".join)
def test_what_is_expected_below_a_combination_is_what_its_member_leaves_out(pair):
    model = tiny_base(*pair)
    anatomy = inspect_model(model)
    pool = make_pool(model, Examples(*pair))
    feeding = tuple(linear.name for linear in anatomy.layers[0].ffn_linears)
    trials = {
        "from the first": Trial(CombinedArchitecture(**SMALL)),
        "from the second": Trial(CombinedArchitecture(**SMALL | {"first_layer": 1, "boundary": 2})),
        "networks alone": Trial(CombinedArchitecture(**SMALL | {"target_modules": feeding})),
    }
    enter(pool, trials)
    cuts = {member.name: member.cut for member in pool.members}
    assert cuts == {
        "from the first": Cut(0),
        "from the second": Cut(1),
        "networks alone": Cut(0, Stage.ATTENDED),
    }
    assert all(expected_cut(trial.architecture, anatomy) <= cuts[name] for name, trial in trials.items())


def test_a_combination_that_does_not_fit_fails_alone():
    pool = make_pool(tiny_base("bert", "labels"), Examples("bert", "labels"))
    with pytest.raises(AdapterError, match=f"boundary {NUM_BLOCKS} leaves no block"):
        enter(pool, {"wrong": Trial(CombinedArchitecture(boundary=NUM_BLOCKS))})
    assert pool.device == CPU
    assert pool.members == ()
