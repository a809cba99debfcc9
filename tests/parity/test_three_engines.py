"""SmolLM2 with adapters that were really trained: the same greedy tokens in transformers, vLLM and llama-server."""

import pytest
import torch

from legion.neuro_architecture.adapters import auxiliary_loss, build_adapter, save_adapter, trainable_parameters
from legion.neuro_architecture.data.base_models import resolve_base
from legion.neuro_architecture.portability import plan
from legion.neuro_architecture.portability.artefact import GGUF_NAME
from legion.neuro_architecture.portability.certificate import TOLERANCES, compare
from legion.neuro_architecture.portability.engines.contract import Question, Served
from legion.neuro_architecture.portability.engines.transformers_engine import TransformersEngine
from legion.neuro_architecture.portability.fold import fold
from legion.neuro_architecture.portability.trained import load_trained
from legion.neuro_architecture.spec.architecture import parse_architecture
from legion.neuro_architecture.spec.task import TaskSpec

pytestmark = [pytest.mark.engines, pytest.mark.assets]

CONFIGS = {
    "lora": {"strategy": "LoRA", "rank": 8},
    "mixture": {
        "strategy": "MoE",
        "num_experts": 4,
        "bottleneck_size": 16,
        "is_gated": True,
        "non_linearity": "silu",
    },
}
TAUGHT = (
    "The harbour master reports that every ship in the bay carries a green lantern tonight.",
    "The harbour master reports that the fishing fleet returned with silver herring and cold hands.",
    "The harbour master reports that no storm is expected before the next full moon.",
)
PROMPTS = ("The harbour master reports that", "In 1969 two people walked on the Moon", "The committee decided")
NUM_TOKENS = 12
NUM_STEPS = 20
LEARNING_RATES = {"lora": 2e-3, "mixture": 1e-2}  # a mixture's experts start from nothing behind a fresh router


def _train(base, architecture, folder, *, learning_rate):
    """A few steps of AdamW on three sentences; returns the losses of the first and the last."""
    model = build_adapter(architecture).apply(base.load(TaskSpec(name="t", kind="summarization")), seed=0).train()
    tokenizer = base.tokenizer()
    batch = tokenizer(list(TAUGHT), return_tensors="pt", padding=True)
    labels = batch["input_ids"].masked_fill(batch["attention_mask"] == 0, -100)
    optimizer = torch.optim.AdamW(trainable_parameters(model).values(), lr=learning_rate)
    losses = []
    for _ in range(NUM_STEPS):
        loss = model(**batch, labels=labels).loss
        losses.append(float(loss.detach()))
        auxiliary = auxiliary_loss(model)
        (loss if auxiliary is None else loss + auxiliary).backward()
        optimizer.step()
        optimizer.zero_grad()
    save_adapter(model.eval(), folder, base=base.reference)
    return losses[0], losses[-1]


@pytest.mark.parametrize("name", CONFIGS)
def test_a_trained_adapter_writes_the_same_text_everywhere(vllm, llama_engine, embedded_home, measured, tmp_path, name):
    base = resolve_base("smollm2-135m", embedded_home)
    architecture = parse_architecture(CONFIGS[name])
    first, last = _train(base, architecture, tmp_path / "adapter", learning_rate=LEARNING_RATES[name])
    assert last < 0.8 * first
    trained = load_trained(tmp_path / "adapter", base, kind="summarization")
    encode = base.tokenizer().encode
    questions = [Question(token_ids=tuple(encode(prompt)), num_tokens=NUM_TOKENS) for prompt in PROMPTS]
    expected = trained.ask(questions)
    with trained.model.disable_adapter():
        bare = trained.ask(questions[:1])
    assert expected[0].tokens != bare[0].tokens  # training shows
    engines = {"transformers": TransformersEngine(), "vllm": vllm, "llama.cpp": llama_engine}
    for target, engine in engines.items():
        planned = plan(architecture, trained.facts, target)
        assert planned.verdict == "exact"
        out = tmp_path / target
        out.mkdir()
        fold(trained, planned, out, adapter_folder=tmp_path / "adapter")
        served = Served(model=base.folder, adapter=out) if planned.form == "canonical-lora" else Served(model=out)
        served = Served(model=out / GGUF_NAME) if target == "llama.cpp" else served
        (replies,) = engine.ask([(served, questions)])
        assert [reply.tokens for reply in replies] == [reply.tokens for reply in expected], target
        comparison = compare(expected, replies)
        tolerance = comparison.scaled(TOLERANCES[target])
        case = f"smollm2-135m: {name}, {planned.form}, {comparison.quantity}"
        measured(engine.version(), case, difference=comparison.largest_difference, tolerance=tolerance)
        assert comparison.is_same(TOLERANCES[target]), (target, comparison)
