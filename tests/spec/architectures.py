"""Configs of every strategy as people may write them, for tests of what is said by them."""

from __future__ import annotations

from hypothesis import strategies as st

from legion.neuro_architecture.spec.architecture import PEFT_SIZES, parse_architecture

NAMES = ("q_proj", "k_proj", "v_proj", "dense", "output.dense", "attention.output.dense")
ENDINGS = ("q_proj", "k_proj", "v_proj", "dense")
KEYS = (*ENDINGS, "0.self_attn.q_proj", "self_attn.q_proj", "1.mlp.dense", "1.*dense", ".*", "(q|k)_proj", "zz")

METHODS = tuple(PEFT_SIZES)
SIZED = tuple(name for name, size in PEFT_SIZES.items() if size)
SPLITS = ("SplitLayer", "SparseRouting")
TOKENS = ("PrefixTuning", "PromptTuning")
BOTTLENECKS = ("Adapter", "MoE", "Combined")
TARGETED = ("LoRA", "Combined", *METHODS)
LAYERED = ("LoRA", "Adapter", "MoE", *SPLITS, *METHODS)
SCALED = ("LoRA", "Combined", *SPLITS)


_COUNTS = st.integers(1, 64)
_ALPHAS = st.integers(1, 128) | st.integers(1, 128).map(lambda number: number / 2)
_DROPOUTS = st.sampled_from([0, 0.05, 0.1, 0.5])
_BLOCKS = st.lists(st.integers(0, 11), min_size=1, max_size=6, unique=True)
_TARGETS = st.just(["all-linear"]) | st.lists(st.sampled_from(NAMES), min_size=1, max_size=4, unique=True)
_PATTERN_KEYS = st.sampled_from(ENDINGS) | st.sampled_from(KEYS)
_BOTTLENECK = {
    "bottleneck_size": _COUNTS,
    "non_linearity": st.sampled_from(["relu", "gelu", "silu"]),
    "is_gated": st.booleans(),
}
_PLACED = _BOTTLENECK | {"placement": st.sampled_from(["par", "seq", "seq_layer"]), "dropout": _DROPOUTS}
_LORA = {"rank": _COUNTS, "alpha": _ALPHAS, "dropout": _DROPOUTS, "target_modules": _TARGETS}
_BALANCE = {"load_balancing": st.booleans(), "load_balancing_coefficient": st.sampled_from([0, 0.001, 0.01, 0.5, 1])}


def configs(strategy):
    """Valid configs of one strategy, any field left out."""
    name = {"strategy": st.just(strategy)}
    match strategy:
        case "LoRA":
            optional = _LORA | {
                "layers": _BLOCKS,
                "use_rslora": st.booleans(),
                "use_dora": st.booleans(),
                "rank_pattern": st.dictionaries(_PATTERN_KEYS, _COUNTS, max_size=3),
                "alpha_pattern": st.dictionaries(_PATTERN_KEYS, _ALPHAS, max_size=3),
            }
        case "Adapter":
            optional = _PLACED | {"layers": _BLOCKS}
        case "MoE":
            return st.one_of(
                st.fixed_dictionaries(
                    name | {"num_experts": st.integers(4, 16)},
                    optional=_BOTTLENECK | _BALANCE | {"top_k": st.integers(1, 4), "layers": _BLOCKS},
                ),
                st.fixed_dictionaries(
                    name | {"routing": st.just("random"), "top_k": st.just(1)},
                    optional=_BOTTLENECK | _BALANCE | {"num_experts": st.integers(2, 16), "layers": _BLOCKS},
                ),
            )
        case "SplitLayer" | "SparseRouting":
            optional = _BALANCE | {
                "num_experts": st.integers(2, 16),
                "rank": _COUNTS,
                "alpha": _ALPHAS,
                "split": st.sampled_from(["contiguous", "clusters"]),
                "layers": _BLOCKS,
            }
        case "PrefixTuning" | "PromptTuning":
            optional = {"num_virtual_tokens": _COUNTS}
        case "Combined":
            optional = _LORA | _PLACED | {"first_layer": st.just(0), "boundary": st.integers(1, 11)}
        case _:
            size = PEFT_SIZES[strategy]
            optional = {"target_modules": _TARGETS, "layers": _BLOCKS} | ({size: _COUNTS} if size else {})
    return st.fixed_dictionaries(name, optional=optional)


def without(config, *names):
    return {key: value for key, value in config.items() if key not in names}


def unpatterned(config):
    return without(config, "rank_pattern", "alpha_pattern")


def default(config, name):
    return getattr(parse_architecture({"strategy": config["strategy"]}), name)


def said(config, name):
    return config.get(name, default(config, name))
