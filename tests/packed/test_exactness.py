"""K packed trials end with the weights of K trainings by PEFT alone; `make exactness` asks every pair there is."""

import pytest
import torch
from tests.adapters.conftest import ZOO
from tests.packed.harness import Trial, largest_difference, train_alone, train_packed, zoo_trials

from legion.neuro_architecture.spec.architecture import (
    WIDEST_DENSE_MIXTURE,
    LoRAArchitecture,
    MoEArchitecture,
    strategy_names,
)

CLOSE = 1e-5
STEPS = 20
SETS = {
    ("bert", "labels"): ("lora", "seq", "dora", "moe", "moe-random", "combined", "combined-seq"),
    ("roberta", "labels"): ("lora-patterns", "par-gated"),
    ("llama", "labels"): ("seq_layer", "split"),
    ("llama", "tokens"): ("lora", "seq_layer-gated", "moe", "sparse", "prefix", "combined-seq_layer"),
    ("mistral", "tokens"): ("lora", "par-gated", "combined"),
    ("qwen2", "tokens"): ("lora-patterns", "seq-gated", "combined-gated"),
    ("gpt2", "labels"): ("par", "IA3", "combined-gated", "combined-seq_layer"),
    ("gpt2", "tokens"): ("lora-patterns", "prompt"),
}


def test_every_strategy_of_the_product_is_in_the_zoo():
    assert {architecture.strategy for architecture in ZOO.values()} == set(strategy_names())


@pytest.mark.parametrize("pair", SETS, ids="-".join)
def test_packed_trials_end_with_the_weights_of_separate_peft_trainings(pair):
    trials = zoo_trials(*pair, SETS[pair])
    packed, outcomes = train_packed(*pair, trials, STEPS)
    for name, trial in trials.items():
        alone, last = train_alone(*pair, trial, STEPS)
        assert largest_difference(packed[name], alone) <= CLOSE, name
        assert outcomes[name].loss == pytest.approx(last["loss"], abs=CLOSE), name
        assert outcomes[name].gradient_norm == pytest.approx(last["gradient_norm"], abs=CLOSE), name
        assert (outcomes[name].auxiliary_loss is None) == (last["auxiliary_loss"] is None), name
        if last["auxiliary_loss"] is not None:
            assert outcomes[name].auxiliary_loss == pytest.approx(last["auxiliary_loss"], abs=1e-7), name


@pytest.mark.parametrize(
    ("pair", "names"),
    [
        (("bert", "labels"), ("lora", "par", "moe", "LoHa", "combined")),
        (("qwen2", "tokens"), ("lora-patterns", "sparse", "combined-gated")),
        (("gpt2", "labels"), ("combined", "combined-seq_layer")),
    ],
    ids=["bert", "qwen2", "gpt2"],
)
def test_in_fp64_the_two_ways_agree_to_ten_digits(pair, names, double_norms):
    """What parts them in fp32 is rounding and nothing else."""
    trials = zoo_trials(*pair, names)
    packed, _ = train_packed(*pair, trials, 10, precision="float64")
    for name, trial in trials.items():
        alone, _ = train_alone(*pair, trial, 10, dtype=torch.float64)
        assert packed[name].keys() == alone.keys()
        assert all(item.dtype is torch.float64 for item in packed[name].values())
        assert largest_difference(packed[name], alone) <= 1e-10, name


def test_sdpa_ends_with_the_same_weights():
    trials = zoo_trials("bert", "labels", ("lora", "par"))
    packed, _ = train_packed("bert", "labels", trials, STEPS, kernel="sdpa", workers=2)
    for name, trial in trials.items():
        assert largest_difference(packed[name], train_alone("bert", "labels", trial, STEPS)[0]) <= CLOSE


def test_a_mixture_so_wide_that_experts_compute_apart_ends_with_the_same_weights():
    trials = {"wide": Trial(MoEArchitecture(num_experts=8, bottleneck_size=WIDEST_DENSE_MIXTURE // 4))}
    packed, _ = train_packed("bert", "labels", trials, 10)
    alone, _ = train_alone("bert", "labels", trials["wide"], 10)
    assert largest_difference(packed["wide"], alone) <= CLOSE


def test_the_comparison_sees_a_step_of_another_rate():
    trial = Trial(LoRAArchitecture(rank=2))
    other = Trial(trial.architecture, trial.recipe.model_copy(update={"learning_rate": 3.01e-3}))
    one, two = (train_alone("bert", "labels", each, 5)[0] for each in (trial, other))
    assert largest_difference(one, two) > CLOSE
