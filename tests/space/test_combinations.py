"""Combinations in the space: where they may begin and change over, what narrows them, what they cost and risk."""

from __future__ import annotations

import random
from collections import Counter

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from legion.foundation.errors import InvalidValueError
from legion.neuro_architecture.generator.mutation import mutated
from legion.neuro_architecture.space import PointSpace, SearchSpace, assess_risk, estimate_cost, find_mistakes
from legion.neuro_architecture.space.cost import count_adapter_parameters
from legion.neuro_architecture.space.sites import adapted_layers, canonical, served_form
from legion.neuro_architecture.space.work import Work, adapter_work
from legion.neuro_architecture.spec.architecture import AdapterArchitecture, CombinedArchitecture, LoRAArchitecture
from legion.neuro_architecture.spec.proposal import TrainingRecipe
from legion.testing import paper_anatomy

ANATOMY = paper_anatomy(num_layers=6, hidden_size=128, intermediate_size=256, is_causal=False)
COMBINED = CombinedArchitecture(first_layer=1, boundary=4, rank=4, bottleneck_size=16, non_linearity="silu")


@pytest.fixture(scope="module")
def space():
    return PointSpace(ANATOMY, ["Combined", "LoRA"])


def combined_of(space):
    return next(branch for branch in space.branches if branch.strategy == "Combined")


def test_starts_and_boundaries_are_chosen_apart(space):
    places = {(found.first_layer, found.boundary) for found in combined_of(space).architectures}
    assert places == {(first, boundary) for first in range(5) for boundary in (2, 3, 4, 5) if first < boundary}


def test_axes_name_both_parts(space):
    assert [axis.name for axis in combined_of(space).axes] == [
        "boundary",
        "rank",
        "targets",
        "placement",
        "bottleneck_size",
        "activation",
        "layers",
        "learning_rate",
        "warmup_share",
        "schedule",
    ]


def test_half_of_the_blocks_is_the_likeliest_boundary_and_all_blocks_the_likeliest_place():
    space, draw = PointSpace(ANATOMY, ["Combined"]), random.Random(0)
    drawn = [space.candidate(space.draw(draw))[0] for _ in range(800)]
    boundaries = Counter(found.boundary for found in drawn if found.first_layer == 0)
    assert max(boundaries, key=lambda boundary: boundaries[boundary]) == 3
    assert Counter(found.first_layer for found in drawn).most_common(1)[0][0] == 0


@settings(max_examples=60)
@given(seed=st.integers(0, 2**32))
def test_every_step_leads_to_a_valid_combination_or_to_the_other_strategy(space, seed):
    draw = random.Random(seed)
    point = space.draw(draw)
    for _ in range(5):
        stepped = mutated(space, point, draw)
        assert stepped != point
        architecture, recipe = space.candidate(stepped)
        assert find_mistakes(architecture, ANATOMY) == []
        assert space.point_of(architecture, recipe) == stepped
        point = stepped


def test_a_recipe_narrows_either_part():
    narrow = {"Combined": {"boundary": [3], "rank": [8], "placement": ["par"]}, "*": {"layers": ["all", "2-5"]}}
    space = PointSpace(ANATOMY, ["Combined"], narrow=narrow)
    found = {(each.first_layer, each.boundary, each.rank, each.placement) for each in space.branches[0].architectures}
    assert found == {(0, 3, 8, "par"), (2, 3, 8, "par")}


def test_a_prediction_can_bound_it(calibration):
    """As a study's constraints do: what costs more is never a candidate."""
    most = 20_000

    def allow(architecture):
        return count_adapter_parameters(architecture, ANATOMY) <= most

    whole, bounded = (PointSpace(ANATOMY, ["Combined"], **choice) for choice in ({}, {"allow": allow}))
    assert 0 < bounded.size < whole.size
    for architecture in bounded.branches[0].architectures:
        estimate = estimate_cost(architecture, ANATOMY, calibration=calibration, sequence_length=8)
        assert estimate.trainable_parameters <= most + ANATOMY.head_parameters


def test_a_model_of_one_block_takes_none_and_says_why():
    one = paper_anatomy(num_layers=1)
    space = SearchSpace(one, ["Combined"])
    assert space.size() == 0
    assert space.obstacles("Combined") == [
        "boundary 1 leaves no block for the bottleneck: the model has layers 0 to 0",
    ]
    with pytest.raises(InvalidValueError, match="is left to search"):
        PointSpace(one, ["Combined"])


def test_mistakes_are_those_of_the_parts():
    wrong = COMBINED.model_copy(
        update={"rank": 500, "bottleneck_size": 500, "target_modules": ("nowhere",), "is_gated": True}
    )
    below, above = wrong.parts(6)
    plain = paper_anatomy(num_layers=6, hidden_size=128, is_ffn_gated=False)
    assert find_mistakes(wrong, plain) == [*find_mistakes(below, plain), *find_mistakes(above, plain)]
    assert len(find_mistakes(wrong, plain)) >= 3
    assert find_mistakes(COMBINED, ANATOMY) == []


def test_cost_is_the_sum_of_the_parts(calibration):
    below, above = COMBINED.parts(6)
    assert (below.layers, above.layers) == ((1, 2, 3), (4, 5))
    assert count_adapter_parameters(COMBINED, ANATOMY) == sum(
        count_adapter_parameters(part, ANATOMY) for part in (below, above)
    )
    assert adapter_work(COMBINED, ANATOMY, 9) == sum(
        (adapter_work(part, ANATOMY, 9) for part in (below, above)), Work()
    )


def test_risk_is_of_the_bottleneck_above_and_of_all_blocks_from_the_first(calibration):
    def shares(architecture):
        estimate = estimate_cost(architecture, ANATOMY, calibration=calibration, sequence_length=8)
        risk = assess_risk(architecture, ANATOMY, estimate, TrainingRecipe())
        return {item.name: item for item in risk.factors}

    combined, above = shares(COMBINED), shares(COMBINED.parts(6)[1])
    assert (
        combined["serving_path"].share == above["serving_path"].share > shares(LoRAArchitecture())["serving_path"].share
    )
    assert "merges into the lowest 3 adapted blocks; above, folds into" in combined["serving_path"].explanation
    assert "changes 5 of 6 blocks, the lowest at 1" in combined["intervention_depth"].explanation
    assert [layer.index for layer in adapted_layers(COMBINED, ANATOMY)] == [1, 2, 3, 4, 5]


def test_spelling_and_served_form():
    names = tuple(linear.name for linear in ANATOMY.layers[0].linears)
    spelled = COMBINED.model_copy(update={"target_modules": names, "dropout": 0.1})
    assert canonical(spelled, ANATOMY) == COMBINED.model_copy(update={"dropout": 0.1})
    assert served_form(spelled) == COMBINED.model_copy(update={"target_modules": names})


def test_parts_are_of_the_kinds_that_are_known():
    assert tuple(map(type, COMBINED.parts(6))) == (LoRAArchitecture, AdapterArchitecture)
