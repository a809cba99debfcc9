import pytest
from hypothesis import given
from hypothesis import strategies as st

from legion.foundation.errors import InvalidValueError, UnknownNameError
from legion.neuro_architecture.spec.architecture import parse_architecture, semantic_hash

_CONFIGS = st.one_of(
    st.fixed_dictionaries(
        {"strategy": st.just("LoRA")},
        optional={"rank": st.integers(1, 64), "alpha": st.floats(0.5, 64), "layers": st.just([0, 2])},
    ),
    st.fixed_dictionaries(
        {"strategy": st.just("Adapter")},
        optional={"bottleneck_size": st.integers(1, 128), "placement": st.sampled_from(["par", "seq"])},
    ),
    st.fixed_dictionaries({"strategy": st.just("MoE")}, optional={"num_experts": st.integers(2, 8)}),
)


@given(_CONFIGS, st.randoms())
def test_the_hash_ignores_key_order_and_spelled_out_defaults(config, random):
    items = list(config.items())
    random.shuffle(items)
    plain = parse_architecture(config)
    spelled_out = {key: value for key, value in plain.to_dict().items() if value is not None}
    hashes = {semantic_hash(parse_architecture(form)) for form in (config, dict(items), spelled_out, plain.to_dict())}
    assert len(hashes) == 1
    assert len(hashes.pop()) == 16


@given(_CONFIGS, _CONFIGS)
def test_different_architectures_have_different_hashes(one, other):
    first, second = parse_architecture(one), parse_architecture(other)
    assert (semantic_hash(first) == semantic_hash(second)) == (first == second)


def test_layers_and_targets_are_sets():
    one = parse_architecture({"strategy": "LoRA", "layers": [2, 0, 2], "target_modules": ["value", "query"]})
    other = parse_architecture({"strategy": "LoRA", "layers": [0, 2], "target_modules": ["query", "value", "query"]})
    assert semantic_hash(one) == semantic_hash(other)


def test_hashes_are_frozen_across_releases():
    assert semantic_hash(parse_architecture({"strategy": "LoRA", "rank": 8})) == "4c71c4d8b7a94cc1"
    assert semantic_hash(parse_architecture({"strategy": "MoE", "num_experts": 8, "top_k": 2})) == "4cbbe205e7c32c33"


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
    ],
)
def test_impossible_architectures_are_refused(config):
    with pytest.raises(InvalidValueError):
        parse_architecture(config)
