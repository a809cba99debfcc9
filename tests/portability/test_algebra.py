"""Laws of LoRA arithmetic, checked on the dense changes of the weights and against PEFT's own combinations."""

from __future__ import annotations

import copy
import dataclasses
import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from peft import LoraConfig, get_peft_model
from transformers import GPT2Config, GPT2LMHeadModel, LlamaConfig, LlamaForCausalLM

from legion.foundation.errors import AdapterError, InvalidValueError
from legion.neuro_architecture.portability.algebra import add, average, concatenate, merge, rerank, scale, subtract
from legion.neuro_architecture.portability.canonical_lora import CanonicalLoRA, canonical_lora
from legion.neuro_architecture.portability.low_rank import LowRank, Residual, factorize, truncate

# PEFT asks transformers for a property by its old name.
pytestmark = pytest.mark.filterwarnings("ignore:`is_gradient_checkpointing` is deprecated:FutureWarning")

SHAPES = {"model.layers.0.q_proj": (6, 9), "model.layers.0.up_proj": (12, 6), "model.layers.1.q_proj": (6, 9)}
DIGEST = "sha256:" + "1" * 64


def _lora(seed: int, rank: int, paths=tuple(SHAPES), **fields) -> CanonicalLoRA:
    draw = torch.Generator().manual_seed(seed)
    layers = {
        path: LowRank(
            A=torch.randn(rank, SHAPES[path][1], generator=draw), B=torch.randn(SHAPES[path][0], rank, generator=draw)
        )
        for path in paths
    }
    return CanonicalLoRA(layers=layers, target_modules=tuple(paths), **fields)


def _dense(adapter: CanonicalLoRA) -> dict[str, torch.Tensor]:
    return {
        path: adapter.layers[path].dense().double()
        if path in adapter.layers
        else torch.zeros(SHAPES[path], dtype=torch.float64)
        for path in SHAPES
    }


def _same(first: CanonicalLoRA, second: CanonicalLoRA) -> bool:
    """Equal changes, to 1e-5 of the largest entry: fp32 products of up to 30 terms."""
    ours, theirs = _dense(first), _dense(second)
    return all(
        (ours[path] - theirs[path]).abs().max() <= 1e-5 * max(1.0, float(theirs[path].abs().max())) for path in SHAPES
    )


subsets = st.sets(st.sampled_from(sorted(SHAPES)), min_size=1).map(lambda chosen: tuple(sorted(chosen)))
loras = st.builds(_lora, st.integers(0, 2**31), st.integers(1, 6), subsets)
laws = settings(max_examples=60, deadline=None)


@laws
@given(loras, loras)
def test_what_is_added_can_be_subtracted(first, second):
    assert _same(subtract(add(first, second), second), first)


@laws
@given(loras, loras)
def test_sum_changes_weights_by_both(first, second):
    joined, ours, theirs = _dense(add(first, second)), _dense(first), _dense(second)
    for path in SHAPES:
        torch.testing.assert_close(joined[path], ours[path] + theirs[path], rtol=1e-5, atol=1e-5)


@laws
@given(loras, loras)
def test_order_of_a_sum_does_not_matter(first, second):
    assert _same(add(first, second), add(second, first))


@laws
@given(loras, loras, loras)
def test_brackets_of_a_sum_do_not_matter(first, second, third):
    assert _same(add(add(first, second), third), add(first, add(second, third)))
    assert _same(concatenate([first, second, third]), add(add(first, second), third))


@laws
@given(loras, st.floats(-3, 3), st.floats(-3, 3))
def test_scaling_distributes(adapter, one, other):
    assert _same(add(scale(adapter, one), scale(adapter, other)), scale(adapter, one + other))


@laws
@given(loras, st.integers(1, 5))
def test_average_of_equal_adapters_is_that_adapter(adapter, count):
    assert _same(average([adapter] * count), adapter)


@laws
@given(loras, loras, loras)
def test_average_is_the_mean_of_the_changes(first, second, third):
    assert _same(average([first, second, third]), scale(concatenate([first, second, third]), 1 / 3))


@laws
@given(loras, st.integers(0, 8))
def test_rank_at_or_above_the_true_one_loses_nothing(adapter, more):
    result, errors = rerank(adapter, adapter.rank + more)
    assert result.rank == adapter.rank + more
    assert _same(result, adapter)
    assert Residual.total(errors.values()).relative < 1e-6


