import pytest
from hypothesis import given
from hypothesis import strategies as st

from legion.foundation.errors import InvalidValueError, UnknownNameError
from legion.neuro_architecture.portability import TARGETS, check_target, plan
from legion.neuro_architecture.portability.matrix import (
    FAMILIES,
    family_facts,
    portability_matrix,
    render_matrix,
    variants,
)
from legion.neuro_architecture.spec.architecture import parse_architecture, strategy_names

FACTS = {family: family_facts(family) for family in FAMILIES}


def _plan(family, target, form=None, max_lora_rank=512, **config):
    return plan(parse_architecture(config), FACTS[family], target, form=form, max_lora_rank=max_lora_rank)


def test_the_matrix_holds_every_strategy_and_target():
    for facts in FACTS.values():
        rows = portability_matrix(facts)
        assert {row.architecture.strategy for row in rows} == set(strategy_names())
        assert all(set(row.plans) == set(TARGETS) for row in rows)


@given(st.sampled_from(FAMILIES), st.data())
def test_a_plan_is_possible_with_a_form_or_impossible_with_a_reason(family, data):
    label = data.draw(st.sampled_from(sorted(variants(FACTS[family]))))
    planned = plan(variants(FACTS[family])[label], FACTS[family], data.draw(st.sampled_from(TARGETS)))
    assert planned.is_possible == (planned.form is not None)
    assert planned.reason
    assert planned.bound is None or planned.verdict == "bounded"


def test_every_strategy_is_served_somewhere_as_a_stock_artefact():
    served = {
        row.architecture.strategy
        for facts in FACTS.values()
        for row in portability_matrix(facts)
        for planned in row.plans.values()
        if planned.is_possible
    }
    assert served == set(strategy_names())


def test_a_rank_above_the_servers_maximum_is_merged_or_refused():
    merged = _plan("llama", "vllm", strategy="LoRA", rank=32, max_lora_rank=16)
    assert (merged.verdict, merged.form) == ("exact", "merged")
    refused = _plan("llama", "vllm", form="canonical-lora", strategy="LoRA", rank=32, max_lora_rank=16)
    assert refused.verdict == "impossible"
    assert "rank 32 is above the server's maximum of 16" in refused.reason
    assert "rerank" in refused.remedy


def test_a_pattern_raises_the_rank_that_counts():
    planned = _plan(
        "llama", "vllm", form="canonical-lora", max_lora_rank=16, strategy="LoRA", rank=4, rank_pattern={"q_proj": 64}
    )
    assert planned.verdict == "impossible"


def test_what_is_no_low_rank_change_is_bounded_as_a_lora_and_exact_merged():
    for config in ({"strategy": "LoRA", "rank": 4, "use_dora": True}, {"strategy": "OFT"}):
        assert _plan("llama", "vllm", form="canonical-lora", **config).verdict == "bounded"
        assert _plan("llama", "vllm", **config).form == "merged"


def test_a_form_that_the_kind_cannot_take_is_an_error():
    with pytest.raises(InvalidValueError, match="cannot take the form merged"):
        _plan("llama", "vllm", form="merged", strategy="Adapter", is_gated=True, non_linearity="silu")


def test_gpt2_in_llama_cpp_is_bounded_by_its_gelu_table():
    planned = _plan("gpt2", "llama.cpp", strategy="LoRA", rank=4)
    assert planned.verdict == "bounded"
    assert planned.bound > 0


COMBINED = {"strategy": "Combined", "rank": 4, "bottleneck_size": 8, "non_linearity": "silu"}


def test_a_combination_takes_its_bottlenecks_form_with_the_lora_merged():
    for placement, form in (("par", "wider-ffn"), ("seq_layer", "extra-layers")):
        planned = _plan("llama", "vllm", **COMBINED, placement=placement)
        assert (planned.verdict, planned.form) == ("exact", form)
        assert planned.reason.startswith("below, its LoRA is merged; above, ")
    with pytest.raises(InvalidValueError, match="cannot take the form canonical-lora"):
        _plan("llama", "vllm", form="canonical-lora", **COMBINED)


@pytest.mark.parametrize(
    ("family", "target", "config", "reason"),
    [
        ("bert", "vllm", {"strategy": "LoRA", "rank": 4}, "this model classifies"),
        ("llama", "peft", {"strategy": "MoE", "is_gated": True, "non_linearity": "silu"}, "stock PEFT has no MoE"),
        ("llama", "vllm", {"strategy": "MoE", "non_linearity": "silu"}, "gated with silu"),
        ("gpt2", "vllm", {"strategy": "MoE", "num_experts": 4}, "no stock mixture"),
        ("llama", "vllm", {"strategy": "Adapter", "non_linearity": "relu"}, "is not the base's silu"),
        ("llama", "vllm", {"strategy": "Adapter", "non_linearity": "silu", "placement": "seq"}, "no stock block"),
        ("llama", "vllm", {"strategy": "SparseRouting", "layers": [0]}, "in every block or in none"),
        ("llama", "vllm", {"strategy": "PromptTuning"}, "changes no weight"),
        ("llama", "peft", COMBINED | {"is_gated": True}, "stock PEFT has no Combined"),
        ("llama", "vllm", COMBINED | {"placement": "seq"}, "above its boundary, it reads the feed-forward network's"),
        ("llama", "vllm", COMBINED | {"non_linearity": "relu"}, "above its boundary, its relu is not the base's silu"),
        ("llama", "vllm", COMBINED | {"boundary": 2}, "boundary 2 leaves no block for the bottleneck"),
        ("bert", "vllm", COMBINED | {"non_linearity": "gelu"}, "this model classifies"),
        ("llama", "vllm", {"strategy": "LoRA", "rank": 4, "target_modules": ["nonsense"]}, "does not fit the base"),
    ],
)
def test_what_stands_in_the_way_is_said(family, target, config, reason):
    planned = _plan(family, target, **config)
    assert planned.verdict == "impossible"
    assert reason in planned.reason


def test_narrow_heads_are_not_for_vllm():
    facts = family_facts("llama")
    narrow = type(facts)(name="narrow", kind=facts.kind, anatomy=facts.anatomy, config=facts.config | {"head_dim": 8})
    assert "attention heads" in plan(parse_architecture({"strategy": "LoRA", "rank": 4}), narrow, "vllm").reason


def test_targets_are_known_by_name():
    assert check_target("hf") == "transformers"
    with pytest.raises(UnknownNameError, match="'vlm'"):
        check_target("vlm")


def test_the_rendered_matrix_names_every_variant_and_reason():
    rows = portability_matrix(FACTS["llama"])
    text = render_matrix(FACTS["llama"], rows)
    assert all(f"| {row.label} |" in text for row in rows)
    assert all(planned.reason in text for row in rows for planned in row.plans.values() if not planned.is_possible)
