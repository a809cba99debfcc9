"""Rules: from a config and a source of choices, two configs of two architectures."""

from __future__ import annotations

from hypothesis import strategies as st
from tests.spec.architectures import (
    BOTTLENECKS,
    ENDINGS,
    KEYS,
    LAYERED,
    METHODS,
    SCALED,
    SIZED,
    SPLITS,
    TARGETED,
    TOKENS,
    said,
    unpatterned,
    without,
)

from legion.neuro_architecture.spec.architecture import PEFT_SIZES, parse_architecture

DIFFERENT = {}


def different(*strategies):
    """Registers a rule for configs of these strategies."""
    return lambda rule: DIFFERENT.setdefault(rule.__name__, (rule, strategies))


@different(*SCALED)
def rank(config, _):
    plain = unpatterned(config)
    return plain, plain | {"rank": said(config, "rank") + 1}


@different(*SCALED)
def rank_at_the_same_scale(config, _):
    plain = without(unpatterned(config), "use_rslora")
    return plain, plain | {"rank": 2 * said(config, "rank"), "alpha": 2 * said(config, "alpha")}


@different(*SCALED)
def scale(config, _):
    plain = unpatterned(config)
    return plain, plain | {"alpha": 2 * said(config, "alpha")}


@different(*SCALED)
def scale_in_the_tenth_digit(config, _):
    plain = unpatterned(config)
    return plain, plain | {"alpha": said(config, "alpha") * (1 + 3e-10)}


@different("LoRA")
def root_scaling(config, pick):
    plain = unpatterned(config) | {"rank": pick(st.integers(2, 64))}
    return plain | {"use_rslora": False}, plain | {"use_rslora": True}


@different("LoRA")
def magnitudes_apart(config, _):
    return config | {"use_dora": False}, config | {"use_dora": True}


@different("LoRA", "Adapter", "Combined")
def dropout(config, pick):
    one, other = pick(st.lists(st.sampled_from([0, 0.05, 0.1, 0.25]), min_size=2, max_size=2, unique=True))
    return config | {"dropout": one}, config | {"dropout": other}


@different(*TARGETED)
def one_target_more(config, pick):
    names = pick(st.lists(st.sampled_from(ENDINGS), min_size=1, unique=True))
    return config | {"target_modules": names}, config | {"target_modules": [*names, "up_proj"]}


@different(*TARGETED)
def another_target(config, pick):
    one, other = pick(st.lists(st.sampled_from(ENDINGS), min_size=2, max_size=2, unique=True))
    return config | {"target_modules": [one]}, config | {"target_modules": [other]}


@different(*TARGETED)
def a_long_name_in_place_of_its_short_one(config, _):
    return config | {"target_modules": ["dense"]}, config | {"target_modules": ["output.dense"]}


@different(*TARGETED)
def every_target(config, pick):
    names = pick(st.lists(st.sampled_from(ENDINGS), min_size=1, unique=True))
    return config | {"target_modules": names}, config | {"target_modules": ["all-linear"]}


@different(*LAYERED)
def one_block_more(config, pick):
    layers = pick(st.lists(st.integers(0, 11), min_size=1))
    return config | {"layers": layers}, config | {"layers": [*layers, 12]}


@different(*LAYERED)
def every_block(config, pick):
    layers = pick(st.lists(st.integers(0, 11), min_size=1))
    return config | {"layers": layers}, without(config, "layers")


@different(*LAYERED)
def blocks_one_higher(config, pick):
    layers = pick(st.lists(st.integers(0, 11), min_size=1))
    return config | {"layers": layers}, config | {"layers": [index + 1 for index in layers]}


@different("LoRA")
def rank_of_some_layers(config, pick):
    plain = unpatterned(config) | {"target_modules": "all-linear"}
    return plain, plain | {"rank_pattern": {pick(st.sampled_from(KEYS)): said(config, "rank") + 1}}


