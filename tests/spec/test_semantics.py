"""Which spellings are one architecture and which are two, a named rule each, on random architectures."""

from __future__ import annotations

import math

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.spec.architectures import ENDINGS, configs
from tests.spec.different_architectures import DIFFERENT
from tests.spec.same_architectures import SAME

from legion.foundation.errors import InvalidValueError
from legion.neuro_architecture.space.patterns import value_at
from legion.neuro_architecture.spec.architecture import parse_architecture, strategy_names
from legion.neuro_architecture.spec.proposal import ArchitectureProposal, BaseReference, TrainingRecipe
from legion.neuro_architecture.spec.semantics import semantic_digest, semantic_form, semantic_hash


def cases(rules):
    return [
        pytest.param(rule, strategy, id=f"{name}-{strategy}")
        for name, (rule, strategies) in rules.items()
        for strategy in strategies
    ]


@pytest.mark.parametrize(("rule", "strategy"), cases(SAME))
@settings(max_examples=12)
@given(data=st.data())
def test_one_architecture_has_one_name_however_it_is_spelled(rule, strategy, data):
    one, other = rule(data.draw(configs(strategy)), data.draw)
    assert semantic_form(parse_architecture(one)) == semantic_form(parse_architecture(other))
    assert semantic_digest(parse_architecture(one)) == semantic_digest(parse_architecture(other))


@pytest.mark.parametrize(("rule", "strategy"), cases(DIFFERENT))
@settings(max_examples=12)
@given(data=st.data())
def test_two_architectures_have_two_names(rule, strategy, data):
    one, other = rule(data.draw(configs(strategy)), data.draw)
    assert semantic_hash(parse_architecture(one)) != semantic_hash(parse_architecture(other))


def test_rules_are_as_many_as_promised_and_reach_every_strategy():
    assert len(SAME) >= 20
    assert len(DIFFERENT) >= 30
    for rules in (SAME, DIFFERENT):
        assert {strategy for _, strategies in rules.values() for strategy in strategies} == set(strategy_names())


@settings(max_examples=400)
@given(
    configs("LoRA"),
    st.sampled_from(["model.layers.0.self_attn", "model.layers.1.mlp", "h.1", "layer.10.attention.output"]),
    st.sampled_from(ENDINGS),
)
def test_the_form_says_the_rank_and_scale_of_every_layer(config, block, ending):
    """Read as PEFT reads patterns: so equal forms are equal computations, whatever the rules are."""
    architecture = parse_architecture(config)
    path = f"{block}.{ending}"
    endings = {name.rpartition(".")[2] for name in architecture.target_modules}
    if endings != {"all-linear"} and ending not in endings:
        return
    form = semantic_form(architecture)
    rank = value_at(architecture.rank_pattern, path, architecture.rank)
    alpha = value_at(architecture.alpha_pattern, path, architecture.alpha)
    scale = alpha / (math.sqrt(rank) if architecture.use_rslora else rank)
    if "scale" in form:
        own = {key: (own_rank, own_scale) for key, own_rank, own_scale in form["exceptions"]}
        found = value_at(own, path, (form["rank"], form["scale"]))
    else:
        own_rank = value_at(dict(form["rank_pattern"]), path, form["rank"])
        own_alpha = value_at(dict(form["alpha_pattern"]), path, form["alpha"])
        found = own_rank, own_alpha / (math.sqrt(own_rank) if form["use_rslora"] else own_rank)
    assert found == (rank, pytest.approx(scale, rel=1e-11))


def test_every_root_scaling_of_a_whole_scale_is_found():
    """No rank to 256 and no scale to 16 in quarters, of those that people write, is lost to rounding."""
    for rank in range(1, 257):
        for quarters in range(1, 65):
            scale = quarters / 4
            plain = parse_architecture({"strategy": "LoRA", "rank": rank, "alpha": rank * scale})
            root = plain.model_copy(update={"alpha": math.sqrt(rank) * scale, "use_rslora": True})
            assert semantic_form(plain) == semantic_form(root)


def test_name_is_the_beginning_of_the_digest():
    architecture = parse_architecture({"strategy": "LoRA"})
    assert semantic_hash(architecture) == semantic_digest(architecture)[7:23]
    assert semantic_form(architecture)["version"] == 1


def test_rank_that_json_cannot_say_is_refused():
    for config in ({"rank": 2**53}, {"rank": 10**400}, {"rank_pattern": {"q_proj": 2**53}}):
        with pytest.raises(InvalidValueError, match="too large"):
            semantic_form(parse_architecture({"strategy": "LoRA"} | config))


def test_ids_of_proposals_stay_what_they_were_and_follow_the_spelling():
    """An id once given stays: it is made from the config as spelled, as before there were forms."""
    base = BaseReference(name="tiny", digest="sha256:" + "0" * 64, model_type="bert")
    recipe = TrainingRecipe()
    plain = parse_architecture({"strategy": "LoRA", "rank": 4, "alpha": 8})
    root = parse_architecture({"strategy": "LoRA", "rank": 4, "alpha": 4, "use_rslora": True})
    ids = [ArchitectureProposal.id_of("tiny", base, architecture, recipe) for architecture in (plain, root)]
    assert ids == ["lora-21af9c03dbd2", "lora-4f6384228858"]
    assert semantic_hash(plain) == semantic_hash(root)


@given(st.permutations(ENDINGS), st.integers(1, 63))
def test_of_equally_many_targets_the_larger_rank_is_the_default(names, rank):
    """Whatever order the targets are looked at in; there are as many of the one as of the other."""
    own = dict.fromkeys(names[:2], rank + 1)
    config = {"strategy": "LoRA", "target_modules": list(names), "rank": rank, "rank_pattern": own}
    form = semantic_form(parse_architecture(config))
    assert form["rank"] == rank + 1
    assert [key for key, *_ in form["exceptions"]] == sorted(names[2:])
