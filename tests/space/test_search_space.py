from __future__ import annotations

import random
from collections import Counter
from itertools import islice

import pytest

from legion.foundation.errors import InvalidValueError, UnknownNameError
from legion.foundation.rng import RandomStream
from legion.neuro_architecture.space import SearchSpace, canonical
from legion.neuro_architecture.space.sites import served_form
from legion.neuro_architecture.spec.architecture import (
    AdapterArchitecture,
    LoRAArchitecture,
    MoEArchitecture,
    PeftArchitecture,
    SplitArchitecture,
    VirtualTokensArchitecture,
    strategy_names,
)
from legion.neuro_architecture.spec.semantics import semantic_hash
from legion.testing import paper_anatomy

LLAMA_LIKE = paper_anatomy(num_layers=3)
WIDE = paper_anatomy(hidden_size=384, intermediate_size=1536, num_layers=6, is_ffn_gated=False, is_causal=False)

FIRST_RELEASE = {
    "LoRA": [
        ("e706b66cac12fba9", 0.001),
        ("b064dfef12f4e2e6", 0.0005),
        ("8e5081bf90642139", 0.001),
        ("e1c516d01895f886", 0.001),
        ("4c4bf4fdddb2db19", 0.002),
    ],
    "Adapter": [
        ("90c98d82bd40cb9f", 0.001),
        ("090f4898b598cdb8", 0.002),
        ("dec2b2c5d5498403", 0.0005),
        ("4d82e2d591bd1373", 0.001),
        ("9273453e9e1a99b5", 0.0005),
    ],
    "MoE": [
        ("3f065aac845c3f4d", 0.001),
        ("1f274905ba652ebd", 0.001),
        ("5586c81f887421c2", 0.001),
        ("2d702fd558db6373", 0.001),
        ("ced328b65ad07eda", 0.001),
    ],
}


@pytest.mark.parametrize(
    ("strategy", "good"),
    [
        ("LoRA", LoRAArchitecture(rank=8, alpha=16.0, target_modules=("all-linear",))),
        ("Adapter", AdapterArchitecture(bottleneck_size=64, placement="par", non_linearity="gelu")),
        ("MoE", MoEArchitecture(num_experts=4, top_k=2, bottleneck_size=16, non_linearity="gelu")),
        ("LoHa", PeftArchitecture(strategy="LoHa", rank=8)),
        ("OFT", PeftArchitecture(strategy="OFT", block_size=4)),
        ("WaveFT", PeftArchitecture(strategy="WaveFT", num_frequencies=128)),
    ],
)
def test_walk_begins_with_the_known_good_default(strategy, good):
    architecture, recipe = next(SearchSpace(WIDE, [strategy]).walk(strategy, random.Random(5)))
    assert architecture == good
    assert recipe.learning_rate == (1e-2 if strategy == "WaveFT" else 1e-3)


@pytest.mark.parametrize(
    ("strategy", "good"),
    [
        ("SplitLayer", SplitArchitecture(strategy="SplitLayer", num_experts=4, rank=8, alpha=16.0)),
        ("SparseRouting", SplitArchitecture(strategy="SparseRouting", num_experts=4, top_k=2, rank=8, alpha=16.0)),
        ("PrefixTuning", VirtualTokensArchitecture(strategy="PrefixTuning", num_virtual_tokens=16)),
        ("PromptTuning", VirtualTokensArchitecture(strategy="PromptTuning", num_virtual_tokens=16)),
    ],
)
def test_gated_causal_model_begins_with_the_known_good_default_too(strategy, good):
    assert next(SearchSpace(LLAMA_LIKE, [strategy]).walk(strategy, random.Random(5)))[0] == good


def test_what_a_seed_proposed_first_keeps_its_order_and_recipes():
    """Variants stand between, on a stream of their own; these are the first release's architectures and rates."""
    space = SearchSpace(WIDE, ["LoRA", "Adapter", "MoE"])
    for strategy, expected in FIRST_RELEASE.items():
        stream = RandomStream(0).child("generator").child(strategy).random()
        walked = [
            (semantic_hash(member), recipe.learning_rate) for member, recipe in islice(space.walk(strategy, stream), 12)
        ]
        assert [pair for pair in walked if pair in expected] == expected


