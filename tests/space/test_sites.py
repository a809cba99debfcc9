from __future__ import annotations

import pytest

from legion.neuro_architecture.space import canonical
from legion.neuro_architecture.space.sites import layer_sets, served_form, target_sets, targets_of
from legion.neuro_architecture.spec.architecture import (
    AdapterArchitecture,
    LoRAArchitecture,
    MoEArchitecture,
    PeftArchitecture,
    SplitArchitecture,
    VirtualTokensArchitecture,
    parse_architecture,
    strategy_names,
)
from legion.neuro_architecture.spec.semantics import semantic_hash
from legion.testing import paper_anatomy


def test_layer_sets_are_all_upper_half_upper_third_and_every_second():
    assert layer_sets(6) == (None, (3, 4, 5), (4, 5), (1, 3, 5))
    assert layer_sets(7) == (None, (3, 4, 5, 6), (5, 6), (0, 2, 4, 6))


@pytest.mark.parametrize("num_layers", range(1, 40))
def test_layer_sets_reach_the_top_and_repeat_nothing(num_layers):
    sets = layer_sets(num_layers)
    assert len(set(sets)) == len(sets)
    assert sets[0] is None
    assert all(layers[-1] == num_layers - 1 and layers[0] >= 0 and len(layers) < num_layers for layers in sets[1:])


def test_target_sets_are_the_models_own_names(anatomy_of):
    assert target_sets(anatomy_of("bert", "classification")) == {
        "all": ("all-linear",),
        "attention": ("attention.output.dense", "key", "query", "value"),
        "query_value": ("query", "value"),
        "feed_forward": ("intermediate.dense", "output.dense"),
    }
    assert target_sets(anatomy_of("llama", "summarization")) == {
        "all": ("all-linear",),
        "attention": ("k_proj", "o_proj", "q_proj", "v_proj"),
        "query_value": ("q_proj", "v_proj"),
        "feed_forward": ("down_proj", "gate_proj", "up_proj"),
    }


def test_fused_projection_stands_for_query_and_value(anatomy_of):
    assert target_sets(anatomy_of("gpt2", "summarization")) == {
        "all": ("all-linear",),
        "attention": ("attn.c_proj", "c_attn"),
        "query_value": ("c_attn",),
        "feed_forward": ("c_fc", "mlp.c_proj"),
    }


def test_last_part_of_a_path_names_every_linear_that_ends_so(anatomy_of):
    layer = anatomy_of("bert", "classification").layers[0]
    assert [linear.name for linear in targets_of(["dense"], layer)] == [
        "attention.output.dense",
        "intermediate.dense",
        "output.dense",
    ]
    assert [linear.name for linear in targets_of(["output.dense"], layer)] == ["output.dense"]


