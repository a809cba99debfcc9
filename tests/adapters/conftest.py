"""Tiny models of each family and task, one adapter of every kind, a padded batch, and weights that matter.

A test that takes `name` or `adapter` runs for every kind; with `case` beside it, on every model that the kind fits;
with `home`, on one of those.
"""

from __future__ import annotations

import copy
import functools

import pytest
import torch
from transformers import AutoModelForCausalLM, AutoModelForSequenceClassification

from legion.neuro_architecture.adapters import build_adapter
from legion.neuro_architecture.adapters.peft_methods import METHODS
from legion.neuro_architecture.spec.architecture import (
    PEFT_SIZES,
    AdapterArchitecture,
    CombinedArchitecture,
    LoRAArchitecture,
    MoEArchitecture,
    PeftArchitecture,
    SplitArchitecture,
    VirtualTokensArchitecture,
)

CASES = (("bert", "labels"), ("llama", "labels"), ("llama", "tokens"), ("gpt2", "labels"), ("gpt2", "tokens"))
ZOO = {
    "lora": LoRAArchitecture(rank=4, alpha=32, dropout=0.1, layers=(0, 1)),
    "lora-patterns": LoRAArchitecture(
        rank=4, use_rslora=True, rank_pattern={r"0\..*": 2}, alpha_pattern={".*(proj|dense)": 3.0}
    ),
    "dora": LoRAArchitecture(rank=4, use_dora=True),
    "par": AdapterArchitecture(bottleneck_size=8),
    "par-gated": AdapterArchitecture(bottleneck_size=8, non_linearity="silu", is_gated=True, layers=(0, 2)),
    "seq": AdapterArchitecture(bottleneck_size=8, non_linearity="relu", placement="seq", dropout=0.1),
    "seq-gated": AdapterArchitecture(bottleneck_size=8, placement="seq", is_gated=True),
    "seq_layer": AdapterArchitecture(bottleneck_size=8, placement="seq_layer"),
    "seq_layer-gated": AdapterArchitecture(bottleneck_size=8, placement="seq_layer", is_gated=True, layers=(0, 2)),
    "moe": MoEArchitecture(num_experts=4, top_k=2, bottleneck_size=4),
    "moe-gated": MoEArchitecture(num_experts=4, top_k=1, bottleneck_size=4, is_gated=True, load_balancing=False),
    "moe-random": MoEArchitecture(num_experts=3, top_k=1, bottleneck_size=4, routing="random"),
    "moe-random-gated": MoEArchitecture(num_experts=3, top_k=1, bottleneck_size=4, routing="random", is_gated=True),
    "split": SplitArchitecture(strategy="SplitLayer", rank=4),
    "sparse": SplitArchitecture(strategy="SparseRouting", rank=4, split="contiguous", layers=(0, 2)),
    **{
        method: PeftArchitecture(strategy=method, **({"rank": 4} if size == "rank" else {}))
        for method, size in PEFT_SIZES.items()
    },
    "prompt": VirtualTokensArchitecture(strategy="PromptTuning", num_virtual_tokens=4),
    "prefix": VirtualTokensArchitecture(strategy="PrefixTuning", num_virtual_tokens=4),
    "combined": CombinedArchitecture(boundary=2, rank=4, alpha=8, bottleneck_size=8, dropout=0.1),
    "combined-gated": CombinedArchitecture(
        first_layer=1, boundary=2, rank=2, bottleneck_size=8, non_linearity="silu", is_gated=True
    ),
    "combined-seq": CombinedArchitecture(rank=4, bottleneck_size=8, non_linearity="relu", placement="seq"),
    "combined-seq_layer": CombinedArchitecture(rank=4, bottleneck_size=8, placement="seq_layer"),
}


def fits(name: str, family: str, task: str) -> bool:
    match ZOO[name]:
        case AdapterArchitecture(placement="seq_layer") | CombinedArchitecture(placement="seq_layer"):
            return family != "bert"
        case SplitArchitecture():
            return family == "llama"
        case PeftArchitecture(strategy=strategy):
            return family != "gpt2" or METHODS[strategy].takes_transposed
        case VirtualTokensArchitecture():
            return task == "tokens"
    return True


def cases_of(name: str) -> list[tuple[str, str]]:
    """What the kind fits; for PEFT's methods one task of each family is enough."""
    cases = [case for case in CASES if fits(name, *case)]
    if name in METHODS:
        return [case for case in cases if (case[0] == "bert") == (case[1] == "labels")]
    return cases


def pytest_generate_tests(metafunc):
    fixtures = metafunc.fixturenames
    if "name" in fixtures and "case" in fixtures:
        pairs = [(name, case) for name in ZOO for case in cases_of(name)]
        metafunc.parametrize(("name", "case"), pairs, ids=["-".join((name, *case)) for name, case in pairs])
    elif "name" in fixtures:
        metafunc.parametrize("name", ZOO)
    elif "case" in fixtures:
        metafunc.parametrize("case", CASES, ids=["-".join(case) for case in CASES])


@pytest.fixture
def adapter(name):
    return build_adapter(ZOO[name])


@pytest.fixture
def home(name) -> tuple[str, str]:
    """A model that the adapter fits, not the same for all."""
    cases = cases_of(name)
    return cases[len(name) % len(cases)]


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
