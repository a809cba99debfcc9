"""Every strategy learns, and what it learnt is in its folder."""

from __future__ import annotations

import torch

from legion.neuro_architecture.adapters import auxiliary_loss, load_adapter, save_adapter, trainable_parameters

STEPS = 20


def counting() -> dict[str, torch.Tensor]:
    """Sixteen texts that go on counting from their first word; a causal model has no head that could learn it alone."""
    ids = torch.arange(10, 26)[:, None] + torch.arange(6)
    return {"input_ids": ids, "attention_mask": torch.ones_like(ids), "labels": ids}


def test_training_lowers_the_loss_and_the_folder_keeps_it(build, adapter, tmp_path):
    batch = counting()
    adapted = adapter.apply(build("llama", "tokens"))
    parameters = trainable_parameters(adapted)
    optimizer = torch.optim.AdamW(parameters.values(), lr=1e-2, weight_decay=0.0)
    before = adapted(**batch).loss.item()
    adapted.train()
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        for _ in range(STEPS):
            optimizer.zero_grad()
            loss = adapted(**batch).loss
            balance = auxiliary_loss(adapted)
            (loss if balance is None else loss + balance).backward()
            optimizer.step()
    with torch.no_grad():
        after = adapted.eval()(**batch)
        assert after.loss.item() < 0.97 * before
        save_adapter(adapted, tmp_path / "adapter")
        loaded = load_adapter(build("llama", "tokens"), tmp_path / "adapter")(**batch)
    assert torch.equal(loaded.logits, after.logits)
