"""Tiny models of each family and task, a padded batch, and weights that make an adapter matter."""

from __future__ import annotations

import copy
import functools

import pytest
import torch
from transformers import AutoModelForCausalLM, AutoModelForSequenceClassification

CASES = (("bert", "labels"), ("llama", "labels"), ("llama", "tokens"), ("gpt2", "labels"), ("gpt2", "tokens"))


@pytest.fixture(params=CASES, ids="-".join)
def case(request) -> tuple[str, str]:
    return request.param


@pytest.fixture(scope="session")
def build(tiny_folders):
    """`build(family, task)`: a fresh model in eval mode, always with the same weights."""

    @functools.cache
    def original(family: str, task: str):
        auto = AutoModelForSequenceClassification if task == "labels" else AutoModelForCausalLM
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(7)
            return auto.from_pretrained(tiny_folders[family]).eval()

    def make(family: str, task: str = "labels"):
        return copy.deepcopy(original(family, task))

    return make


@pytest.fixture(scope="session")
def batch() -> dict[str, torch.Tensor]:
    """Three sequences of 12, 7 and 10 tokens, padded right."""
    draw = torch.Generator().manual_seed(3)
    ids = torch.randint(5, 40, (3, 12), generator=draw)
    mask = torch.ones_like(ids)
    mask[1, 7:] = 0
    mask[2, 10:] = 0
    return {"input_ids": ids.masked_fill(mask == 0, 0), "attention_mask": mask}


@pytest.fixture(scope="session")
def stir():
    """`stir(model)`: every trainable weight drawn wide, so that the adapter moves the logits."""

    def draw(model, *, seed: int = 11, std: float = 0.2):
        generator = torch.Generator().manual_seed(seed)
        with torch.no_grad():
            for parameter in model.parameters():
                if parameter.requires_grad:
                    parameter.copy_(torch.randn(parameter.shape, generator=generator) * std)
        return model

    return draw


@pytest.fixture(scope="session")
def logits(batch):
    def forward(model) -> torch.Tensor:
        with torch.no_grad():
            return model(**batch).logits

    return forward
