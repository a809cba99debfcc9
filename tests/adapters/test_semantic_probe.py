"""Names against numbers: what is named the same computes the same on a tiny model, what is named differently does not.

Weights are drawn by their name and shape, so that they depend on nothing but the module that they belong to. The probe
is the output in use, the output of a training step under one seed (so that dropout and drawn experts count), and the
auxiliary loss. Architectures that differ only on larger models (all blocks, or the three that a tiny model has) are
left out: the probe would not know them apart.
"""

from __future__ import annotations

import functools
import hashlib
import itertools
import math

import pytest
import torch

from legion.neuro_architecture.adapters import auxiliary_loss, build_adapter, trainable_parameters
from legion.neuro_architecture.spec.architecture import PEFT_SIZES, parse_architecture
from legion.neuro_architecture.spec.semantics import semantic_hash

LORA = {"strategy": "LoRA", "rank": 4, "alpha": 8, "target_modules": ["q_proj", "v_proj"]}
MOE = {"strategy": "MoE", "num_experts": 4, "bottleneck_size": 4}
SPARSE = {"strategy": "SparseRouting", "rank": 4}
SPLIT = {"strategy": "SplitLayer", "rank": 4}
DRAWN = MOE | {"routing": "random", "top_k": 1}
ADAPTER = {"strategy": "Adapter", "bottleneck_size": 4}
COMBINED = {"strategy": "Combined", "rank": 4, "bottleneck_size": 4}