@different("LoRA")
def scale_of_some_layers(config, pick):
    plain = unpatterned(config) | {"target_modules": "all-linear"}
    return plain, plain | {"alpha_pattern": {pick(st.sampled_from(KEYS)): said(config, "alpha") * 3}}


@different("LoRA")
def value_of_a_pattern(config, pick):
    plain, key = unpatterned(config) | {"target_modules": "all-linear"}, pick(st.sampled_from(KEYS))
    one, other = pick(st.lists(st.integers(1, 64), min_size=2, max_size=2, unique=True))
    return plain | {"rank_pattern": {key: one}}, plain | {"rank_pattern": {key: other}}


@different("LoRA")
def key_of_a_pattern(config, pick):
    plain = unpatterned(config) | {"target_modules": "all-linear"}
    one, other = pick(st.lists(st.sampled_from(KEYS), min_size=2, max_size=2, unique=True))
    rank = said(config, "rank") + 1
    return plain | {"rank_pattern": {one: rank}}, plain | {"rank_pattern": {other: rank}}


@different("LoRA")
def which_of_two_patterns_comes_first(config, pick):
    plain = unpatterned(config) | {"target_modules": "all-linear"}
    one, other = pick(st.lists(st.integers(1, 64), min_size=2, max_size=2, unique=True))
    keys = ("self_attn.q_proj", "1.self_attn.q_proj")
    return plain | {"rank_pattern": dict(zip(keys, (one, other), strict=True))}, plain | {
        "rank_pattern": dict(zip(keys, (other, one), strict=True))
    }


@different("LoRA")
def a_layer_spared_from_a_later_pattern(config, _):
    """Its value is the default's, and it holds: alphabetically it comes before the pattern that fits it too."""
    plain = unpatterned(config) | {"target_modules": "all-linear"}
    later = {"q_proj": said(config, "rank") + 1}
    return plain | {"rank_pattern": later}, plain | {
        "rank_pattern": later | {"1.self_attn.q_proj": said(config, "rank")}
    }


@different("LoRA")
def a_layer_spared_from_a_later_pattern_by_a_dot_that_is_any_letter(config, _):
    plain = unpatterned(config) | {"target_modules": "all-linear"}
    later = {"fused_q": said(config, "rank") + 1}
    return plain | {"rank_pattern": later}, plain | {"rank_pattern": later | {"fused.q": said(config, "rank")}}


@different("LoRA")
def scale_that_follows_a_pattern_of_ranks(config, pick):
    rank = said(config, "rank")
    own = pick(st.integers(1, 64).filter(lambda number: number != rank))
    plain = unpatterned(config) | {"target_modules": "all-linear", "use_rslora": False, "rank_pattern": {"q_proj": own}}
    return plain, plain | {"alpha_pattern": {"q_proj": said(config, "alpha") / rank * own}}


@different(*BOTTLENECKS)
def bottleneck_size(config, _):
    return config, config | {"bottleneck_size": said(config, "bottleneck_size") + 1}


@different(*BOTTLENECKS)
def non_linearity(config, pick):
    one, other = pick(st.lists(st.sampled_from(["relu", "gelu", "silu"]), min_size=2, max_size=2, unique=True))
    return config | {"non_linearity": one}, config | {"non_linearity": other}


@different(*BOTTLENECKS)
def gating(config, _):
    return config | {"is_gated": False}, config | {"is_gated": True}


@different("Adapter", "Combined")
def placement(config, pick):
    one, other = pick(st.lists(st.sampled_from(["par", "seq", "seq_layer"]), min_size=2, max_size=2, unique=True))
    return config | {"placement": one}, config | {"placement": other}


@different("MoE", "SparseRouting")
def number_of_experts(config, pick):
    one, other = pick(st.lists(st.integers(3, 16), min_size=2, max_size=2, unique=True))
    return config | {"num_experts": one, "top_k": 1}, config | {"num_experts": other, "top_k": 1}


@different("SplitLayer")
def number_of_experts_that_are_all_kept(config, pick):
    one, other = pick(st.lists(st.integers(2, 16), min_size=2, max_size=2, unique=True))
    return config | {"num_experts": one}, config | {"num_experts": other}