@pytest.mark.parametrize("strategy", ["LoRA", "Adapter", "MoE"])
def test_variants_are_there_but_rare(strategy):
    space = SearchSpace(LLAMA_LIKE, [strategy])
    drawn = [space.draw(strategy, stream)[0] for stream in [random.Random(1)] for _ in range(600)]
    share = sum(map(is_variant, drawn)) / len(drawn)
    assert 0.02 < share < 0.12
    assert any(is_variant(member) for member, _ in space.walk(strategy, random.Random(1)))


def is_variant(architecture) -> bool:
    match architecture:
        case LoRAArchitecture():
            return bool(architecture.use_rslora or architecture.use_dora or architecture.rank_pattern)
        case AdapterArchitecture():
            return architecture.placement == "seq_layer"
        case _:
            return architecture.routing == "random" or architecture.num_experts == 16


def test_lora_variants_are_root_scaled_decomposed_or_wider_in_the_networks():
    walked = [member for member, _ in SearchSpace(LLAMA_LIKE, ["LoRA"]).walk("LoRA", random.Random(0))]
    assert {member.rank for member in walked if member.use_rslora} == {2, 8, 32}
    assert any(member.use_dora for member in walked)
    patterned = [member for member in walked if member.rank_pattern and member.layers is None]
    assert patterned
    for member in patterned:
        assert member.rank_pattern == dict.fromkeys(("down_proj", "gate_proj", "up_proj"), 2 * member.rank)
        assert member.alpha_pattern == dict.fromkeys(("down_proj", "gate_proj", "up_proj"), 2 * member.alpha)


def test_methods_of_few_numbers_are_trained_faster():
    rates = {
        name: next(SearchSpace(LLAMA_LIKE, [name]).walk(name, random.Random(0)))[1].learning_rate
        for name in ("LoRA", "IA3", "PromptTuning", "MiSS")
    }
    assert rates == {"LoRA": 5e-4, "IA3": 5e-3, "PromptTuning": 5e-3, "MiSS": 5e-4}


def test_only_what_is_allowed_is_proposed():
    space = SearchSpace(LLAMA_LIKE, ["Adapter", "MoE"], allow=lambda architecture: architecture.strategy == "Adapter")
    assert space.default("MoE") is None
    assert list(space.walk("MoE", random.Random(0))) == []
    assert space.size() == space.size("Adapter") == SearchSpace(LLAMA_LIKE, ["Adapter"]).size()
    with pytest.raises(InvalidValueError, match="no MoE fits"):
        space.draw("MoE", random.Random(0))


def test_default_that_is_not_allowed_does_not_lead():
    space = SearchSpace(WIDE, ["LoRA"], allow=lambda architecture: architecture.rank == 16)
    walked = [architecture for architecture, _ in space.walk("LoRA", random.Random(0))]
    assert {architecture.rank for architecture in walked} == {16}
    assert len(walked) == space.size()


@pytest.mark.parametrize("strategy", strategy_names())
def test_walk_meets_every_architecture_once(strategy):
    space = SearchSpace(LLAMA_LIKE, [strategy])
    hashes = [semantic_hash(architecture) for architecture, _ in space.walk(strategy, random.Random(1))]
    assert len(hashes) == len(set(hashes)) == space.size(strategy) == space.size()


@pytest.mark.parametrize("strategy", strategy_names())
def test_no_two_members_are_spellings_of_one(strategy):
    anatomy = LLAMA_LIKE
    walk = SearchSpace(anatomy, [strategy]).walk(strategy, random.Random(1))
    members = [architecture for architecture, _ in walk]
    assert all(canonical(architecture, anatomy) == architecture for architecture in members)


@pytest.mark.parametrize("strategy", ["LoRA", "MoE", "SparseRouting"])
def test_walk_serves_something_different_while_it_can(strategy):
    space = SearchSpace(LLAMA_LIKE, [strategy])
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
