"""vLLM serves every fold and every LoRA folder as the trained form computes it: whole vocabulary, greedy tokens."""

from __future__ import annotations

import pytest
import torch
from safetensors.torch import load_file, save_file
from tests.portability.conftest import trained_form

from legion.foundation.errors import EngineError
from legion.foundation.settings import Settings
from legion.neuro_architecture.data.base_models import resolve_base
from legion.neuro_architecture.portability import plan
from legion.neuro_architecture.portability.certificate import compare
from legion.neuro_architecture.portability.certify import ask_trained
from legion.neuro_architecture.portability.engines.contract import Question, Served
from legion.neuro_architecture.portability.engines.transformers_engine import TransformersEngine
from legion.neuro_architecture.portability.fold import fold
from legion.testing import tiny_model

# One process of vLLM serves all artefacts of this file, some twenty of them at five to ten seconds each.
pytestmark = [pytest.mark.engines, pytest.mark.timeout(1800)]

TOLERANCE = 1e-4
HIDDEN_SIZE = 128  # four heads of 32, the narrowest that vLLM's attention on a processor takes
GATED = {"is_gated": True, "non_linearity": "silu"}
ADAPTER = {"strategy": "Adapter", "bottleneck_size": 8}
MIXTURE = {"strategy": "MoE", "bottleneck_size": 8, **GATED}
CASES = {
    "lora": ("llama", {"strategy": "LoRA", "rank": 4}, "canonical-lora"),
    "lora-patterns": (
        "llama",
        {
            "strategy": "LoRA",
            "rank": 4,
            "use_rslora": True,
            "rank_pattern": {"q_proj": 2},
            "alpha_pattern": {"v_proj": 3.0},
        },
        "canonical-lora",
    ),
    "lora-layers": (
        "llama",
        {"strategy": "LoRA", "rank": 4, "layers": [0, 2], "target_modules": ["q_proj", "down_proj"]},
        "canonical-lora",
    ),
    # Without our folding: vLLM follows PEFT's scaling rules by itself.
    "peft-folder": (
        "llama",
        {"strategy": "LoRA", "rank": 4, "use_rslora": True, "rank_pattern": {"q_proj": 2}, "layers": [1]},
        "peft-adapter",
    ),
    "dora": ("llama", {"strategy": "LoRA", "rank": 4, "use_dora": True}, "merged"),
    "gated": ("llama", {**ADAPTER, **GATED}, "wider-ffn"),
    "plain": ("llama", {**ADAPTER, "non_linearity": "silu"}, "wider-ffn"),
    "odd-width": ("llama", {**ADAPTER, **GATED, "bottleneck_size": 5}, "wider-ffn"),
    "seq_layer": ("llama", {**ADAPTER, **GATED, "placement": "seq_layer"}, "extra-layers"),
    "gpt2": ("gpt2", ADAPTER, "wider-ffn"),
    "averaged": ("llama", {**MIXTURE, "routing": "random", "top_k": 1}, "wider-ffn"),
    "split": ("llama", {"strategy": "SplitLayer", "rank": 2}, "mixtral"),
    "sparse": ("llama", {"strategy": "SparseRouting", "rank": 2, "num_experts": 8, "top_k": 3}, "mixtral"),
    "mixture-odd-width": ("llama", {**MIXTURE, "num_experts": 3, "bottleneck_size": 5}, "qwen2-moe"),
    **{
        f"mixture-{experts}-{top_k}": (
            "llama",
            {**MIXTURE, "num_experts": experts, "top_k": top_k},
            "qwen2-moe",
        )
        for experts in (2, 4, 8)
        for top_k in (1, 2)
    },
}


@pytest.fixture(scope="module")
def bases(tmp_path_factory):
    root = tmp_path_factory.mktemp("bases")
    settings = Settings.load(workspace=root)
    return {
        family: resolve_base(str(tiny_model(root / family, family, hidden_size=HIDDEN_SIZE)), settings)
        for family in ("llama", "gpt2")
    }


