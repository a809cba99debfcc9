"""Rules: from a config and a source of choices, two configs of one architecture."""

from __future__ import annotations

import json
import math

from hypothesis import strategies as st
from tests.spec.architectures import ENDINGS, KEYS, LAYERED, SCALED, SPLITS, TARGETED, said, unpatterned, without

from legion.neuro_architecture.spec.architecture import parse_architecture, strategy_names

SAME = {}


def same(*strategies):
    """Registers a rule for configs of these strategies."""
    return lambda rule: SAME.setdefault(rule.__name__, (rule, strategies))


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
def a_pattern_of_the_defaults_value_before_one_that_never_fits_the_same_layer(config, pick):
    """`q_proj` is an ending from a dot on, and `fused_q_proj` has none there."""
    name = pick(st.sampled_from(ENDINGS))
    plain = unpatterned(config) | {
        "rank_pattern": {f"z{name}": said(config, "rank") + 1},
        "target_modules": "all-linear",
    }
    return plain, plain | {"rank_pattern": plain["rank_pattern"] | {name: said(config, "rank")}}


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