@pytest.mark.parametrize(
    ("spelled", "short"),
    [
        (LoRAArchitecture(layers=(3, 1, 0, 2)), LoRAArchitecture()),
        (
            LoRAArchitecture(
                target_modules=("q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj")
            ),
            LoRAArchitecture(target_modules=("all-linear",)),
        ),
        (LoRAArchitecture(target_modules=("all-linear", "q_proj")), LoRAArchitecture()),
        (AdapterArchitecture(layers=(0, 1, 2, 3)), AdapterArchitecture()),
        (MoEArchitecture(layers=(0, 1, 2, 3)), MoEArchitecture()),
        (
            MoEArchitecture(load_balancing=False, load_balancing_coefficient=0.5),
            MoEArchitecture(load_balancing=False),
        ),
        (
            MoEArchitecture(top_k=1, routing="random", load_balancing=False, load_balancing_coefficient=0.5),
            MoEArchitecture(top_k=1, routing="random"),
        ),
        (
            SplitArchitecture(strategy="SplitLayer", load_balancing=False, load_balancing_coefficient=0.5),
            SplitArchitecture(strategy="SplitLayer"),
        ),
        (
            SplitArchitecture(strategy="SparseRouting", load_balancing=False, load_balancing_coefficient=0.5),
            SplitArchitecture(strategy="SparseRouting", load_balancing=False),
        ),
        (SplitArchitecture(strategy="SparseRouting", layers=(0, 1, 2, 3)), SplitArchitecture(strategy="SparseRouting")),
        (
            PeftArchitecture(strategy="MiSS", target_modules=("all-linear", "q_proj"), layers=(0, 1, 2, 3)),
            PeftArchitecture(strategy="MiSS"),
        ),
        # 64 is 8 times 8 and 128 is 8 times 16, so a second factor is at most 16 wide and whole from rank 8 on.
        (PeftArchitecture(strategy="LoKr", rank=40), PeftArchitecture(strategy="LoKr", rank=8)),
        (LoRAArchitecture(rank=4, alpha=8.0, use_rslora=True), LoRAArchitecture(rank=4, alpha=16.0)),
        (
            LoRAArchitecture(rank=8, alpha=6.0, use_rslora=True, rank_pattern={"_proj": 4, ".*_proj": 4}),
            LoRAArchitecture(rank=4, alpha=12.0, rank_pattern={"_proj": 4}),
        ),
        (LoRAArchitecture(rank=8, rank_pattern={".*_proj": 2}), LoRAArchitecture(rank=2)),
        (LoRAArchitecture(rank=8, rank_pattern={"q_proj": 8}), LoRAArchitecture(rank=8)),
        (
            LoRAArchitecture(rank=8, rank_pattern={f"{index}.self_attn.q_proj": 2 for index in range(4)}),
            LoRAArchitecture(rank=8, rank_pattern={"q_proj": 2}),
        ),
        (
            LoRAArchitecture(alpha_pattern={"q_proj": 2.0, "3.*q_proj": 16.0}),
            LoRAArchitecture(
                alpha_pattern={f"model.layers.{index}.self_attn.q_proj": 2.0 for index in range(3)},
            ),
        ),
    ],
)
def test_equivalent_spellings_have_one_canonical_form(spelled, short):
    anatomy = paper_anatomy()
    assert spelled != short
    assert semantic_hash(canonical(spelled, anatomy)) == semantic_hash(canonical(short, anatomy))


def test_short_and_full_names_of_the_same_linears_are_one_architecture(anatomy_of):
    anatomy = anatomy_of("bert", "classification")
    short = LoRAArchitecture(target_modules=("dense",))
    full = LoRAArchitecture(target_modules=("attention.output.dense", "intermediate.dense", "output.dense"))
    everything = LoRAArchitecture(target_modules=("query", "key", "value", "dense"))
    assert canonical(short, anatomy) == canonical(full, anatomy) == full
    assert canonical(everything, anatomy) == LoRAArchitecture()


def test_canonical_form_keeps_names_that_mean_nothing():
    odd = LoRAArchitecture(target_modules=("q_proj", "nowhere"))
    assert canonical(odd, paper_anatomy()).target_modules == ("nowhere", "q_proj")


def test_served_form_forgets_what_only_training_sees():
    assert served_form(LoRAArchitecture(dropout=0.1)) == LoRAArchitecture()
    assert served_form(MoEArchitecture(load_balancing=False)) == MoEArchitecture()
    assert served_form(LoRAArchitecture(rank=4)) != LoRAArchitecture()
    sparse = SplitArchitecture(strategy="SparseRouting")
    assert served_form(sparse.model_copy(update={"load_balancing": False})) == sparse
    for same in (PeftArchitecture(strategy="IA3"), VirtualTokensArchitecture(strategy="PromptTuning")):
        assert served_form(same) == same


def test_drawn_experts_serve_as_one_bottleneck():
    drawn = [
        MoEArchitecture(num_experts=count, top_k=1, routing="random", bottleneck_size=8, layers=(1,))
        for count in (2, 8)
    ]
    assert {served_form(architecture) for architecture in drawn} == {
        AdapterArchitecture(bottleneck_size=8, layers=(1,))
    }


@pytest.mark.parametrize("strategy", strategy_names())
def test_canonical_form_is_its_own(strategy, anatomy_of):
    anatomy = anatomy_of("llama", "summarization")
    architecture = parse_architecture({"strategy": strategy})
    once = canonical(architecture, anatomy)
    assert canonical(once, anatomy) == once
