"""What holds for every adapter on every family: no effect when fresh, gone when removed, alone in being trained."""

from __future__ import annotations

import copy

import pytest
import torch

from legion.foundation.errors import AdapterError, InvalidValueError
from legion.neuro_architecture.adapters import (
    BottleneckAdapter,
    LoRAAdapter,
    MoEAdapter,
    auxiliary_loss,
    build_adapter,
    remove_adapter,
    trainable_parameters,
)
from legion.neuro_architecture.anatomy import inspect_model
from legion.neuro_architecture.spec.architecture import MoEArchitecture

# What leaves experts out or puts tokens in front changes the output at once.
CHANGES_AT_ONCE = {"sparse", "prompt", "prefix"}
# Reflections that cancel in pairs do so up to rounding.
ROUNDS = {"HRA"}
# What these train begins the same for every seed: at zero, at one, or, with what they freeze, from a seed of PEFT's.
SEEDLESS = {"IA3", "OFT", "BOFT", "VeRA", "FourierFT", "WaveFT", "C3A", "RandLoRA", "MiSS"}


def test_fresh_adapter_changes_no_logit(build, logits, name, case, adapter):
    model = build(*case)
    before = logits(model)
    largest = (logits(adapter.apply(model, seed=5)) - before).abs().max().item()
    if name in CHANGES_AT_ONCE:
        assert largest > 1e-3
    else:
        assert largest <= (2e-6 if name in ROUNDS else 0.0)


def test_anatomy_is_the_same_with_the_adapter_on(build, case, adapter):
    model = build(*case)
    before = inspect_model(model)
    assert inspect_model(adapter.apply(model)) == before


def test_removal_restores_the_model_bit_for_bit(build, logits, stir, case, adapter):
    model = build(*case)
    modules = dict(model.named_modules())
    weights = {name: weight.clone() for name, weight in model.state_dict().items()}
    before = logits(model)
    adapted = stir(adapter.apply(model))
    logits(adapted)
    restored = remove_adapter(adapted)
    assert restored is model
    assert dict(restored.named_modules()) == modules
    assert restored.state_dict().keys() == weights.keys()
    assert all(torch.equal(weight, weights[name]) for name, weight in restored.state_dict().items())
    assert all(weight.requires_grad for weight in restored.parameters())
    assert not restored._forward_pre_hooks
    assert torch.equal(logits(restored), before)


def test_adapter_can_follow_a_removed_one(build, logits, stir, home, adapter):
    model = build(*home)
    expected = logits(adapter.apply(build(*home)))
    remove_adapter(stir(MoEAdapter(2, 1).apply(model)))
    assert torch.equal(logits(adapter.apply(model)), expected)


def test_frozen_base_stays_frozen_after_removal(build):
    model = build("bert").requires_grad_(requires_grad=False)
    model.classifier.requires_grad_()
    restored = remove_adapter(LoRAAdapter(rank=2).apply(model))
    trainable = {name for name, weight in restored.named_parameters() if weight.requires_grad}
    assert trainable == {"classifier.weight", "classifier.bias"}


def test_only_adapter_and_head_learn(build, batch, name, case, adapter):
    family, task = case
    model = build(family, task)
    base = {name: weight.clone() for name, weight in model.state_dict().items()}
    adapted = adapter.apply(model)
    parameters = trainable_parameters(adapted)
    before = {name: weight.detach().clone() for name, weight in parameters.items()}
    labels = torch.tensor([0, 1, 0]) if task == "labels" else batch["input_ids"]
    # larger steps overshoot where one weight moves every projection
    optimizer = torch.optim.AdamW(parameters.values(), lr=1e-3, weight_decay=0.0)
    first = adapted(**batch, labels=labels).loss.item()
    adapted.train()
    torch.manual_seed(0)  # of the base's own dropouts
    for _ in range(5):
        optimizer.zero_grad()
        loss = adapted(**batch, labels=labels).loss
        (loss + (0.0 if (balance := auxiliary_loss(adapted)) is None else balance)).backward()
        optimizer.step()
    assert adapted.eval()(**batch, labels=labels).loss.item() < first
    assert [name for name, weight in parameters.items() if torch.equal(weight, before[name])] == []
    assert all((weight.grad is not None) == (name in parameters) for name, weight in adapted.named_parameters())
    assert any("modules_to_save" in name for name in parameters) == (task == "labels")
    restored = remove_adapter(adapted)
    assert all(torch.equal(weight, base[name]) for name, weight in restored.state_dict().items())


