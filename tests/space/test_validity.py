from __future__ import annotations

import dataclasses
import random
import warnings

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from peft import get_peft_model

from legion.foundation.errors import UsageError
from legion.neuro_architecture.adapters import build_adapter
from legion.neuro_architecture.adapters.peft_methods import METHODS as ADAPTER_METHODS
from legion.neuro_architecture.space import SearchSpace, canonical, find_mistakes
from legion.neuro_architecture.spec.architecture import (
    DEFAULT_STRATEGIES,
    PEFT_SIZES,
    AdapterArchitecture,
    LoRAArchitecture,
    MoEArchitecture,
    PeftArchitecture,
    SplitArchitecture,
    VirtualTokensArchitecture,
    parse_architecture,
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


@settings(max_examples=40, deadline=None)
@given(anatomy=anatomies, strategy=st.sampled_from(strategy_names()), seed=st.integers(0, 2**63 - 1))
def test_every_draw_is_valid_for_the_model_at_hand(anatomy, strategy, seed):
    space = SearchSpace(anatomy, [strategy])
    assume(space.size() > 0)
    draw = random.Random(seed)
    for _ in range(3):
        architecture, recipe = space.draw(strategy, draw)
        assert architecture.strategy == strategy
        assert find_mistakes(architecture, anatomy) == []
        assert recipe.batch_size == (4 if anatomy.is_causal else 16)


@settings(max_examples=40, deadline=None)
@given(anatomy=anatomies, strategy=st.sampled_from(strategy_names()))
def test_default_is_valid_and_in_the_space_or_there_is_none(anatomy, strategy):
    space = SearchSpace(anatomy, [strategy])
    default = space.default(strategy)
    members = [architecture for architecture, _ in space.walk(strategy, random.Random(0))]
    if default is None:
        assert space.obstacles(strategy)
    else:
        assert find_mistakes(default, anatomy) == []
        assert members[0] == default
        assert canonical(default, anatomy) == default


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
        (LoRAArchitecture(rank_pattern={"query": 4}), "pattern 'query' fits none of the adapted layers"),
        (LoRAArchitecture(alpha_pattern={"7.mlp.up_proj": 4.0}), "pattern '7.mlp.up_proj' fits none"),
        (LoRAArchitecture(alpha_pattern={"(": 4.0}), "pattern '(' is no regular expression"),
        (
            LoRAArchitecture(rank_pattern={"2.mlp.up_proj": 64}),
            "rank 64 is not below 64, the width of model.layers.2.mlp.up_proj",
        ),
        (SplitArchitecture(strategy="SplitLayer", num_experts=3), "num_experts 3 does not divide 128"),
        (SplitArchitecture(strategy="SparseRouting", rank=64), "rank 64 is not below 64"),
        (SplitArchitecture(strategy="SplitLayer", layers=(4,)), "layer 4 is out of range"),
        (PeftArchitecture(strategy="IA3", target_modules=("query",)), "target 'query' is no linear layer"),
        (PeftArchitecture(strategy="IA3", layers=(6,)), "layer 6 is out of range"),
        (
            PeftArchitecture(strategy="DeLoRA", rank=64, target_modules=("q_proj",)),
            "rank 64 is not below 64, the width of model.layers.0.self_attn.q_proj",
        ),
        (
            PeftArchitecture(strategy="OFT", block_size=24, target_modules=("q_proj",)),
            "block_size 24 does not divide 64, the input of model.layers.0.self_attn.q_proj",
        ),
        (PeftArchitecture(strategy="OFT", block_size=1), "block_size 1 leaves nothing to rotate"),
        (PeftArchitecture(strategy="BOFT", block_size=1), "block_size 1 is odd"),
        (
            PeftArchitecture(strategy="C3A", block_size=128, target_modules=("down_proj",)),
            "block_size 128 does not divide 64, the common divisor of the widths of model.layers.0.mlp.down_proj",
        ),
        (PeftArchitecture(strategy="HRA", rank=3), "rank 3 is odd: reflections come in pairs"),
        (PeftArchitecture(strategy="GraLoRA", rank=3), "rank 3 is not divisible by 2"),
        (
            PeftArchitecture(strategy="FourierFT", num_frequencies=5000, target_modules=("q_proj",)),
            "num_frequencies 5000 exceeds the 4096 of model.layers.0.self_attn.q_proj",
        ),
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


NOT_FOR_TRANSPOSED = {"LoHa", "LoKr", "OFT", "BOFT", "HRA", "C3A", "MiSS", "DeLoRA"}


@pytest.mark.parametrize("strategy", sorted(PEFT_SIZES))
def test_methods_that_pefts_own_code_refuses_on_transposed_layers_are_mistakes_there(strategy, anatomy_of, load):
    """What the table says is held against PEFT itself, which refuses the type of a layer with a TypeError."""
    anatomy = anatomy_of("gpt2", "summarization")
    mistakes = find_mistakes(PeftArchitecture(strategy=strategy), anatomy)
    assert bool(mistakes) == (strategy in NOT_FOR_TRANSPOSED)
    model = load("gpt2", "summarization")
    config = ADAPTER_METHODS[strategy].config(target_modules=["c_attn"], task_type="CAUSAL_LM", **_size_of(strategy))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        if mistakes:
            assert mistakes == [
                f"PEFT's {strategy} does not take transposed layers such as transformer.h.0.attn.c_attn"
            ]
            with pytest.raises(TypeError):
                get_peft_model(model, config)
        else:
            get_peft_model(model, config)


def _size_of(strategy):
    fields = dict.fromkeys(ADAPTER_METHODS[strategy].size, 4)
    return (
        fields | {"r": 0} if strategy == "OFT" else fields | ({"feedforward_modules": []} if strategy == "IA3" else {})
    )


def test_rank_of_vera_may_exceed_every_width():
    assert find_mistakes(PeftArchitecture(strategy="VeRA", rank=1000), paper_anatomy(hidden_size=64)) == []


def test_bottleneck_behind_the_block_needs_a_bare_residual_stream(anatomy_of):
    behind = AdapterArchitecture(bottleneck_size=8, placement="seq_layer")
    for family in ("llama", "gpt2"):
        assert find_mistakes(behind, anatomy_of(family, "classification")) == []
    assert find_mistakes(behind, anatomy_of("bert", "classification")) == [
        "seq_layer stands behind a bare residual stream, and the blocks of bert end in a norm"
    ]


@pytest.mark.parametrize("strategy", ["SplitLayer", "SparseRouting"])
def test_only_gated_networks_without_biases_are_split(strategy, anatomy_of):
    architecture = SplitArchitecture(strategy=strategy)
    for family in ("bert", "gpt2"):
        (mistake,) = find_mistakes(architecture, anatomy_of(family, "classification"))
        assert mistake.startswith(f"{strategy} cuts gated feed-forward networks")
    anatomy = anatomy_of("llama", "summarization")
    assert find_mistakes(architecture, anatomy) == []
    first, *others = anatomy.layers
    biased = tuple(dataclasses.replace(linear, has_bias=linear.name == "up_proj") for linear in first.linears)
    odd = dataclasses.replace(anatomy, layers=(dataclasses.replace(first, linears=biased), *others))
    assert len(find_mistakes(architecture, odd)) == 1
    assert find_mistakes(architecture.model_copy(update={"layers": (1, 2)}), odd) == []


@pytest.mark.parametrize("strategy", ["PrefixTuning", "PromptTuning"])
def test_virtual_tokens_need_a_causal_model(strategy, anatomy_of):
    architecture = VirtualTokensArchitecture(strategy=strategy)
    assert find_mistakes(architecture, anatomy_of("gpt2", "summarization")) == []
    (mistake,) = find_mistakes(architecture, anatomy_of("gpt2", "classification"))
    assert mistake == f"{strategy} stands before a text that goes on, and this gpt2 is not causal"


@pytest.mark.parametrize("family", ["bert", "llama", "gpt2"])
@pytest.mark.parametrize("strategy", sorted(set(strategy_names()) - {*DEFAULT_STRATEGIES, "Combined"}))
def test_what_fits_can_be_applied_and_what_does_not_is_refused(family, strategy, anatomy_of, load):
    """The rules are those of the code that builds adapters: neither knows of a misfit that the other does not."""
    kind = "classification" if family == "bert" else "summarization"
    architecture = parse_architecture({"strategy": strategy})
    for changed in (architecture, *(architecture.model_copy(update=change) for change in _strains(architecture))):
        mistakes = find_mistakes(changed, anatomy_of(family, kind))
        if mistakes:
            with pytest.raises(UsageError):
                build_adapter(changed).apply(load(family, kind))
        else:
            build_adapter(changed).apply(load(family, kind))


def _strains(architecture):
    """Sizes that ask much of the widths 32 and 64, and of the 16 of the tiny Llama's keys."""
    match architecture:
        case PeftArchitecture(rank=int()):
            return [{"rank": 2}, {"rank": 12}]
        case PeftArchitecture(block_size=int()):
            return [{"block_size": 6}, {"block_size": 32}]
        case PeftArchitecture(num_frequencies=int()):
            return [{"num_frequencies": 700}]
        case SplitArchitecture(strategy="SplitLayer"):
            return [{"num_experts": 3, "top_k": 3}, {"rank": 20}, {"layers": (7,)}]
        case _:
            return []
