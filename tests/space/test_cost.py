from __future__ import annotations

import random
from itertools import islice

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.utils.flop_counter import FlopCounterMode

from legion.foundation.errors import InvalidValueError
from legion.neuro_architecture.adapters import build_adapter, trainable_parameters
from legion.neuro_architecture.space import Calibration, SearchSpace, estimate_cost, find_mistakes
from legion.neuro_architecture.space.cost import count_adapter_parameters
from legion.neuro_architecture.space.work import Work, adapter_work, base_work
from legion.neuro_architecture.spec.architecture import (
    AdapterArchitecture,
    LoRAArchitecture,
    MoEArchitecture,
    VirtualTokensArchitecture,
    strategy_names,
)
from legion.testing import paper_anatomy

TOKENS = 48
FLOP_TOLERANCE = 0.02


LATER = (
    LoRAArchitecture(use_dora=True),
    LoRAArchitecture(use_rslora=True, use_dora=True, layers=(0, 2)),
    LoRAArchitecture(rank_pattern={"1.*": 2}),
    LoRAArchitecture(rank=2, rank_pattern={"0.*": 4, "0.*c_fc|.*[aeiou]_proj|.*query": 3}, alpha_pattern={".*": 3.0}),
    AdapterArchitecture(placement="seq_layer", bottleneck_size=8),
    AdapterArchitecture(placement="seq_layer", bottleneck_size=8, is_gated=True, non_linearity="silu", layers=(1,)),
    MoEArchitecture(num_experts=16, top_k=3, bottleneck_size=24),
    MoEArchitecture(num_experts=4, top_k=1, routing="random", bottleneck_size=8),
    MoEArchitecture(
        num_experts=3, top_k=1, routing="random", bottleneck_size=8, is_gated=True, non_linearity="silu", layers=(2,)
    ),
)


def candidates(anatomy, per_strategy=2):
    """The default and a few draws of each strategy, later axes, and a mixture too wide to be computed densely."""
    space = SearchSpace(anatomy, strategy_names())
    drawn = [
        architecture
        for strategy in space.strategies
        for architecture, _ in islice(space.walk(strategy, random.Random(4)), per_strategy)
    ]
    return [*drawn, *(architecture for architecture in LATER if not find_mistakes(architecture, anatomy))]


def count_flops(model) -> int:
    ids = torch.arange(TOKENS).remainder(20).add(5)[None]
    counter = FlopCounterMode(display=False)
    with torch.no_grad(), counter:
        model(input_ids=ids, attention_mask=torch.ones_like(ids))
    return counter.get_total_flops()


def test_weights_are_those_of_the_real_adapter_and_flops_agree_with_torchs_counter(case, load, anatomy_of, calibration):
    """Weights exactly, operations within two percent; the base outweighs the adapter, so what the adapter adds is
    compared on its own, too.
    """
    anatomy = anatomy_of(*case)
    base = count_flops(load(*case))
    for architecture in candidates(anatomy):
        estimate = estimate_cost(architecture, anatomy, calibration=calibration, sequence_length=TOKENS)
        adapted = build_adapter(architecture).apply(load(*case)).eval()
        real = sum(parameter.numel() for parameter in trainable_parameters(adapted).values())
        assert estimate.trainable_parameters == real, architecture
        assert estimate.adapter_size_bytes == 4 * real
        counted = count_flops(adapted)
        added = adapter_work(architecture, anatomy, TOKENS).flops
        assert estimate.expected_base_flops == pytest.approx(base, rel=FLOP_TOLERANCE)
        assert estimate.expected_flops == pytest.approx(counted, rel=FLOP_TOLERANCE), architecture
        assert added == pytest.approx(counted - base, rel=FLOP_TOLERANCE), architecture


def test_estimate_holds_both_forms_and_the_length(calibration):
    anatomy = paper_anatomy()
    estimate = estimate_cost(LoRAArchitecture(), anatomy, calibration=calibration, sequence_length=10)
    assert estimate.expected_flops > estimate.expected_base_flops > 0
    assert estimate.expected_base_latency_ms is not None
    assert estimate.expected_latency_ms > estimate.expected_base_latency_ms > 0
    assert estimate.sequence_length == 10


def test_latency_is_the_sum_of_its_four_terms():
    rates = Calibration(
        machine="paper",
        device="cpu",
        torch_version="0",
        threads=1,
        matmul_flops_per_s=1e9,
        memory_bytes_per_s=1e8,
        elements_per_s=1e7,
        kernel_overhead_s=1e-4,
    )
    anatomy = paper_anatomy()
    work = base_work(anatomy, 7)
    estimate = estimate_cost(LoRAArchitecture(), anatomy, calibration=rates, sequence_length=7)
    expected_s = work.flops / 1e9 + work.weight_bytes / 1e8 + work.elements / 1e7 + work.kernels * 1e-4
    assert estimate.expected_base_latency_ms == pytest.approx(1e3 * expected_s)


