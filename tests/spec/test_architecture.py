import pytest

from legion.foundation.errors import InvalidValueError, UnknownNameError
from legion.neuro_architecture.spec.architecture import (
    DEFAULT_STRATEGIES,
    PEFT_SIZES,
    AdapterArchitecture,
    CombinedArchitecture,
    LoRAArchitecture,
    parse_architecture,
    strategy_names,
)


def test_an_unknown_strategy_is_named():
    with pytest.raises(UnknownNameError, match="'LORA'"):
        parse_architecture({"strategy": "LORA"})


def test_all_mistakes_are_listed_at_once():
    with pytest.raises(InvalidValueError) as caught:
        parse_architecture({"strategy": "LoRA", "rank": 0, "alpha": -1, "depth": 3})
    cause = caught.value.cause or ""
    assert "rank" in cause
    assert "alpha" in cause
    assert "depth" in cause


@pytest.mark.parametrize(
    "config",
    [
        {"strategy": "MoE", "num_experts": 2, "top_k": 3},
        {"strategy": "LoRA", "layers": []},
        {"strategy": "LoRA", "layers": [-1]},
        {"strategy": "LoRA", "target_modules": []},
        {"strategy": "LoRA", "alpha": float("nan")},
        {"strategy": "Adapter", "placement": "both"},
        {"strategy": "LoRA", "rank_pattern": {"q_proj": 0}},
        {"strategy": "LoRA", "alpha_pattern": {"q_proj": -1.0}},
        {"strategy": "MoE", "routing": "random"},
        {"strategy": "MoE", "num_experts": 17},
        {"strategy": "SplitLayer", "num_experts": 4, "top_k": 2},
        {"strategy": "SparseRouting", "num_experts": 4, "top_k": 4},
        {"strategy": "SplitLayer", "num_experts": "many"},
        {"strategy": "IA3", "rank": 4},
        {"strategy": "LoHa", "block_size": 4},
        {"strategy": "OFT", "block_size": 0},
        {"strategy": "PrefixTuning", "num_virtual_tokens": 0},
        {"strategy": "PromptTuning", "layers": [0]},
        {"strategy": "Combined", "boundary": 0},
        {"strategy": "Combined", "first_layer": 2, "boundary": 2},
        {"strategy": "Combined", "rank": 0},
        {"strategy": "Combined", "target_modules": []},
        {"strategy": "Combined", "placement": "both"},
        {"strategy": "Combined", "layers": [0]},
    ],
)
def test_impossible_architectures_are_refused(config):
    with pytest.raises(InvalidValueError):
        parse_architecture(config)


@pytest.mark.parametrize("strategy", strategy_names())
def test_every_strategy_is_an_architecture_by_its_name_alone(strategy):
    architecture = parse_architecture({"strategy": strategy})
    assert architecture.strategy == strategy
    assert parse_architecture(architecture.to_dict()) == architecture


def test_defaults_are_the_first_releases_strategies():
    assert DEFAULT_STRATEGIES == ("LoRA", "Adapter", "MoE")
    assert set(DEFAULT_STRATEGIES) < set(strategy_names())
    assert set(PEFT_SIZES) < set(strategy_names())


@pytest.mark.parametrize("strategy", sorted(PEFT_SIZES))
def test_each_method_takes_the_one_size_that_is_its_own(strategy):
    own = PEFT_SIZES[strategy]
    architecture = parse_architecture({"strategy": strategy})
    sizes = {name: getattr(architecture, name) for name in ("rank", "block_size", "num_frequencies")}
    assert {name for name, size in sizes.items() if size is not None} == ({own} if own else set())
    assert architecture.size == (sizes[own] if own else None)


def test_unsaid_top_k_is_all_of_a_split_layer_and_half_of_a_sparse_one():
    for strategy, top_k in (("SplitLayer", 6), ("SparseRouting", 3)):
        unsaid = parse_architecture({"strategy": strategy, "num_experts": 6})
        said = parse_architecture({"strategy": strategy, "num_experts": 6, "top_k": top_k})
        assert unsaid == said
        assert unsaid.experts_per_token == top_k


def test_fields_of_a_combination_are_those_of_its_parts():
    """Types, bounds and defaults alike, so that neither part can know a rule that the whole does not."""
    fields = CombinedArchitecture.model_fields
    for part in (LoRAArchitecture, AdapterArchitecture):
        for name in (part.model_fields.keys() & fields.keys()) - {"strategy"}:
            mine, theirs = fields[name], part.model_fields[name]
            assert (mine.annotation, mine.default) == (theirs.annotation, theirs.default), name
            assert sorted(map(str, mine.metadata)) == sorted(map(str, theirs.metadata)), name


def test_parts_of_a_combination_share_the_blocks_from_its_first():
    architecture = CombinedArchitecture(first_layer=1, boundary=3, rank=4, bottleneck_size=9, dropout=0.1)
    below, above = architecture.parts(5)
    assert below == LoRAArchitecture(rank=4, dropout=0.1, layers=(1, 2))
    assert above == AdapterArchitecture(bottleneck_size=9, dropout=0.1, layers=(3, 4))
    with pytest.raises(InvalidValueError, match="boundary 3 leaves no block") as caught:
        architecture.parts(3)
    assert caught.value.cause == "the model has blocks 0 to 2"