@laws
@given(loras, loras)
def test_rank_of_a_doubled_adapter_is_found_again(adapter, other):
    doubled = add(add(adapter, other), subtract(adapter, other))
    assert doubled.rank > adapter.rank
    assert _same(rerank(doubled, adapter.rank)[0], scale(adapter, 2.0))


@laws
@given(loras, st.integers(1, 8))
def test_stated_error_is_the_tail_of_the_dense_svd(adapter, rank):
    result, errors = rerank(adapter, rank)
    dense, kept = _dense(adapter), _dense(result)
    for path, error in errors.items():
        values = torch.linalg.svdvals(dense[path])
        assert error.absolute == pytest.approx(float(values[rank:].norm()), abs=1e-6 * max(1.0, float(values[0])))
        assert error.whole == pytest.approx(float(values.norm()), rel=1e-6)
        assert float((dense[path] - kept[path]).norm()) == pytest.approx(error.absolute, abs=1e-5 * error.whole)
    total = Residual.total(errors.values())
    assert total.absolute == pytest.approx(math.sqrt(sum(error.absolute**2 for error in errors.values())))
    assert result.residual == total


@laws
@given(loras, st.integers(1, 4), st.integers(0, 2**31))
def test_no_other_adapter_of_that_rank_is_nearer(adapter, rank, seed):
    _, errors = rerank(adapter, rank)
    other = _lora(seed, rank, tuple(adapter.layers))
    for path, error in errors.items():
        distance = float((adapter.layers[path].dense() - other.layers[path].dense()).norm())
        assert error.absolute <= distance * (1 + 1e-5)


def test_ranks_add_up_and_silent_components_are_dropped():
    first, second = _lora(1, 3), _lora(2, 2)
    assert add(first, second).rank == 5
    padded = dataclasses.replace(first, layers={path: one.padded(8) for path, one in first.layers.items()})
    assert add(padded, second).rank == 5
    assert scale(first, 0.0).rank == 1


def test_layers_of_one_adapter_alone_are_kept():
    first, second = _lora(1, 3, tuple(SHAPES)[:1]), _lora(2, 2, tuple(SHAPES)[1:])
    joined = add(first, second)
    assert joined.layers.keys() == SHAPES.keys()
    assert joined.target_modules == tuple(SHAPES)
    assert joined.rank == 3


def test_adapters_on_different_bases_are_refused():
    first, second = _lora(1, 2, base_digest=DIGEST), _lora(2, 2, base_digest=DIGEST.replace("1", "2"))
    for operation in (add, subtract):
        with pytest.raises(AdapterError, match="different bases") as caught:
            operation(first, second)
        assert DIGEST in str(caught.value.cause)
    with pytest.raises(AdapterError, match="different bases"):
        average([first, second])
    with pytest.raises(AdapterError, match="different bases") as named:
        add(_lora(1, 2, base_name="one"), _lora(2, 2, base_name="other"))
    assert "--base" in str(named.value.hint)
    assert add(first, _lora(2, 2, base_name="untold")).base_digest == DIGEST


def test_shapes_that_differ_are_named():
    wide = _lora(1, 2)
    path = "model.layers.0.q_proj"
    layers = dict(wide.layers) | {path: LowRank(A=torch.ones(2, 5), B=torch.ones(6, 2))}
    with pytest.raises(AdapterError, match=r"layers\.0\.q_proj differs in shape"):
        add(wide, dataclasses.replace(wide, layers=layers))


def test_trained_heads_are_averaged_but_never_added():
    heads = [{"classifier.weight": torch.full((2, 3), value)} for value in (1.0, 3.0)]
    first, second = (_lora(seed, 2, head=head) for seed, head in enumerate(heads))
    assert torch.equal(average([first, second]).head["classifier.weight"], torch.full((2, 3), 2.0))
    assert rerank(first, 1)[0].head.keys() == first.head.keys()
    for operation in (lambda: add(first, second), lambda: scale(first, 2.0)):
        with pytest.raises(AdapterError, match="classifier"):
            operation()
    with pytest.raises(AdapterError, match="only some"):
        average([first, _lora(3, 2)])


@pytest.mark.parametrize("factor", [math.nan, math.inf])
def test_factor_that_is_no_number_is_refused(factor):
    with pytest.raises(InvalidValueError, match="scaled by"):
        scale(_lora(1, 2), factor)


def test_empty_lists_and_ranks_below_one_are_refused():
    for operation in (concatenate, average):
        with pytest.raises(InvalidValueError, match="no adapter"):
            operation([])
    with pytest.raises(InvalidValueError, match="rank 0"):
        rerank(_lora(1, 2), 0)


