"""A space as points: every candidate once, each way back, and no more than a recipe leaves."""

from __future__ import annotations

import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from legion.foundation.errors import InvalidValueError, UnknownNameError
from legion.neuro_architecture.space import PointSpace, find_mistakes
from legion.neuro_architecture.space.members import members
from legion.neuro_architecture.space.search_space import SearchSpace
from legion.neuro_architecture.space.traits import block_label, traits_of
from legion.neuro_architecture.spec.architecture import strategy_names
from legion.neuro_architecture.spec.semantics import semantic_hash

STRATEGIES = ("LoRA", "Adapter", "MoE")


@pytest.fixture(scope="module", params=["bert", "llama"])
def anatomy(request, tiny_folders):
    from legion.foundation.settings import Settings
    from legion.neuro_architecture.data.base_models import resolve_base
    from legion.neuro_architecture.portability.base_facts import read_base_facts

    kind = "classification" if request.param == "bert" else "summarization"
    base = resolve_base(str(tiny_folders[request.param]), Settings.load())
    return read_base_facts(base, kind, num_labels=2).anatomy


@pytest.fixture(scope="module")
def space(anatomy):
    return PointSpace(anatomy, STRATEGIES)


def test_size_is_the_number_of_points_and_of_distinct_candidates(space):
    points = list(space.points())
    assert len(points) == len(set(points)) == space.size
    architectures = {semantic_hash(space.candidate(point)[0]) for point in points}
    assert len(architectures) == sum(branch.num_architectures for branch in space.branches)


def test_every_architecture_is_valid_and_every_one_of_the_plain_space_is_there(space, anatomy):
    for branch in space.branches:
        assert not any(find_mistakes(architecture, anatomy) for architecture in branch.architectures)
    plain = SearchSpace(anatomy, STRATEGIES)
    hashes = {semantic_hash(a) for branch in space.branches for a in branch.architectures}
    assert sum(plain.size(strategy) for strategy in STRATEGIES) <= len(hashes)
    assert {semantic_hash(a) for a, _ in members("LoRA", anatomy)} <= hashes


@settings(max_examples=50)
@given(seed=st.integers(0, 2**32))
def test_a_drawn_point_is_held_and_found_again(space, seed):
    point = space.draw(random.Random(seed))
    assert space.holds(point)
    assert space.point_of(*space.candidate(point)) == point
    assert space.point_with(space.traits(point)) == point


def test_traits_tell_all_architectures_of_a_strategy_apart(anatomy):
    for strategy in strategy_names():
        found = members(strategy, anatomy)
        assert len({tuple(traits_of(a, anatomy).items()) for a, _ in found}) == len(found)


def test_adapters_may_begin_at_every_block(space, anatomy):
    axis = next(axis for axis in space.branches[0].axes if axis.name == "layers")
    starts = {value.split("-")[0] for value in axis.values if "-" in str(value)}
    assert starts >= {str(start) for start in range(1, anatomy.num_layers - 1)}
    assert axis.values[0] == "all"


def test_blocks_are_written_as_recipes_write_them():
    assert [block_label(layers) for layers in (None, (2,), (2, 3, 4), (1, 3, 5))] == ["all", "2", "2-4", "1,3,5"]


def test_a_recipe_leaves_only_what_it_lists(anatomy):
    narrow = {"LoRA": {"rank": [4, 8], "layers": ["all"]}, "*": {"learning_rate": [1e-3]}}
    space = PointSpace(anatomy, STRATEGIES, narrow=narrow)
    for point in space.points():
        traits = space.traits(point)
        assert traits["learning_rate"] == 1e-3
        if traits["strategy"] == "LoRA":
            assert traits["rank"] in {4, 8}
            assert traits["layers"] == "all"


@pytest.mark.parametrize(
    ("narrow", "said"),
    [
        ({"LoRA": {"rank": [5]}}, "no rank 5"),
        ({"LoRA": {"ranks": [4]}}, "ranks"),
        ({"Lora": {"rank": [4]}}, "Lora"),
        ({"LoRA": {"learning_rate": [7.0]}}, "no learning_rate 7.0"),
    ],
)
def test_a_recipe_that_names_what_is_not_there_is_refused(anatomy, narrow, said):
    with pytest.raises(UnknownNameError) as caught:
        PointSpace(anatomy, STRATEGIES, narrow=narrow)
    assert said in caught.value.message


def test_a_space_with_nothing_in_it_is_refused(anatomy):
    with pytest.raises(InvalidValueError, match="is left to search"):
        PointSpace(anatomy, ["LoRA"], allow=lambda _architecture: False)


def test_the_well_known_starts_are_held(space):
    assert len(space.starts) == len(space.branches)
    assert all(map(space.holds, space.starts))


def test_a_point_that_does_not_go_together_moves_to_one_that_shares_most(space):
    branch = space.branches[0]
    point = space.draw(random.Random(1))
    whole = tuple(len(axis.values) - 1 for axis in branch.axes)
    found = space.nearest((0, *whole), random.Random(2))
    assert space.holds(found)
    assert space.nearest(point, random.Random(3)) == point


def test_draws_follow_the_prior(space):
    draw = random.Random(5)
    drawn = [space.traits(space.draw(draw)) for _ in range(3000)]
    everywhere = sum(traits["layers"] == "all" for traits in drawn) / len(drawn)
    assert 0.3 < everywhere < 0.7
    for strategy in STRATEGIES:
        assert sum(traits["strategy"] == strategy for traits in drawn) / len(drawn) == pytest.approx(1 / 3, abs=0.04)
