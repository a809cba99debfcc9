"""Virtual tokens: what they begin as, logits and positions of the input alone, and the base as it was afterwards."""

from __future__ import annotations

import pytest
import torch

from legion.foundation.errors import AdapterError
from legion.neuro_architecture.adapters import LoRAAdapter, VirtualTokensAdapter, remove_adapter

STRATEGIES = ("PromptTuning", "PrefixTuning")
pytestmark = [pytest.mark.parametrize("strategy", STRATEGIES), pytest.mark.parametrize("family", ["llama", "gpt2"])]
SHORT = torch.tensor([[9, 11, 30, 7, 22, 8, 15]])
LONG = torch.randint(5, 40, (1, 12), generator=torch.Generator().manual_seed(3))


@pytest.fixture
def adapted(build, strategy, family):
    return VirtualTokensAdapter(strategy, 4).apply(build(family, "tokens"), seed=2)


def on_the_left() -> dict[str, torch.Tensor]:
    """`LONG`, and `SHORT` after five tokens of padding."""
    ids = torch.cat([LONG, torch.nn.functional.pad(SHORT, (5, 0))])
    mask = torch.ones_like(ids)
    mask[1, :5] = 0
    return {"input_ids": ids, "attention_mask": mask}


def greedily(model, ids, count):
    for _ in range(count):
        best = model(input_ids=ids, attention_mask=torch.ones_like(ids)).logits[:, -1].argmax(-1)
        ids = torch.cat([ids, best[:, None]], 1)
    return ids


def drawn_tokens(build, family, adapted) -> torch.Tensor:
    """The tokens whose embeddings the prompt of the same seed begins as."""
    prompt = VirtualTokensAdapter("PromptTuning", 4).apply(build(family, "tokens"), seed=2)
    began = prompt.prompt_encoder["default"].embedding.weight
    table = prompt.get_base_model().get_input_embeddings().weight
    return (began[:, None] == table[None]).all(-1).float().argmax(-1)[None]


def test_fresh_virtual_tokens_are_real_ones(build, adapted, strategy, family):
    tokens = drawn_tokens(build, family, adapted)
    with torch.no_grad():
        expected = build(family, "tokens")(input_ids=torch.cat([tokens, SHORT], 1)).logits[:, 4:]
        assert (adapted(input_ids=SHORT, attention_mask=torch.ones_like(SHORT)).logits - expected).abs().max() < 2e-6


def test_logits_are_those_of_the_input(adapted, stir, batch):
    stir(adapted)
    whole = adapted(**batch).logits
    assert whole.shape[:2] == batch["input_ids"].shape
    kept = adapted(**batch, logits_to_keep=torch.arange(3, 7)).logits
    assert torch.allclose(kept, whole[:, 3:7], atol=1e-6)
    assert torch.allclose(adapted(**batch, logits_to_keep=2).logits, whole[:, -2:], atol=1e-6)


def test_loss_is_that_of_the_input_alone(adapted, stir):
    stir(adapted)
    labels = SHORT.clone()
    labels[:, 0] = -100  # predicted from a virtual token, where there is one in front
    output = adapted(input_ids=SHORT, attention_mask=torch.ones_like(SHORT), labels=labels)
    expected = torch.nn.functional.cross_entropy(output.logits[0, :-1], SHORT[0, 1:])
    assert output.loss.item() == pytest.approx(expected.item(), abs=1e-5)


def test_padding_on_the_left_changes_nothing(adapted, stir):
    stir(adapted)
    with torch.no_grad():
        padded = adapted(**on_the_left()).logits[1, 5:]
        alone = adapted(input_ids=SHORT, attention_mask=torch.ones_like(SHORT)).logits[0]
    assert (padded - alone).abs().max() < 5e-6


def test_writing_from_padded_prompts_is_writing_alone(adapted, stir):
    stir(adapted)
    written = adapted.generate(**on_the_left(), max_new_tokens=6, do_sample=False, eos_token_id=None)
    assert torch.equal(written[:1], greedily(adapted, LONG, 6))
    assert torch.equal(written[1:, 5:], greedily(adapted, SHORT, 6))


def test_base_is_as_it_was_after_writing(build, logits, adapted, stir, family):
    base = adapted.get_base_model()
    keys = set(vars(build(family, "tokens")))
    adapted.generate(**on_the_left(), max_new_tokens=2, do_sample=False)
    assert remove_adapter(stir(adapted)) is base
    assert set(vars(base)) == keys
    assert not base._forward_pre_hooks
    assert torch.equal(logits(base), logits(build(family, "tokens")))
    LoRAAdapter(rank=2).apply(base)


def test_model_that_is_not_causal_is_refused(build, strategy, family):
    with pytest.raises(AdapterError, match=f"{strategy} needs a causal model"):
        VirtualTokensAdapter(strategy).apply(build(family, "labels"))


def test_more_tokens_than_positions_are_refused(build, strategy, family):
    with pytest.raises(AdapterError, match="128 virtual tokens leave none of the model's 128 positions"):
        VirtualTokensAdapter(strategy, 128).apply(build(family, "tokens"))
