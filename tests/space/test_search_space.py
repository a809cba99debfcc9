from __future__ import annotations

import random
from collections import Counter
from itertools import islice

import pytest

from legion.foundation.errors import InvalidValueError, UnknownNameError
from legion.neuro_architecture.space import SearchSpace, canonical
from legion.neuro_architecture.space.sites import served_form
from legion.neuro_architecture.spec.architecture import (
    AdapterArchitecture,
    LoRAArchitecture,
    MoEArchitecture,
    semantic_hash,
    strategy_names,
)
from legion.testing import paper_anatomy

WIDE = paper_anatomy(hidden_size=384, intermediate_size=1536, num_layers=6, is_ffn_gated=False, is_causal=False)


@pytest.mark.parametrize(
    ("strategy", "good"),
    [
        ("LoRA", LoRAArchitecture(rank=8, alpha=16.0, target_modules=("all-linear",))),
        ("Adapter", AdapterArchitecture(bottleneck_size=64, placement="par", non_linearity="gelu")),
        ("MoE", MoEArchitecture(num_experts=4, top_k=2, bottleneck_size=16, non_linearity="gelu")),
    ],
)
def test_walk_begins_with_the_known_good_default(strategy, good):
    architecture, recipe = next(SearchSpace(WIDE, [strategy]).walk(strategy, random.Random(5)))
    assert architecture == good
    assert recipe.learning_rate == 1e-3


@pytest.mark.parametrize("strategy", strategy_names())
def test_walk_meets_every_architecture_once(strategy):
    space = SearchSpace(WIDE, [strategy])
    hashes = [semantic_hash(architecture) for architecture, _ in space.walk(strategy, random.Random(1))]
    assert len(hashes) == len(set(hashes)) == space.size(strategy) == space.size()


@pytest.mark.parametrize("strategy", strategy_names())
def test_no_two_members_are_spellings_of_one(strategy):
    anatomy = paper_anatomy(num_layers=2)
    walk = SearchSpace(anatomy, [strategy]).walk(strategy, random.Random(1))
    members = [architecture for architecture, _ in walk]
    assert all(canonical(architecture, anatomy) == architecture for architecture in members)


@pytest.mark.parametrize("strategy", ["LoRA", "MoE"])
def test_walk_serves_something_different_while_it_can(strategy):
    space = SearchSpace(WIDE, [strategy])
    forms = [semantic_hash(served_form(architecture)) for architecture, _ in space.walk(strategy, random.Random(2))]
    distinct = len(set(forms))
    assert distinct < len(forms)
    assert len(set(forms[:distinct])) == distinct


def test_walk_is_decided_by_its_stream():
    space = SearchSpace(WIDE, ["LoRA"])
    first, again, other = (list(islice(space.walk("LoRA", random.Random(seed)), 20)) for seed in (3, 3, 4))
    assert first == again
    assert first != other


def test_prior_prefers_all_linear_layers_and_all_blocks():
    space = SearchSpace(WIDE, ["LoRA"])
    draw = random.Random(0)
    drawn = [space.draw("LoRA", draw)[0] for _ in range(400)]
    targets = Counter(architecture.target_modules for architecture in drawn)
    layers = Counter(architecture.layers for architecture in drawn)
    assert targets.most_common(1)[0][0] == ("all-linear",)
    assert layers.most_common(1)[0][0] is None


def test_learning_rates_follow_the_kind_of_task():
    draw = random.Random(0)
    spaces = [SearchSpace(anatomy, ["Adapter"]) for anatomy in (WIDE, paper_anatomy())]
    rates = {space.kind: {space.draw("Adapter", draw)[1].learning_rate for _ in range(60)} for space in spaces}
    assert rates == {"classification": {5e-4, 1e-3, 2e-3}, "summarization": {3e-4, 5e-4, 1e-3}}


def test_strategies_come_in_the_specifications_order():
    assert SearchSpace(WIDE, ["MoE", "LoRA"]).strategies == ("LoRA", "MoE")


def test_gated_bottlenecks_are_proposed_for_gated_bases_only():
    for is_gated in (True, False):
        space = SearchSpace(paper_anatomy(is_ffn_gated=is_gated), ["Adapter", "MoE"])
        for strategy in space.strategies:
            kinds = {architecture.is_gated for architecture, _ in space.walk(strategy, random.Random(0))}
            assert kinds == ({True, False} if is_gated else {False})


def test_narrow_model_gets_the_widest_default_that_fits():
    space = SearchSpace(paper_anatomy(hidden_size=32, intermediate_size=64), ["Adapter"])
    default = space.default("Adapter")
    assert isinstance(default, AdapterArchitecture)
    assert default.bottleneck_size == 16


def test_strategy_that_fits_nowhere_is_empty_and_says_so():
    space = SearchSpace(paper_anatomy(hidden_size=8), ["Adapter"])
    assert space.size() == 0
    assert space.default("Adapter") is None
    assert list(space.walk("Adapter", random.Random(0))) == []
    with pytest.raises(InvalidValueError, match="no Adapter fits"):
        space.draw("Adapter", random.Random(0))


@pytest.mark.parametrize(
    ("strategies", "error"),
    [
        (["LoRA", "Prefix"], UnknownNameError),
        (["LoRA", "LoRA"], InvalidValueError),
        ([], InvalidValueError),
        ("LoRA", InvalidValueError),
    ],
)
def test_wrong_strategies_are_refused_with_a_hint_or_cause(strategies, error):
    with pytest.raises(error) as caught:
        SearchSpace(WIDE, strategies)
    assert caught.value.cause or caught.value.hint