def test_work_adds_up_part_by_part():
    one = Work(flops=1, weight_bytes=2, elements=3, kernels=4)
    assert one + one == Work(flops=2, weight_bytes=4, elements=6, kernels=8)


def test_causal_base_pays_for_its_vocabulary():
    small, large = (base_work(paper_anatomy(vocab_size=size), 5).flops for size in (100, 1100))
    assert large - small == 2 * 5 * 64 * 1000


def test_wide_mixture_computes_its_top_experts_only():
    anatomy = paper_anatomy(hidden_size=512)
    one, two = (
        adapter_work(MoEArchitecture(num_experts=8, top_k=top_k, bottleneck_size=64), anatomy, 10).flops
        for top_k in (1, 2)
    )
    assert two - one == anatomy.num_layers * 2 * 10 * 2 * 512 * 64


def _costs(architecture, calibration):
    anatomy = paper_anatomy(hidden_size=256, intermediate_size=512, num_layers=6)
    estimate = estimate_cost(architecture, anatomy, calibration=calibration, sequence_length=32)
    return (estimate.trainable_parameters, estimate.expected_flops, estimate.expected_latency_ms)


@settings(max_examples=40, deadline=None)
@given(rank=st.integers(1, 200), more=st.integers(1, 50))
def test_more_rank_always_costs_more(calibration, rank, more):
    small, large = (_costs(LoRAArchitecture(rank=value), calibration) for value in (rank, rank + more))
    assert all(a < b for a, b in zip(small, large, strict=True))


@settings(max_examples=40, deadline=None)
@given(size=st.integers(1, 200), more=st.integers(1, 50), is_gated=st.booleans())
def test_wider_bottleneck_always_costs_more(calibration, size, more, is_gated):
    small, large = (
        _costs(AdapterArchitecture(bottleneck_size=value, is_gated=is_gated, non_linearity="silu"), calibration)
        for value in (size, size + more)
    )
    assert all(a < b for a, b in zip(small, large, strict=True))


@pytest.mark.parametrize("strategy", strategy_names())
def test_every_strategy_adds_weights_and_time(strategy, calibration):
    anatomy = paper_anatomy(hidden_size=64, intermediate_size=128, num_layers=2)
    architecture = SearchSpace(anatomy, [strategy]).default(strategy)
    estimate = estimate_cost(architecture, anatomy, calibration=calibration, sequence_length=32)
    assert estimate.trainable_parameters > 0
    assert estimate.expected_base_latency_ms is not None
    assert estimate.expected_latency_ms > estimate.expected_base_latency_ms


def test_bottleneck_behind_the_block_has_a_norm_like_the_bases(anatomy_of):
    for family, norm in (("llama", 32), ("gpt2", 64)):
        anatomy = anatomy_of(family, "summarization")
        behind, beside = (
            count_adapter_parameters(AdapterArchitecture(bottleneck_size=8, placement=placement), anatomy)
            for placement in ("seq_layer", "par")
        )
        assert behind - beside == anatomy.num_layers * norm


def test_drawn_experts_cost_their_weights_but_the_time_of_one():
    anatomy = paper_anatomy()
    drawn = MoEArchitecture(num_experts=8, top_k=1, routing="random", bottleneck_size=16)
    one = AdapterArchitecture(bottleneck_size=16)
    assert count_adapter_parameters(drawn, anatomy) == 8 * count_adapter_parameters(one, anatomy)
    assert adapter_work(drawn, anatomy, 32).flops == adapter_work(one, anatomy, 32).flops


def test_prefixes_are_as_wide_as_the_keys_they_stand_among(anatomy_of):
    """The tiny Llama's four heads share two keys of eight numbers; GPT-2's projection is fused and full."""
    for family, width in (("llama", 16), ("gpt2", 32)):
        anatomy = anatomy_of(family, "summarization")
        prefix = VirtualTokensArchitecture(strategy="PrefixTuning", num_virtual_tokens=5)
        assert count_adapter_parameters(prefix, anatomy) == 5 * 2 * anatomy.num_layers * width


@settings(max_examples=40, deadline=None)
@given(layers=st.sets(st.integers(0, 5), min_size=1, max_size=5), strategy=st.sampled_from(["LoRA", "Adapter", "MoE"]))
def test_one_more_layer_always_costs_more(calibration, layers, strategy):
    make = {"LoRA": LoRAArchitecture, "Adapter": AdapterArchitecture, "MoE": MoEArchitecture}[strategy]
    added = min(set(range(6)) - layers)
    small, large = (_costs(make(layers=tuple(chosen)), calibration) for chosen in (layers, layers | {added}))
    assert all(a < b for a, b in zip(small, large, strict=True))


@pytest.mark.parametrize(
    ("architecture", "length"), [(LoRAArchitecture(rank=64), 8), (LoRAArchitecture(), 0), (LoRAArchitecture(), -3)]
)
def test_what_does_not_fit_has_no_cost(architecture, length, calibration):
    with pytest.raises(InvalidValueError):
        estimate_cost(architecture, paper_anatomy(), calibration=calibration, sequence_length=length)
