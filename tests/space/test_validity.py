from __future__ import annotations

import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from legion.neuro_architecture.space import SearchSpace, find_mistakes
from legion.neuro_architecture.spec.architecture import (
    AdapterArchitecture,
    LoRAArchitecture,
    MoEArchitecture,
    strategy_names,
)
from legion.testing import paper_anatomy

anatomies = st.builds(
    paper_anatomy,
    hidden_size=st.integers(9, 400),
    intermediate_size=st.integers(9, 800),
    num_layers=st.integers(1, 9),
    is_ffn_gated=st.booleans(),
    is_causal=st.booleans(),
)


@settings(max_examples=15, deadline=None)
@given(anatomy=anatomies, seed=st.integers(0, 2**63 - 1))
def test_every_draw_is_valid_for_the_model_at_hand(anatomy, seed):
    space = SearchSpace(anatomy, strategy_names())
    draw = random.Random(seed)
    for strategy in space.strategies:
        for _ in range(3):
            architecture, recipe = space.draw(strategy, draw)
            assert architecture.strategy == strategy
            assert find_mistakes(architecture, anatomy) == []
            assert recipe.batch_size == (4 if anatomy.is_causal else 16)


@pytest.mark.parametrize("family", ["bert", "llama", "gpt2"])
def test_every_member_is_valid_for_real_models(family, anatomy_of):
    anatomy = anatomy_of(family, "classification")
    space = SearchSpace(anatomy, strategy_names())
    for strategy in space.strategies:
        for architecture, _ in space.walk(strategy, random.Random(0)):
            assert find_mistakes(architecture, anatomy) == []


@pytest.mark.parametrize(
    ("architecture", "complaint"),
    [
        (LoRAArchitecture(layers=(0, 4)), "layer 4 is out of range: the model has layers 0 to 3"),
        (LoRAArchitecture(target_modules=("query",)), "target 'query' is no linear layer"),
        (LoRAArchitecture(rank=64), "rank 64 is not below 64, the width of model.layers.0.self_attn.q_proj"),
        (AdapterArchitecture(bottleneck_size=64), "bottleneck_size 64 is not below the hidden size 64"),
        (AdapterArchitecture(bottleneck_size=8, layers=(9,)), "layer 9 is out of range"),
        (
            AdapterArchitecture(bottleneck_size=8, is_gated=True, non_linearity="gelu"),
            "a gated bottleneck uses the base's silu, not gelu",
        ),
        (MoEArchitecture(bottleneck_size=100), "bottleneck_size 100 is not below the hidden size 64"),
        (MoEArchitecture(layers=(7,)), "layer 7 is out of range"),
        (MoEArchitecture.model_construct(num_experts=2, top_k=3), "top_k 3 exceeds num_experts 2"),
    ],
)
def test_each_broken_rule_is_named(architecture, complaint):
    (mistake,) = find_mistakes(architecture, paper_anatomy(hidden_size=64))
    assert mistake.startswith(complaint)


def test_gated_bottleneck_needs_a_gated_base():
    gated = AdapterArchitecture(bottleneck_size=8, is_gated=True, non_linearity="gelu")
    assert find_mistakes(gated, paper_anatomy(is_ffn_gated=False)) == [
        "is_gated needs a gated feed-forward network, which paper has not"
    ]
    own = AdapterArchitecture(bottleneck_size=8, is_gated=True, non_linearity="silu")
    assert find_mistakes(own, paper_anatomy()) == []


def test_rank_is_compared_with_the_targets_it_has(anatomy_of):
    """The tiny Llama's keys and values are half as wide as its queries."""
    anatomy = anatomy_of("llama", "summarization")
    assert find_mistakes(LoRAArchitecture(rank=16, target_modules=("q_proj",)), anatomy) == []
    assert len(find_mistakes(LoRAArchitecture(rank=16, target_modules=("q_proj", "v_proj")), anatomy)) == 1


def test_all_mistakes_are_told_at_once():
    architecture = LoRAArchitecture(rank=100, target_modules=("q_proj", "here", "there"), layers=(1, 8, 9))
    assert len(find_mistakes(architecture, paper_anatomy(hidden_size=64))) == 5