def test_weights_are_drawn_from_the_seed_alone(build, name, home, adapter):
    state = torch.get_rng_state()
    one, other = (trainable_parameters(adapter.apply(build(*home), seed=4)) for _ in range(2))
    assert torch.equal(torch.get_rng_state(), state)
    assert all(torch.equal(weight, other[key]) for key, weight in one.items())
    third = trainable_parameters(adapter.apply(build(*home), seed=5))
    assert any(not torch.equal(weight, third[key]) for key, weight in one.items()) == (name not in SEEDLESS)


def test_second_adapter_is_refused(build, home, adapter):
    adapted = adapter.apply(build(*home))
    for model in (adapted, adapted.get_base_model()):
        with pytest.raises(AdapterError, match="carries an adapter already"):
            LoRAAdapter(rank=2).apply(model)


def test_layer_out_of_range_is_refused(build):
    for adapter in (LoRAAdapter(layers=[1, 3]), BottleneckAdapter(layers=[3]), MoEAdapter(layers=[3])):
        model = build("bert")
        with pytest.raises(AdapterError, match="layers 3 are out of range") as caught:
            adapter.apply(model)
        assert caught.value.cause == "bert has 3 blocks, 0 to 2"
        LoRAAdapter(rank=2).apply(model)


def test_untouched_model_has_nothing_to_remove(build):
    with pytest.raises(AdapterError, match="carries no adapter"):
        remove_adapter(build("bert"))


def test_wrong_arguments_are_listed():
    with pytest.raises(InvalidValueError, match="LoRAAdapter is not valid") as caught:
        LoRAAdapter(rank=0, dropout=1.0)
    assert "rank" in caught.value.cause
    assert "dropout" in caught.value.cause
    with pytest.raises(InvalidValueError, match="MoEAdapter"):
        MoEAdapter(num_experts=2, top_k=3)
    with pytest.raises(InvalidValueError, match="BottleneckAdapter"):
        BottleneckAdapter(non_linearity="tanh")


def test_architecture_and_adapter_name_each_other(adapter):
    rebuilt = build_adapter(adapter.architecture)
    assert type(rebuilt) is type(adapter)
    assert rebuilt.architecture == adapter.architecture
    assert isinstance(build_adapter(MoEArchitecture()), MoEAdapter)


def test_adapted_model_can_be_copied_after_a_forward_pass(build, batch, logits, stir, home, adapter):
    adapted = stir(adapter.apply(build(*home)))
    adapted(**batch)
    twin = copy.deepcopy(adapted)
    assert torch.equal(logits(twin), logits(adapted))
    stir(twin, seed=99)
    assert not torch.equal(logits(twin), logits(adapted))
    remove_adapter(twin)


def test_adapter_takes_the_base_dtype(build, batch, home, adapter):
    adapted = adapter.apply(build(*home).to(torch.bfloat16))
    assert {weight.dtype for weight in trainable_parameters(adapted).values()} == {torch.bfloat16}
    assert adapted(**batch).logits.isfinite().all()


def test_adapter_lives_where_the_base_lives(build, home, adapter):
    adapted = adapter.apply(build(*home).to("meta"))
    assert {weight.device.type for weight in adapted.parameters()} == {"meta"}


def test_mode_of_the_model_is_kept(build, home, adapter):
    assert not any(module.training for module in adapter.apply(build(*home)).modules())
    assert all(module.training for module in adapter.apply(build(*home).train()).modules())


def test_causal_model_still_generates(build, batch, stir, adapter):
    adapted = stir(adapter.apply(build("llama", "tokens")))
    one = {key: value[:1] for key, value in batch.items()}
    tokens = adapted.generate(**one, max_new_tokens=5, do_sample=False)
    assert tokens.shape[1] <= 17
    whole = adapted(input_ids=tokens[:, :-1]).logits[0, 11:].argmax(-1)
    assert torch.equal(whole, tokens[0, 12:])


def test_switched_off_adapter_gives_the_base(build, logits, stir, adapter):
    model = build("llama", "tokens")
    before = logits(model)
    adapted = stir(adapter.apply(model))
    with adapted.disable_adapter():
        assert torch.equal(logits(adapted), before)
    assert (logits(adapted) - before).abs().max() > 1e-3


def test_frozen_experts_are_an_error(build):
    adapted = MoEAdapter(2, 1).apply(build("bert"))
    for name, weight in adapted.named_parameters():
        if "mixture_adapter" in name:
            weight.requires_grad_(requires_grad=False)
    with pytest.raises(AdapterError, match="frozen"):
        trainable_parameters(adapted)


def test_model_without_anything_trainable_is_an_error(build):
    with pytest.raises(AdapterError, match="no trainable parameter"):
        trainable_parameters(build("bert").requires_grad_(requires_grad=False))
