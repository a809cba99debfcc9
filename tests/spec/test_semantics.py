"""Which spellings are one architecture and which are two, a named rule each, on random architectures."""

from __future__ import annotations

import json
import math

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.spec.architectures import ENDINGS, KEYS, configs

from legion.foundation.errors import InvalidValueError
from legion.neuro_architecture.space.patterns import value_at
from legion.neuro_architecture.spec.architecture import PEFT_SIZES, parse_architecture, strategy_names
from legion.neuro_architecture.spec.semantics import semantic_digest, semantic_form, semantic_hash

METHODS = tuple(PEFT_SIZES)
SIZED = tuple(name for name, size in PEFT_SIZES.items() if size)
SPLITS = ("SplitLayer", "SparseRouting")
TOKENS = ("PrefixTuning", "PromptTuning")
BOTTLENECKS = ("Adapter", "MoE", "Combined")
TARGETED = ("LoRA", "Combined", *METHODS)
LAYERED = ("LoRA", "Adapter", "MoE", *SPLITS, *METHODS)
SCALED = ("LoRA", "Combined", *SPLITS)

SAME, DIFFERENT = {}, {}


def same(*strategies):
    """Registers a rule: from a config and a source of choices, two configs of one architecture."""
    return lambda rule: SAME.setdefault(rule.__name__, (rule, strategies))


def different(*strategies):
    """Registers a rule: from a config and a source of choices, two configs of two architectures."""
    return lambda rule: DIFFERENT.setdefault(rule.__name__, (rule, strategies))


def cases(rules):
    return [
        pytest.param(rule, strategy, id=f"{name}-{strategy}")
        for name, (rule, strategies) in rules.items()
        for strategy in strategies
    ]


def without(config, *names):
    return {key: value for key, value in config.items() if key not in names}


def unpatterned(config):
    return without(config, "rank_pattern", "alpha_pattern")


def default(config, name):
    return getattr(parse_architecture({"strategy": config["strategy"]}), name)


def said(config, name):
    return config.get(name, default(config, name))


def stored(config):
    return parse_architecture(config).to_dict()


def shuffled(items, pick):
    return pick(st.permutations(list(items)))


def ranges(layers):
    """`0-2,5` of 0, 1, 2 and 5."""
    runs = []
    for index in sorted(layers):
        if runs and runs[-1][1] == index - 1:
            runs[-1][1] = index
        else:
            runs.append([index, index])
    return [str(first) if first == last else f"{first}-{last}" for first, last in runs]


# --- one architecture ------------------------------------------------------------------------------------------------


@same(*strategy_names())
def order_of_the_keys(config, pick):
    return config, dict(shuffled(config.items(), pick))


@same(*strategy_names())
def defaults_spelled_out(config, _):
    return config, {key: value for key, value in stored(config).items() if value is not None}


@same(*LAYERED)
def nothing_said_by_null(config, _):
    return config, stored(config)


@same(*strategy_names())
def defaults_left_out(config, _):
    defaults = stored({"strategy": config["strategy"]})
    return config, {
        key: value
        for key, value in stored(config).items()
        if key in {"strategy", "top_k", "num_experts"} or value != defaults[key]
    }


@same(*strategy_names())
def stored_and_read_again(config, _):
    return config, json.loads(json.dumps(stored(config)))


@same(*strategy_names())
def whole_numbers_with_a_fraction_of_zero(config, _):
    def widened(value):
        return float(value) if isinstance(value, int) and not isinstance(value, bool) else value

    return config, {key: widened(value) for key, value in stored(config).items()}


@same(*LAYERED)
def blocks_in_any_order_with_repeats(config, pick):
    layers = pick(st.lists(st.integers(0, 11), min_size=1, unique=True))
    return config | {"layers": layers}, config | {"layers": shuffled(layers + layers[:2], pick)}


@same(*LAYERED)
def blocks_as_a_text_of_ranges(config, pick):
    layers = pick(st.lists(st.integers(0, 11), min_size=1, unique=True))
    return config | {"layers": layers}, config | {"layers": ",".join(shuffled(ranges(layers), pick))}


@same(*LAYERED)
def blocks_as_a_list_of_ranges_and_numbers(config, pick):
    layers = pick(st.lists(st.integers(0, 11), min_size=1, unique=True))
    return config | {"layers": layers}, config | {"layers": [*ranges(layers), layers[0]]}


@same(*LAYERED)
def all_blocks_by_name(config, _):
    return without(config, "layers"), config | {"layers": "all"}


@same(*TARGETED)
def targets_in_any_order_with_repeats(config, pick):
    names = pick(st.lists(st.sampled_from(KEYS), min_size=1, unique=True))
    return config | {"target_modules": names}, config | {"target_modules": shuffled(names + names[:1], pick)}


@same(*TARGETED)
def one_target_without_a_list(config, pick):
    name = pick(st.sampled_from([*ENDINGS, "all-linear", "output.dense"]))
    return config | {"target_modules": [name]}, config | {"target_modules": name}


@same(*TARGETED)
def names_beside_all_linear(config, pick):
    names = pick(st.lists(st.sampled_from(ENDINGS)))
    return config | {"target_modules": "all-linear"}, config | {"target_modules": [*names, "all-linear"]}


@same(*TARGETED)
def a_long_name_beside_its_short_one(config, pick):
    names = ["dense", *pick(st.lists(st.sampled_from(ENDINGS)))]
    longer = pick(st.sampled_from(["output.dense", "attention.output.dense", "a.b.c.dense"]))
    return config | {"target_modules": names}, config | {"target_modules": [longer, *names]}


