"""Every form of every strategy that `plan` calls exact, on the embedded SmolLM2, in stock transformers."""

import pytest
import torch
import transformers
from tests.portability.conftest import trained_form

from legion.neuro_architecture.data.base_models import resolve_base
from legion.neuro_architecture.portability import plan
from legion.neuro_architecture.portability.certificate import TOLERANCES, compare
from legion.neuro_architecture.portability.engines.contract import Question, Served
from legion.neuro_architecture.portability.engines.transformers_engine import TransformersEngine
from legion.neuro_architecture.portability.fold import fold
from legion.neuro_architecture.portability.matrix import family_facts, variants

pytestmark = [pytest.mark.engines, pytest.mark.assets]

FACTS = family_facts("llama")
CASES = {
    label: architecture.to_dict()
    for label, architecture in variants(FACTS).items()
    if plan(architecture, FACTS, "transformers").is_possible
}
# Untrained, half of the units left out ruin a real model: fp32 itself is then 2.4e-4 from fp64.
CASES["SparseRouting"] |= {"num_experts": 8, "top_k": 7}
# How far the trained weights are shaken: in products of three drawn factors, a small shake drowns in the tolerance.
STD = dict.fromkeys((name for name in CASES if "gated" in name), 0.05) | {"FourierFT": 0.1}
PROMPTS = ("The committee met on Tuesday and decided that", "def mean(values):\n    return sum(values) /")


@pytest.mark.parametrize("name", CASES)
def test_stock_transformers_computes_what_was_trained(embedded_home, measured, tmp_path, name):
    """Its logits reach 28, where fp32 itself is 3e-5 to 5e-5 from fp64: the bound is relative to the largest logit."""
    base = resolve_base("smollm2-135m", embedded_home)
    trained = trained_form(base, CASES[name], tmp_path / "adapter", kind="summarization", std=STD.get(name, 0.01))
    planned = plan(trained.architecture, trained.facts, "transformers")
    assert planned.verdict == "exact"
    encode = base.tokenizer().encode
    questions = [Question(token_ids=tuple(encode(prompt))) for prompt in PROMPTS]
    expected = trained.ask(questions)
    with trained.model.disable_adapter():
        bare = trained.ask(questions)
    (tmp_path / "out").mkdir()
    fold(trained, planned, tmp_path / "out", adapter_folder=tmp_path / "adapter")
    engine = TransformersEngine()
    (replies,) = engine.ask([(Served(model=tmp_path / "out"), questions)])
    comparison, effect = compare(expected, replies), compare(bare, expected).largest_difference
    tolerance = comparison.scaled(TOLERANCES["transformers"])
    case = f"smollm2-135m: {name}, {planned.form}, {comparison.quantity}"
    difference = comparison.largest_difference
    measured(engine.version(), case, difference=difference, tolerance=tolerance, effect=effect)
    assert comparison.is_same(TOLERANCES["transformers"])
    assert effect > 10 * tolerance  # there was something to lose


@pytest.mark.parametrize("name", ["LoRA", "Adapter, par, gated", "MoE, gated", "SplitLayer"])
def test_in_fp64_the_fold_is_within_1e_5_of_logits_that_reach_28(embedded_home, measured, tmp_path, name):
    """What is left of the difference is the rounding of the fp32 files, and of what transformers computes in fp32."""
    base = resolve_base("smollm2-135m", embedded_home)
    trained = trained_form(base, CASES[name], tmp_path / "adapter", kind="summarization", std=STD.get(name, 0.01))
    planned = plan(trained.architecture, trained.facts, "transformers")
    (tmp_path / "out").mkdir()
    fold(trained, planned, tmp_path / "out", adapter_folder=tmp_path / "adapter")
    experts = {"experts_implementation": "eager"} if planned.form in ("qwen2-moe", "mixtral") else {}
    stock = transformers.AutoModelForCausalLM.from_pretrained(
        tmp_path / "out", dtype=torch.float32, attn_implementation="eager", **experts
    )
    ids = [torch.tensor([base.tokenizer().encode(prompt)]) for prompt in PROMPTS]
    with torch.no_grad():
        answers = [
            [model(input_ids=row).logits[0, -1] for row in ids]
            for model in (trained.model.double(), stock.double().eval())
        ]
    difference = max(float((one - other).abs().max()) for one, other in zip(*answers, strict=True))
    case = f"smollm2-135m: {name}, {planned.form}, logits in fp64"
    measured(TransformersEngine().version(), case, difference=difference, tolerance=1e-5)
    assert answers[0][0].dtype == torch.float64
    assert difference <= 1e-5