def test_factored_and_dense_decompositions_agree():
    change = _lora(4, 5).layers["model.layers.0.up_proj"]
    factored, dense = truncate(change, 3), factorize(change.dense(), 3)
    torch.testing.assert_close(factored[0].dense(), dense[0].dense(), rtol=1e-4, atol=1e-5)
    assert factored[1].absolute == pytest.approx(dense[1].absolute, rel=1e-5)
    assert factorize(change.dense(), None)[0].rank == 5
    assert factorize(torch.zeros(4, 3), None)[0].rank == 1


def _base(family: str):
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(2)
        if family == "gpt2":
            return GPT2LMHeadModel(GPT2Config(vocab_size=32, n_embd=16, n_layer=2, n_head=4, n_positions=16)).eval()
        config = LlamaConfig(
            vocab_size=32, hidden_size=16, intermediate_size=24, num_hidden_layers=2, num_attention_heads=4
        )
        return LlamaForCausalLM(config).eval()


def _stir(model, seed: int):
    draw = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, weight in model.named_parameters():
            if "lora_" in name:
                weight.copy_(torch.randn(weight.shape, generator=draw) * 0.3)


@pytest.fixture
def two_adapters():
    """One base with two PEFT adapters of different ranks, `one` active."""
    config = {"target_modules": ["q_proj", "down_proj"], "lora_alpha": 8}
    model = get_peft_model(_base("llama"), LoraConfig(r=3, **config), adapter_name="one")
    model.add_adapter("two", LoraConfig(r=2, use_rslora=True, **config))
    _stir(model, seed=6)
    return model


def _canonical(model, name: str) -> CanonicalLoRA:
    model.set_adapter(name)
    return canonical_lora(model)


@pytest.mark.parametrize("weights", [(1.0, 1.0), (0.5, 0.5), (2.0, 0.25)])
def test_sum_is_what_peft_concatenates(two_adapters, weights):
    ours = add(*(scale(_canonical(two_adapters, name), by) for name, by in zip(("one", "two"), weights, strict=True)))
    two_adapters.add_weighted_adapter(["one", "two"], list(weights), "cat", combination_type="cat")
    theirs = _canonical(two_adapters, "cat")
    assert ours.rank == theirs.rank == 5
    for path, change in theirs.layers.items():
        torch.testing.assert_close(ours.layers[path].dense(), change.dense(), rtol=1e-5, atol=1e-6)


def test_reranked_sum_is_what_peft_decomposes(two_adapters):
    ours, _ = rerank(add(_canonical(two_adapters, "one"), _canonical(two_adapters, "two")), 3)
    two_adapters.add_weighted_adapter(["one", "two"], [1.0, 1.0], "svd", combination_type="svd", svd_rank=3)
    for path, change in _canonical(two_adapters, "svd").layers.items():
        torch.testing.assert_close(ours.layers[path].dense(), change.dense(), rtol=1e-4, atol=1e-5)


def test_two_active_adapters_are_not_one(two_adapters):
    two_adapters.base_model.set_adapter(["one", "two"])
    with pytest.raises(AdapterError, match="2 active adapters"):
        canonical_lora(two_adapters)


@pytest.mark.parametrize("family", ["llama", "gpt2"])
def test_merged_base_computes_as_the_adapted_one(family):
    base = _base(family)
    names = ["c_attn", "c_proj"] if family == "gpt2" else ["q_proj", "down_proj"]
    config = LoraConfig(r=3, lora_alpha=5, target_modules=names, fan_in_fan_out=family == "gpt2")
    model = get_peft_model(copy.deepcopy(base), config).eval()
    _stir(model, seed=8)
    merged = copy.deepcopy(base)
    state = merge(canonical_lora(model), merged)
    assert merged.load_state_dict(state, strict=False).unexpected_keys == []
    ids = torch.arange(5, 15)[None]
    with torch.no_grad():
        plain, adapted, result = (one(input_ids=ids).logits for one in (base, model, merged))
    assert (adapted - plain).abs().max() > 0.02
    assert (result - adapted).abs().max() < 1e-5


def test_merge_into_a_base_that_does_not_fit_is_refused():
    base = _base("llama")
    with pytest.raises(AdapterError, match=r"no model\.layers\.0\.q_proj\.weight"):
        merge(_lora(1, 2), base)
    layers = {"model.layers.0.self_attn.q_proj": LowRank(A=torch.ones(1, 9), B=torch.ones(6, 1))}
    with pytest.raises(AdapterError, match="does not fit"):
        merge(CanonicalLoRA(layers=layers, target_modules=tuple(layers)), base)