@same("LoRA")
def root_scaling_of_the_same_scale(config, pick):
    rank, alpha = pick(st.integers(1, 64)), pick(st.integers(1, 64))
    plain = unpatterned(config) | {"rank": rank, "alpha": alpha, "use_rslora": False}
    return plain, plain | {"alpha": alpha / rank * math.sqrt(rank), "use_rslora": True}


@same("LoRA")
def root_scaling_of_single_layers(config, pick):
    ranks = pick(st.dictionaries(st.sampled_from(ENDINGS), st.integers(1, 64), min_size=1))
    plain = config | {"rank_pattern": ranks, "alpha_pattern": {}, "use_rslora": False, "alpha": 12}
    alphas = {key: 12 / rank * math.sqrt(rank) for key, rank in ranks.items()}
    roots = {"alpha": 12 / said(config, "rank") * math.sqrt(said(config, "rank")), "use_rslora": True}
    return plain, plain | {"alpha_pattern": alphas} | roots


@same("LoRA")
def patterns_of_the_defaults_value(config, pick):
    keys = pick(st.lists(st.sampled_from(KEYS), unique=True))
    plain = unpatterned(config)
    patterns = {f"{name}_pattern": dict.fromkeys(keys, said(config, name)) for name in ("rank", "alpha")}
    return plain, plain | patterns


@same("LoRA")
def a_pattern_of_the_defaults_value_behind_others(config, pick):
    ranks = pick(st.dictionaries(st.sampled_from(KEYS), st.integers(1, 64)))
    return config | {"rank_pattern": ranks}, config | {"rank_pattern": ranks | {"zzz": said(config, "rank")}}


@same("LoRA")
def order_of_the_patterns(config, pick):
    ranks = pick(st.dictionaries(st.sampled_from(KEYS), st.integers(1, 64)))
    return config | {"rank_pattern": ranks}, config | {"rank_pattern": dict(shuffled(ranks.items(), pick))}


@same("LoRA")
def one_pattern_for_every_layer(config, pick):
    rank, alpha = pick(st.integers(1, 64)), pick(st.integers(1, 64))
    hidden = pick(st.dictionaries(st.sampled_from(ENDINGS), st.integers(1, 64)))
    plain = unpatterned(config) | {"rank": rank, "alpha": alpha}
    everywhere = {"rank_pattern": hidden | {".*": rank}, "alpha_pattern": hidden | {".*": alpha}}
    return plain, unpatterned(config) | everywhere


@same("LoRA")
def a_pattern_for_every_target(config, pick):
    targets = pick(st.lists(st.sampled_from(["q_proj", "v_proj", "output.dense"]), min_size=1, unique=True))
    plain = unpatterned(config) | {"target_modules": targets}
    ranks = {name.rpartition(".")[2]: said(config, "rank") for name in targets}
    return plain, plain | {"rank": 77, "rank_pattern": ranks}


@same("LoRA")
def default_and_pattern_in_each_others_place(config, pick):
    one, other = pick(st.integers(1, 64)), pick(st.integers(1, 64))
    both = unpatterned(config) | {"target_modules": ["q_proj", "v_proj"]}
    return both | {"rank": one, "rank_pattern": {"q_proj": other}}, both | {
        "rank": other,
        "rank_pattern": {"v_proj": one},
    }


@same("LoRA")
def a_pattern_that_no_target_ends_with(config, pick):
    ranks = pick(st.dictionaries(st.sampled_from(ENDINGS), st.integers(1, 64)))
    plain = config | {"target_modules": ["q_proj", "dense"], "rank_pattern": ranks, "alpha_pattern": {}}
    return plain, plain | {"rank_pattern": ranks | {"up_proj": 3}}


@same("MoE", "SparseRouting")
def weight_of_a_loss_that_is_switched_off(config, pick):
    off = without(config, "load_balancing_coefficient") | {"load_balancing": False}
    return off, off | {"load_balancing_coefficient": pick(st.floats(0, 1))}


@same("MoE", "SparseRouting")
def a_loss_of_weight_zero(config, _):
    return config | {"load_balancing": False}, config | {"load_balancing": True, "load_balancing_coefficient": 0.0}


@same("MoE")
def balancing_of_drawn_experts(config, pick):
    drawn = without(config, "load_balancing", "load_balancing_coefficient") | {"routing": "random", "top_k": 1}
    other = {"load_balancing": pick(st.booleans()), "load_balancing_coefficient": pick(st.floats(0, 1))}
    return drawn, drawn | other


@same("SplitLayer")
def balancing_of_experts_that_are_all_kept(config, pick):
    other = {"load_balancing": pick(st.booleans()), "load_balancing_coefficient": pick(st.floats(0, 1))}
    return config, config | other


@same(*SPLITS)
def experts_of_a_token_left_unsaid(config, _):
    return without(config, "top_k"), config | {"top_k": parse_architecture(config).experts_per_token}


@same(*SCALED)
def noise_beyond_the_twelfth_digit_of_a_scale(config, pick):
    rank, scale = pick(st.integers(1, 64)), pick(st.integers(1, 64))
    plain = unpatterned(config) | {"rank": rank, "alpha": rank * scale, "use_rslora": False}
    plain = plain if config["strategy"] == "LoRA" else without(plain, "use_rslora")
    return plain, plain | {"alpha": rank * scale * (1 + pick(st.integers(-9, 9)) * 2.0**-52)}


# --- two architectures -----------------------------------------------------------------------------------------------


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


# ---------------------------------------------------------------------------------------------------------------------


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