# Each row is one architecture in several spellings; two rows are two architectures.
LLAMA = {
    "lora": [
        LORA,
        LORA | {"alpha": 4, "use_rslora": True},
        LORA | {"target_modules": ["v_proj", "q_proj", "v_proj"], "layers": "all", "rank_pattern": {"q_proj": 4}},
        LORA | {"rank": 7, "alpha": 1, "rank_pattern": {".*": 4, "q_proj": 2}, "alpha_pattern": {".*": 8}},
        LORA | {"rank": 7, "rank_pattern": {"q_proj": 4, "v_proj": 4}},
    ],
    "other rank": [LORA | {"rank": 3}, LORA | {"rank": 3, "alpha": 8 / math.sqrt(3), "use_rslora": True}],
    "same scale": [LORA | {"rank": 8, "alpha": 16}, LORA | {"rank": 8, "alpha": 2 * math.sqrt(8), "use_rslora": True}],
    "other scale": [LORA | {"alpha": 9}, LORA | {"alpha": 4.5, "use_rslora": True}],
    "root": [LORA | {"use_rslora": True}, LORA | {"alpha": 16}],
    "magnitudes": [LORA | {"use_dora": True}, LORA | {"use_dora": True, "use_rslora": True, "alpha": 4}],
    "dropped": [LORA | {"dropout": 0.1}, LORA | {"dropout": 0.1, "layers": None}],
    "dropped more": [LORA | {"dropout": 0.3}],
    "other targets": [LORA | {"target_modules": "k_proj"}, LORA | {"target_modules": ["k_proj"]}],
    "all targets": [
        LORA | {"target_modules": "all-linear"},
        LORA | {"target_modules": ["q_proj", "all-linear"]},
    ],
    "two blocks": [LORA | {"layers": "0-1"}, LORA | {"layers": [1, 0, 1]}],
    "two others": [LORA | {"layers": "1-2"}, LORA | {"layers": ["2", 1]}],
    "ranks": [
        LORA | {"rank_pattern": {"q_proj": 2}},
        LORA | {"rank": 2, "rank_pattern": {"v_proj": 4}},
        LORA | {"alpha": 4, "use_rslora": True, "rank_pattern": {"q_proj": 2}, "alpha_pattern": {"q_proj": 32**0.5}},
    ],
    "ranks, one scale": [LORA | {"rank_pattern": {"q_proj": 2}, "alpha_pattern": {"q_proj": 4}}],
    "alphas": [LORA | {"alpha_pattern": {"q_proj": 2}}, LORA | {"alpha": 2, "alpha_pattern": {"v_proj": 8}}],
    "one block apart": [LORA | {"rank_pattern": {"q_proj": 2, "1.self_attn.q_proj": 3}}],
    "one block spared": [LORA | {"rank_pattern": {"q_proj": 2, "1.self_attn.q_proj": 4}}],
    "interlocked": [
        LORA | {"rank_pattern": {"1.self_attn.q_proj": 3}, "alpha_pattern": {"q_proj": 2, "v_proj": 8}},
        LORA | {"rank_pattern": {"1.self_attn.q_proj": 3, "v_proj": 4}, "alpha_pattern": {"q_proj": 2.0}},
    ],
    "par": [ADAPTER, ADAPTER | {"placement": "par", "dropout": 0.0, "layers": "all"}],
    "par of two blocks": [ADAPTER | {"layers": "0,2"}, ADAPTER | {"layers": [2, 0]}],
    "par, wider": [ADAPTER | {"bottleneck_size": 5}],
    "par, relu": [ADAPTER | {"non_linearity": "relu"}],
    "par, gated": [ADAPTER | {"is_gated": True}],
    "par, dropped": [ADAPTER | {"dropout": 0.2}],
    "seq": [ADAPTER | {"placement": "seq"}],
    "seq_layer": [ADAPTER | {"placement": "seq_layer"}],
    "mixture": [MOE, MOE | {"top_k": 2, "load_balancing": True, "load_balancing_coefficient": 0.01}],
    "mixture of one": [MOE | {"top_k": 1}],
    "mixture, five": [MOE | {"num_experts": 5}],
    "mixture, gated": [MOE | {"is_gated": True}],
    "mixture, unbalanced": [
        MOE | {"load_balancing": False},
        MOE | {"load_balancing": False, "load_balancing_coefficient": 3},
        MOE | {"load_balancing_coefficient": 0.0},
    ],
    "mixture, balanced more": [MOE | {"load_balancing_coefficient": 0.5}],
    "mixture of all": [MOE | {"top_k": 4}],
    "mixture of all, unbalanced": [MOE | {"top_k": 4, "load_balancing": False}],
    "drawn": [DRAWN, DRAWN | {"load_balancing": False}, DRAWN | {"load_balancing_coefficient": 7.0}],
    "drawn of five": [DRAWN | {"num_experts": 5}],
    "split": [
        SPLIT,
        SPLIT | {"top_k": 4, "load_balancing": False},
        SPLIT | {"load_balancing_coefficient": 2.0},
    ],
    "split in order": [SPLIT | {"split": "contiguous"}],
    "split in two": [SPLIT | {"num_experts": 2}],
    "sparse": [SPARSE, SPARSE | {"top_k": 2, "num_experts": 4, "load_balancing": True}],
    "sparse of one": [SPARSE | {"top_k": 1}],
    "sparse, other rank": [SPARSE | {"rank": 2, "alpha": 8}],
    "sparse, other scale": [SPARSE | {"alpha": 8}],
    "sparse, unbalanced": [
        SPARSE | {"load_balancing": False},
        SPARSE | {"load_balancing_coefficient": 0},
    ],
    "combined": [COMBINED, COMBINED | {"target_modules": ["all-linear", "q_proj"], "first_layer": 0, "dropout": 0}],
    "combined, higher": [COMBINED | {"boundary": 2}],
    "combined, from the second": [COMBINED | {"boundary": 2, "first_layer": 1}],
    "combined, other scale": [COMBINED | {"alpha": 4}],
    "combined, wider": [COMBINED | {"bottleneck_size": 5}],
    "combined, dropped": [COMBINED | {"dropout": 0.2}],
    **{
        method: [
            {"strategy": method, "target_modules": ["v_proj", "q_proj"], "layers": "0-1"},
            parse_architecture(
                {"strategy": method, "target_modules": ["q_proj", "v_proj"], "layers": [1, 0]}
            ).to_dict(),
        ]
        for method in PEFT_SIZES
    },
    "another size": [{"strategy": "LoHa", "rank": 4, "target_modules": ["q_proj", "v_proj"], "layers": "0-1"}],
    "prompt": [{"strategy": "PromptTuning"}, {"strategy": "PromptTuning", "num_virtual_tokens": 16}],
    "shorter prompt": [{"strategy": "PromptTuning", "num_virtual_tokens": 4}],
    "prefix": [{"strategy": "PrefixTuning"}, {"num_virtual_tokens": 16.0, "strategy": "PrefixTuning"}],
}
DENSE = {"strategy": "LoRA", "rank": 4, "target_modules": ["dense"]}
BERT = {
    "short name": [DENSE, DENSE | {"target_modules": ["output.dense", "dense", "attention.output.dense"]}],
    "one long name": [
        DENSE | {"target_modules": "output.dense"},
        DENSE | {"rank": 8, "target_modules": "output.dense", "rank_pattern": {"dense": 4}},
    ],
    "two long names": [DENSE | {"target_modules": ["output.dense", "intermediate.dense"]}],
    "all": [{"strategy": "LoRA", "rank": 4}, DENSE | {"target_modules": ["all-linear", "dense"]}],
    "attention": [DENSE | {"target_modules": ["query", "key"]}],
}
POOLS = {("llama", "tokens"): LLAMA, ("bert", "labels"): BERT}
ROWS = [pytest.param(place, row, id=f"{row}-{place[0]}") for place, pool in POOLS.items() for row in pool]


