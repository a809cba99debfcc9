"""Who passes through the base with whom, and that it changes nothing but the time."""

import itertools

import pytest
from tests.packed.harness import Trial, advance, largest_difference, opened, train_alone, weights_of

from legion.neuro_architecture.packed import Dispatch
from legion.neuro_architecture.packed.cut import Cut
from legion.neuro_architecture.packed.grouping import _blocks, _tiers, partition
from legion.neuro_architecture.spec.architecture import (
    AdapterArchitecture,
    LoRAArchitecture,
    MoEArchitecture,
    SplitArchitecture,
)

CLOSE = 1e-5
TRIALS = {
    "lora": Trial(LoRAArchitecture(rank=3, layers=(1, 2))),
    "lora-all": Trial(LoRAArchitecture(rank=2), seed=1),
    "lora-top": Trial(LoRAArchitecture(rank=4, layers=(2,)), seed=2),
    "bottleneck": Trial(AdapterArchitecture(bottleneck_size=5, layers=(0, 2)), seed=3),
    "bottleneck-top": Trial(AdapterArchitecture(bottleneck_size=8, placement="seq", layers=(2,)), seed=4),
    "mixture": Trial(MoEArchitecture(num_experts=3, top_k=2, bottleneck_size=4, layers=(1, 2)), seed=5),
    "mixture-free": Trial(
        MoEArchitecture(num_experts=2, top_k=1, bottleneck_size=4, load_balancing=False, layers=(2,)), seed=6
    ),
}


@pytest.mark.parametrize(("family", "task"), [("bert", "labels"), ("llama", "tokens"), ("gpt2", "labels")])
@pytest.mark.parametrize("overhead", [0.5, 100.0])
def test_merged_members_of_padded_batches_end_as_each_alone(family, task, overhead):
    pool, examples = opened(family, task, TRIALS, group_overhead=overhead, length_multiple=8)
    outcomes = advance(pool, examples, TRIALS, 8)
    packed = weights_of(pool)
    for name, trial in TRIALS.items():
        alone, last = train_alone(family, task, trial, 8)
        assert largest_difference(packed[name], alone) <= CLOSE, name
        assert outcomes[name].loss == pytest.approx(last["loss"], abs=CLOSE)
        assert outcomes[name].auxiliary_loss == pytest.approx(last["auxiliary_loss"], abs=CLOSE)


def test_a_large_overhead_makes_one_group_and_none_one_for_each_beginning():
    pool, examples = opened("bert", "labels", TRIALS, group_overhead=1e6)
    advance(pool, examples, TRIALS, 1)
    assert [set(group) for group in pool.report().groups] == [set(TRIALS)]
    pool, examples = opened("bert", "labels", TRIALS)
    advance(pool, examples, TRIALS, 1)
    assert len(pool.report().groups) > 4
    assert all(len({pool._members[name].cut for name in group}) == 1 for group in pool.report().groups)


def test_members_with_networks_of_their_own_never_join_others():
    trials = {
        "split": Trial(SplitArchitecture(strategy="SplitLayer", rank=2)),
        "lora": Trial(LoRAArchitecture(rank=2), seed=1),
    }
    pool, examples = opened("llama", "labels", trials, group_overhead=1e6)
    advance(pool, examples, trials, 1)
    assert sorted(pool.report().groups) == [("lora",), ("split",)]


class _At:
    """Enough of a member to be placed."""

    form, reads_all, has_own_networks, family = "stacked", False, False, "LoRA"

    def __init__(self, number: int, block: int) -> None:
        self.name, self.cut = str(number), Cut(block)


@pytest.mark.parametrize("overhead", [0.0, 0.3, 1.0, 2.5, 40.0])
@pytest.mark.parametrize("blocks", [(0,), (0, 0, 1), (0, 1, 2, 3, 4, 5), (0, 0, 0, 4, 5, 5, 5, 5, 5), (2, 3, 3, 5)])
def test_tiers_cost_no_more_than_any_other_way_to_cut(blocks, overhead):
    members = [_At(number, block) for number, block in enumerate(blocks)]

    def cost(tiers):
        return sum((overhead + len(tier)) * _blocks(tier[0].cut, 6) for tier in tiers)

    found = _tiers(members, overhead, 6)
    assert [member.name for tier in found for member in tier] == [member.name for member in members]
    others = []
    for count in range(len(members)):
        for places in itertools.combinations(range(1, len(members)), count):
            edges = [0, *places, len(members)]
            others.append([members[start:end] for start, end in itertools.pairwise(edges)])
    assert cost(found) == pytest.approx(min(cost(tiers) for tiers in others))


def test_groups_grow_no_larger_than_asked():
    members = [_At(number, 0) for number in range(7)]
    found = partition(members, Dispatch(group_blocks=18, group_overhead=5.0), num_blocks=6)
    assert [len(group) for group in found] == [3, 3, 1]


def test_whoever_runs_as_a_whole_runs_alone():
    members = [_At(number, 0) for number in range(3)]
    for member in members[:2]:
        member.form = "whole"
    found = partition(members, Dispatch(group_overhead=5.0), num_blocks=6)
    assert sorted(len(group) for group in found) == [1, 1, 1]
    assert {member.form for group in found for member in group} == {"whole", "stacked"}
