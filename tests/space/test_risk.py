from __future__ import annotations

import math
import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from legion.foundation.errors import InvalidValueError
from legion.neuro_architecture.space import SearchSpace, assess_risk, estimate_cost
from legion.neuro_architecture.space.risk import WEIGHTS
from legion.neuro_architecture.spec.architecture import (
    AdapterArchitecture,
    LoRAArchitecture,
    MoEArchitecture,
    PeftArchitecture,
    SplitArchitecture,
    VirtualTokensArchitecture,
    strategy_names,
)
from legion.neuro_architecture.spec.proposal import TrainingRecipe
from legion.testing import paper_anatomy

ANATOMY = paper_anatomy(hidden_size=256, intermediate_size=512, num_layers=6)
RECIPE = TrainingRecipe(learning_rate=1e-3)


@pytest.fixture(scope="module")
def assess(calibration):
    def risk(architecture, recipe=RECIPE, anatomy=ANATOMY):
        estimate = estimate_cost(architecture, anatomy, calibration=calibration, sequence_length=32)
        return assess_risk(architecture, anatomy, estimate, recipe)

    return risk


def factor(assessment, name):
    return next(item for item in assessment.factors if item.name == name)


def test_weights_sum_to_one():
    assert math.fsum(WEIGHTS.values()) == pytest.approx(1.0, abs=1e-15)


@pytest.mark.parametrize("strategy", strategy_names())
def test_score_is_the_weighted_sum_of_explained_factors(strategy, assess):
    space = SearchSpace(ANATOMY, [strategy])
    draw = random.Random(0)
    for _ in range(10):
        architecture, recipe = space.draw(strategy, draw)
        risk = assess(architecture, recipe)
        assert risk.score == pytest.approx(math.fsum(item.weight * item.share for item in risk.factors))
        assert [item.name for item in risk.factors] == list(WEIGHTS)
        assert all(0.0 <= item.share <= 1.0 for item in risk.factors)
        assert all(item.explanation for item in risk.factors)


def test_explanations_hold_the_numbers(assess):
    risk = assess(AdapterArchitecture(bottleneck_size=64, non_linearity="silu", layers=(2, 4)))
    assert "2 of 6 blocks, the lowest at 2" in factor(risk, "intervention_depth").explanation
    assert "widened from 512 to 576" in factor(risk, "serving_path").explanation
    assert "0.001" in factor(risk, "learning_rate").explanation
    assert " ms, " in factor(risk, "latency_increase").explanation
    assert "% of the base's" in factor(risk, "trainable_share").explanation


def test_serving_gets_riskier_from_merged_to_folded_to_own_module_to_routed(assess):
    architectures = [
        LoRAArchitecture(),
        AdapterArchitecture(bottleneck_size=64, non_linearity="silu"),
        AdapterArchitecture(bottleneck_size=64, non_linearity="relu"),
        MoEArchitecture(num_experts=2, top_k=2),
        MoEArchitecture(num_experts=8, top_k=2),
    ]
    shares = [factor(assess(architecture), "serving_path").share for architecture in architectures]
    assert shares == sorted(set(shares))
    assert shares[0] == 0.0


def test_each_later_strategy_is_served_as_what_it_becomes(assess):
    def path(architecture):
        return factor(assess(architecture), "serving_path")

    drawn = MoEArchitecture(num_experts=4, top_k=1, routing="random", bottleneck_size=64, non_linearity="silu")
    assert path(drawn).share == path(AdapterArchitecture(bottleneck_size=64, non_linearity="silu")).share
    assert path(PeftArchitecture(strategy="OFT")).share == path(LoRAArchitecture(use_dora=True)).share == 0.0
    assert "block of its own" in path(AdapterArchitecture(bottleneck_size=64, placement="seq_layer")).explanation
    kept, left = (path(SplitArchitecture(strategy=name)) for name in ("SplitLayer", "SparseRouting"))
    assert (kept.share, left.share) == (0.75, 0.875)
    assert "2 of 4 experts" in left.explanation
    few, many = (
        path(VirtualTokensArchitecture(strategy="PrefixTuning", num_virtual_tokens=count)) for count in (4, 64)
    )
    assert 0.5 < few.share < many.share < 0.75
    assert "64 virtual tokens" in many.explanation


def test_sequential_bottleneck_does_not_fold(assess):
    sequential = assess(AdapterArchitecture(bottleneck_size=64, non_linearity="silu", placement="seq"))
    assert "after the feed-forward network" in factor(sequential, "serving_path").explanation


@settings(max_examples=40, deadline=None)
@given(rank=st.integers(1, 200), more=st.integers(0, 50))
def test_more_rank_never_lowers_the_score(assess, rank, more):
    assert assess(LoRAArchitecture(rank=rank)).score <= assess(LoRAArchitecture(rank=rank + more)).score


@settings(max_examples=40, deadline=None)
@given(size=st.integers(1, 200), more=st.integers(0, 50), placement=st.sampled_from(["par", "seq"]))
def test_wider_bottleneck_never_lowers_the_score(assess, size, more, placement):
    small, large = (
        assess(AdapterArchitecture(bottleneck_size=value, placement=placement)).score for value in (size, size + more)
    )
    assert small <= large


@settings(max_examples=40, deadline=None)
@given(num_experts=st.integers(2, 15), size=st.sampled_from([4, 8, 16]))
def test_another_expert_never_lowers_the_score(assess, num_experts, size):
    small, large = (
        assess(MoEArchitecture(num_experts=value, top_k=2, bottleneck_size=size)).score
        for value in (num_experts, num_experts + 1)
    )
    assert small <= large


@settings(max_examples=40, deadline=None)
@given(layers=st.sets(st.integers(0, 5), min_size=1, max_size=5), added=st.integers(0, 5))
def test_another_layer_never_lowers_the_score(assess, layers, added):
    small, large = (assess(LoRAArchitecture(layers=tuple(chosen))).score for chosen in (layers, layers | {added}))
    assert small <= large


@settings(max_examples=40, deadline=None)
@given(rate=st.floats(1e-6, 1.0), factor_up=st.floats(1.0, 100.0))
def test_higher_learning_rate_never_lowers_the_score(assess, rate, factor_up):
    calm, wild = (
        assess(LoRAArchitecture(), TrainingRecipe(learning_rate=value)).score for value in (rate, rate * factor_up)
    )
    assert calm <= wild


def test_estimate_without_the_bases_latency_is_refused(calibration):
    estimate = estimate_cost(LoRAArchitecture(), ANATOMY, calibration=calibration, sequence_length=32)
    bare = estimate.model_copy(update={"expected_base_latency_ms": None})
    with pytest.raises(InvalidValueError, match="no latency of the base"):
        assess_risk(LoRAArchitecture(), ANATOMY, bare, RECIPE)