def known_by_name(model):
    """Every trained tensor from its own name and shape."""
    with torch.no_grad():
        for name, parameter in trainable_parameters(model).items():
            seed = hashlib.sha256(f"{name} {tuple(parameter.shape)}".encode()).digest()
            generator = torch.Generator().manual_seed(int.from_bytes(seed[:7]))
            parameter.copy_(torch.randn(parameter.shape, generator=generator) * 0.2)


@pytest.fixture(scope="module")
def probe(build, batch):
    """`probe(place, config)`: the fresh weights of an architecture, and all that is to be seen of it, as numbers."""

    @torch.no_grad()
    def look(place, config):
        model = build_adapter(parse_architecture(config)).apply(build(*place), seed=3)
        drawn = torch.cat([weight.flatten() for weight in trainable_parameters(model).values()])
        known_by_name(model)
        seen = []
        for is_training in (False, True):
            with torch.random.fork_rng(devices=[]):
                torch.manual_seed(5)
                seen.append(model.train(is_training)(**batch).logits.flatten())
            loss = auxiliary_loss(model)
            seen.append(torch.zeros(1) if loss is None else loss.reshape(1))
        return drawn, torch.cat(seen)

    return look


@pytest.fixture(scope="module")
def first(probe):
    return functools.cache(lambda place, row: probe(place, POOLS[place][row][0]))


@pytest.mark.parametrize(("place", "row"), ROWS)
def test_equal_names_are_drawn_and_compute_the_same(probe, first, place, row):
    plain, *others = POOLS[place][row]
    for config in others:
        assert semantic_hash(parse_architecture(config)) == semantic_hash(parse_architecture(plain)), config
        (drawn, seen), (expected_draw, expected) = probe(place, config), first(place, row)
        assert torch.equal(drawn, expected_draw), config
        assert (seen - expected).abs().max() <= 1e-6, config


@pytest.mark.parametrize("place", POOLS, ids=["-".join(place) for place in POOLS])
def test_different_names_compute_something_else(first, place):
    for (one, spelled), (other, written) in itertools.combinations(POOLS[place].items(), 2):
        names = {semantic_hash(parse_architecture(config)) for config in (spelled[0], written[0])}
        assert len(names) == 2, (one, other)
        assert (first(place, one)[1] - first(place, other)[1]).abs().max() > 1e-4, (one, other)


def test_balancing_moves_a_router_that_sends_every_token_everywhere(build, batch):
    """The loss is a constant, but its gradient is rounding and not zero, and nothing else moves a fresh router: so
    the switch is part of the name.
    """
    model = build_adapter(parse_architecture(MOE | {"top_k": 4})).apply(build("llama", "tokens"))
    routers = [weight for name, weight in trainable_parameters(model).items() if name.endswith("router")]
    logits = model(**batch).logits
    from_task = torch.autograd.grad(logits.pow(2).sum(), routers, retain_graph=True)
    from_balance = torch.autograd.grad(auxiliary_loss(model), routers)
    assert not any(gradient.any() for gradient in from_task)
    assert all(gradient.any() for gradient in from_balance)
