"""vLLM serves every fold and every LoRA folder as the trained form computes it: whole vocabulary, greedy tokens."""

from __future__ import annotations

import pytest
import torch
from safetensors.torch import load_file, save_file
from tests.parity.cases import HIDDEN_SIZE, cases
from tests.portability.conftest import trained_form

from legion.foundation.errors import EngineError
from legion.foundation.settings import Settings
from legion.neuro_architecture.data.base_models import resolve_base
from legion.neuro_architecture.portability import Form, Target, plan
from legion.neuro_architecture.portability.certificate import compare
from legion.neuro_architecture.portability.certify import ask_trained
from legion.neuro_architecture.portability.engines.contract import Question, Served
from legion.neuro_architecture.portability.fold import fold
from legion.testing import tiny_model

# One process of vLLM serves all artefacts of this file, some sixty of them at a few seconds each.
pytestmark = [pytest.mark.engines, pytest.mark.timeout(1800)]

TOLERANCE = 1e-4
# Without our folding: vLLM follows PEFT's scaling rules by itself.
PLAIN_FOLDER = "llama: a PEFT folder as it is"
CASES = cases("vllm") | {
    PLAIN_FOLDER: (
        "llama",
        {"strategy": "LoRA", "rank": 4, "use_rslora": True, "rank_pattern": {"q_proj": 2}, "layers": [1]},
    )
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
    for name, (family, config) in CASES.items():
        base = bases[family]
        trained = trained_form(base, config, root / name / "adapter", kind="summarization")
        target: Target = "peft" if name == PLAIN_FOLDER else "vllm"
        form: Form | None = "peft-adapter" if name == PLAIN_FOLDER else None
        planned = plan(trained.architecture, trained.facts, target, form=form)
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
def test_vllm_computes_what_was_trained(answered, vllm, measured, name):
    planned, answers, replies = answered[name]
    assert planned.verdict == "exact"
    comparison = compare(answers.replies, replies)
    effect = answers.reference.effect
    measured(vllm.version(), name, difference=comparison.largest_difference, tolerance=TOLERANCE, effect=effect)
    assert comparison.quantity == "logprobs"
    assert comparison.is_same(TOLERANCE)
    assert comparison.tail_difference <= TOLERANCE
    assert all(len(reply.logprobs) == len(full.logprobs) for reply, full in zip(replies, answers.replies, strict=True))
    assert effect > 100 * TOLERANCE  # there was something to lose


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