@pytest.fixture(scope="module")
def answered(vllm, bases, tmp_path_factory):
    """For each case: the form it took, what was expected, what vLLM said, and the adapter's own effect."""
    root = tmp_path_factory.mktemp("artefacts")
    jobs, expected = [], {}
    for name, (family, config, form) in CASES.items():
        base = bases[family]
        trained = trained_form(base, config, root / name / "adapter", kind="summarization")
        is_plain = form == "peft-adapter"
        planned = plan(trained.architecture, trained.facts, "peft" if is_plain else "vllm", form=form)
        answers = ask_trained(trained, base.tokenizer(), max_tokens=base.max_tokens)
        out = root / name / "out"
        out.mkdir()
        fold(trained, planned, out, adapter_folder=root / name / "adapter")
        jobs.append((_served(planned.form, base, out), answers.questions))
        expected[name] = (planned, answers)
    replies = vllm.ask(jobs)
    return {name: (*expected[name], found) for name, found in zip(expected, replies, strict=True)}


def _served(form, base, out) -> Served:
    if form in ("canonical-lora", "peft-adapter"):
        return Served(model=base.folder, adapter=out)
    return Served(model=out)


@pytest.mark.parametrize("name", CASES)
def test_vllm_computes_what_was_trained(answered, name):
    planned, answers, replies = answered[name]
    assert (planned.form, planned.verdict) == (CASES[name][2], "exact")
    comparison = compare(answers.replies, replies)
    assert comparison.quantity == "logprobs"
    assert comparison.is_same(TOLERANCE)
    assert all(len(reply.logprobs) == len(full.logprobs) for reply, full in zip(replies, answers.replies, strict=True))
    assert answers.reference.effect > 100 * TOLERANCE  # there was something to lose


def test_what_vllm_cannot_compute_is_an_error_with_its_own_words(vllm, tmp_path):
    narrow = tiny_model(tmp_path / "narrow", "llama")  # heads of 8
    with pytest.raises(EngineError, match="vLLM refused") as caught:
        vllm.ask([(Served(model=narrow), [Question(token_ids=(5, 9, 14))])])
    assert "head_dim=8" in caught.value.cause


def test_adapter_without_effect_is_an_error(vllm, bases, tmp_path):
    """What vLLM ignores, or what was never trained, must not pass for served."""
    trained_form(bases["llama"], {"strategy": "LoRA", "rank": 4}, tmp_path / "adapter", kind="summarization")
    weights = tmp_path / "adapter" / "adapter_model.safetensors"
    tensors = {
        name: torch.zeros_like(weight) if "lora_B" in name else weight for name, weight in load_file(weights).items()
    }
    save_file(tensors, weights)
    with pytest.raises(EngineError, match="has no effect"):
        vllm.ask([(Served(model=bases["llama"].folder, adapter=tmp_path / "adapter"), [Question(token_ids=(5, 9))])])


@pytest.mark.assets
def test_the_embedded_model_gives_the_same_greedy_tokens(vllm, embedded_home, tmp_path):
    base = resolve_base("smollm2-135m", embedded_home)
    configs = {
        "lora": {"strategy": "LoRA", "rank": 8},
        "mixture": {**MIXTURE, "num_experts": 4, "bottleneck_size": 16},
    }
    jobs, expected = [], []
    for name, config in configs.items():
        trained = trained_form(base, config, tmp_path / name / "adapter", kind="summarization", std=0.02)
        planned = plan(trained.architecture, trained.facts, "vllm")
        (tmp_path / name / "out").mkdir()
        fold(trained, planned, tmp_path / name / "out", adapter_folder=tmp_path / name / "adapter")
        ids = base.tokenizer().encode("The committee met on Tuesday and decided, after a long debate, that")
        questions = [Question(token_ids=tuple(ids), num_tokens=12)]
        out = tmp_path / name / "out"
        jobs.append((_served(planned.form, base, out), questions))
        expected.append(trained.ask(questions))
    for wanted, found, (served, questions) in zip(expected, vllm.ask(jobs), jobs, strict=True):
        comparison = compare(wanted, found)
        assert comparison.largest_difference <= TOLERANCE
        assert found[0].tokens == wanted[0].tokens
        if served.adapter is None:
            (stock,) = TransformersEngine().ask([(served, questions)])
            assert stock[0].tokens == found[0].tokens