@different("MoE", "SparseRouting")
def experts_of_a_token(config, pick):
    one, other = pick(st.lists(st.integers(1, 7), min_size=2, max_size=2, unique=True))
    learned = without(config, "routing") | {"num_experts": 8}
    return learned | {"top_k": one}, learned | {"top_k": other}


@different("MoE", "SparseRouting")
def balancing(config, _):
    learned = without(config, "routing") | {"load_balancing_coefficient": 0.01}
    return learned | {"load_balancing": True}, learned | {"load_balancing": False}


@different("MoE", "SparseRouting")
def weight_of_the_balancing(config, pick):
    learned = without(config, "routing") | {"load_balancing": True}
    one, other = pick(st.lists(st.sampled_from([0, 1e-5, 0.01, 0.5]), min_size=2, max_size=2, unique=True))
    return learned | {"load_balancing_coefficient": one}, learned | {"load_balancing_coefficient": other}


@different("MoE")
def balancing_where_every_token_goes_to_all_experts(config, _):
    """The loss is a constant but for rounding, which at the first step is all that moves the router."""
    full = without(config, "routing") | {"num_experts": 4, "top_k": 4, "load_balancing_coefficient": 0.01}
    return full | {"load_balancing": True}, full | {"load_balancing": False}


@different("MoE")
def routing(config, _):
    one = without(config, "routing") | {"top_k": 1}
    return one, one | {"routing": "random"}


@different("MoE")
def drawn_experts_and_the_bottleneck_that_they_serve_as(config, _):
    drawn = config | {"routing": "random", "top_k": 1}
    names = ("bottleneck_size", "non_linearity", "is_gated", "layers")
    return drawn, {"strategy": "Adapter"} | {name: said(config, name) for name in names}


@different("MoE")
def number_of_drawn_experts(config, pick):
    drawn = config | {"routing": "random", "top_k": 1}
    one, other = pick(st.lists(st.integers(2, 16), min_size=2, max_size=2, unique=True))
    return drawn | {"num_experts": one}, drawn | {"num_experts": other}


@different(*SPLITS)
def how_units_are_dealt_out(config, _):
    return config | {"split": "contiguous"}, config | {"split": "clusters"}


@different("SplitLayer")
def all_experts_kept_or_some(config, _):
    return config, without(config, "top_k") | {"strategy": "SparseRouting"}


@different(*METHODS)
def method(config, pick):
    same_size = [name for name in METHODS if PEFT_SIZES[name] == PEFT_SIZES[config["strategy"]]]
    others = [name for name in same_size if name != config["strategy"]] or ["LoHa"]
    return config, config | {"strategy": pick(st.sampled_from(others))}


@different(*SIZED)
def size_of_a_method(config, _):
    name = PEFT_SIZES[config["strategy"]]
    return config, config | {name: said(config, name) + 1}


@different(*SIZED)
def a_method_and_a_lora(config, _):
    return config, {"strategy": "LoRA"} | {name: said(config, name) for name in ("target_modules", "layers")}


@different(*TOKENS)
def number_of_virtual_tokens(config, _):
    return config, config | {"num_virtual_tokens": said(config, "num_virtual_tokens") + 1}


@different("PromptTuning")
def where_virtual_tokens_stand(config, _):
    return config, config | {"strategy": "PrefixTuning"}


@different("Combined")
def border_of_the_parts(config, _):
    return config, config | {"boundary": said(config, "boundary") + 1}


@different("Combined")
def lowest_block_of_the_parts(config, _):
    high = config | {"boundary": 12}
    return high, high | {"first_layer": said(config, "first_layer") + 1}


@different("Combined")
def both_parts_or_the_lower_one(config, _):
    below, _ = parse_architecture(config).parts(12)
    return config, below.to_dict()


@different("Combined")
def both_parts_or_the_upper_one(config, _):
    _, above = parse_architecture(config).parts(12)
    return config, above.to_dict()
