"""Every form that `plan` calls exact, folded and loaded by unmodified transformers, beside the trained form."""

import subprocess
import sys

import pytest
import torch
from tests.portability.conftest import KINDS, trained_form

from legion.foundation.errors import NotPortableError
from legion.foundation.settings import Settings
from legion.neuro_architecture.data.base_models import resolve_base
from legion.neuro_architecture.portability import TARGETS, plan
from legion.neuro_architecture.portability.certificate import compare
from legion.neuro_architecture.portability.certify import ask_trained
from legion.neuro_architecture.portability.checkpoint import refuse_code, write_checkpoint
from legion.neuro_architecture.portability.engines.contract import Served
from legion.neuro_architecture.portability.engines.peft_engine import PeftEngine
from legion.neuro_architecture.portability.engines.transformers_engine import TransformersEngine
from legion.neuro_architecture.portability.fold import fold
from legion.neuro_architecture.portability.folds import (
    fold_extra_layers,
    fold_merged,
    fold_mixtral,
    fold_qwen2_moe,
    fold_wider_ffn,
)
from legion.neuro_architecture.portability.matrix import FAMILIES, family_facts, variants
from legion.neuro_architecture.space.validity import find_mistakes

TOLERANCE = 1e-5
# Methods whose few trained numbers must be drawn wider to move the logits of a real model visibly.
WEAK = frozenset({"FourierFT", "WaveFT", "RandLoRA"})
FOLDS = {fold.__name__: fold for fold in (fold_merged, fold_wider_ffn, fold_extra_layers, fold_qwen2_moe, fold_mixtral)}


def _cases():
    for family in FAMILIES:
        facts = family_facts(family)
        for label, architecture in variants(facts).items():
            planned = plan(architecture, facts, "transformers")
            if planned.is_possible:
                yield pytest.param(family, architecture.to_dict(), planned.form, id=f"{family}-{label}")


PLAIN = {"strategy": "Adapter", "bottleneck_size": 5, "non_linearity": "silu"}
MIXTURE = {"strategy": "MoE", "bottleneck_size": 5, "is_gated": True, "non_linearity": "silu"}
PATTERNS = {"rank_pattern": {"q_proj": 2}, "alpha_pattern": {"v_proj": 3.0}}
COMBINED = {"strategy": "Combined", "rank": 3, "bottleneck_size": 5, "non_linearity": "silu"}
SUBSETS = [
    ("llama", {"strategy": "LoRA", "rank": 4, "layers": [0, 2], "target_modules": ["q_proj", "down_proj"]}, "merged"),
    ("llama", {"strategy": "LoRA", "rank": 4, **PATTERNS}, "merged"),
    ("llama", {**PLAIN, "layers": [1]}, "wider-ffn"),
    ("llama", {**PLAIN, "placement": "seq_layer", "layers": [0, 2]}, "extra-layers"),
    ("llama", {**MIXTURE, "num_experts": 3, "layers": [1]}, "qwen2-moe"),
    ("llama", {**MIXTURE, "num_experts": 16, "top_k": 1}, "qwen2-moe"),
    ("llama", {"strategy": "SplitLayer", "num_experts": 8, "rank": 2, "split": "contiguous", "layers": [2]}, "mixtral"),
    ("llama", {"strategy": "SparseRouting", "num_experts": 8, "top_k": 3, "rank": 2}, "mixtral"),
    ("gpt2", {"strategy": "Adapter", "bottleneck_size": 5, "placement": "seq_layer", "layers": [2]}, "extra-layers"),
    ("bert", {"strategy": "Adapter", "bottleneck_size": 5, "layers": [0]}, "wider-ffn"),
    ("llama", {**COMBINED, "first_layer": 1, "boundary": 2, "target_modules": ["q_proj", "down_proj"]}, "wider-ffn"),
    ("llama", {**COMBINED, "boundary": 2, "placement": "seq_layer"}, "extra-layers"),
    ("gpt2", {**COMBINED, "boundary": 2, "non_linearity": "gelu"}, "wider-ffn"),
    ("bert", {**COMBINED, "boundary": 2, "non_linearity": "gelu"}, "wider-ffn"),
]


def _fold_and_compare(base, config, form, tmp_path, *, kind, std=0.1):
    trained = trained_form(base, config, tmp_path / "adapter", kind=kind, std=std)
    planned = plan(trained.architecture, trained.facts, "transformers")
    assert planned.form == form
    answers = ask_trained(trained, base.tokenizer(), max_tokens=base.max_tokens)
    out = tmp_path / "out"
    out.mkdir()
    fold(trained, planned, out, adapter_folder=tmp_path / "adapter")
    refuse_code(out)
    (replies,) = TransformersEngine().ask([(Served(model=out), answers.questions)])
    return compare(answers.replies, replies), answers.reference.effect


@pytest.mark.parametrize(("family", "config", "form"), [*_cases(), *SUBSETS])
def test_what_plan_calls_exact_computes_the_same_in_stock_transformers(tiny_bases, tmp_path, family, config, form):
    comparison, effect = _fold_and_compare(tiny_bases[family], config, form, tmp_path, kind=KINDS[family])
    assert comparison.quantity == "logits"
    assert comparison.largest_difference <= TOLERANCE
    assert comparison.is_same(TOLERANCE)
    assert effect > 1_000 * TOLERANCE  # there was something to lose


IMPOSSIBLE = [
    pytest.param(family, architecture.to_dict(), target, id=f"{family}-{label}-{target}")
    for family in FAMILIES
    for label, architecture in variants(family_facts(family)).items()
    for target in TARGETS
    if not plan(architecture, family_facts(family), target).is_possible
    and not find_mistakes(architecture, family_facts(family).anatomy)
    and not (family == "bert" and target in {"vllm", "llama.cpp", "ollama"})
]


@pytest.mark.parametrize(("family", "config", "target"), IMPOSSIBLE)
def test_what_plan_calls_impossible_is_refused_with_its_reason(tiny_bases, tmp_path, family, config, target):
    trained = trained_form(tiny_bases[family], config, tmp_path / "adapter", kind=KINDS[family])
    planned = plan(trained.architecture, trained.facts, target)
    assert not planned.is_possible
    (tmp_path / "out").mkdir()
    with pytest.raises(NotPortableError) as caught:
        fold(trained, planned, tmp_path / "out", adapter_folder=tmp_path / "adapter")
    assert caught.value.cause == planned.reason
    assert list((tmp_path / "out").iterdir()) == []


@pytest.mark.parametrize(
    ("family", "config"), [case.values[:2] for case in IMPOSSIBLE if case.values[2] == "transformers"]
)
def test_no_fold_that_there_is_would_have_served_what_plan_calls_impossible(tiny_bases, tmp_path, family, config):
    """Every fold is tried in spite of the plan: it refuses by itself, or stock transformers computes something else."""
    base = tiny_bases[family]
    trained = trained_form(base, config, tmp_path / "adapter", kind=KINDS[family])
    answers = ask_trained(trained, base.tokenizer(), max_tokens=base.max_tokens)
    for form, make in FOLDS.items():
        try:
            checkpoint = make(trained)
        except NotPortableError:
            continue
        write_checkpoint(checkpoint, tmp_path / form, tokenizer_from=base.folder)
        (replies,) = TransformersEngine().ask([(Served(model=tmp_path / form), answers.questions)])
        assert not compare(answers.replies, replies).is_same(100 * TOLERANCE), form


def test_stock_peft_has_no_tuner_for_what_plan_calls_impossible_there(tiny_bases, tmp_path):
    """In a process that never saw ours."""
    at_peft = [case.values for case in IMPOSSIBLE if case.values[0] == "llama" and case.values[2] == "peft"]
    kinds = {config["strategy"]: config for _, config, _ in at_peft}
    for name, config in kinds.items():
        trained_form(tiny_bases["llama"], config, tmp_path / name, kind="summarization")
    program = (
        "import sys, peft\nfor folder in sys.argv[1:]:\n    try:\n        peft.PeftConfig.from_pretrained(folder)\n"
        "    except (KeyError, ValueError, TypeError) as error:\n        print(folder)\n"
    )
    command = [sys.executable, "-I", "-c", program, *(str(tmp_path / name) for name in kinds)]
    refused = subprocess.run(command, capture_output=True, text=True, check=True).stdout.split()
    assert refused == [str(tmp_path / name) for name in kinds]
    assert set(kinds) == {"Adapter", "MoE", "SplitLayer", "SparseRouting", "Combined"}


@pytest.mark.parametrize(
    ("family", "config"),
    [
        pytest.param(family, architecture.to_dict(), id=f"{family}-{label}")
        for family in FAMILIES
        for label, architecture in variants(family_facts(family)).items()
        if plan(architecture, family_facts(family), "peft").is_possible
    ],
)
def test_what_plan_calls_exact_computes_the_same_in_stock_peft(tiny_bases, tmp_path, family, config):
    base = tiny_bases[family]
    trained = trained_form(base, config, tmp_path / "adapter", kind=KINDS[family])
    planned = plan(trained.architecture, trained.facts, "peft")
    answers = ask_trained(trained, base.tokenizer(), max_tokens=base.max_tokens)
    (tmp_path / "out").mkdir()
    fold(trained, planned, tmp_path / "out", adapter_folder=tmp_path / "adapter")
    (replies,) = PeftEngine().ask([(Served(model=base.folder, adapter=tmp_path / "out"), answers.questions)])
    assert compare(answers.replies, replies).is_same(TOLERANCE)


def test_a_bounded_fold_states_what_it_loses(tiny_bases, tmp_path):
    base = tiny_bases["llama"]
    trained = trained_form(
        base, {"strategy": "LoRA", "rank": 4, "use_dora": True}, tmp_path / "a", kind="summarization"
    )
    planned = plan(trained.architecture, trained.facts, "peft", form="canonical-lora")
    assert planned.verdict == "bounded"
    errors = {}
    for rank in (2, 4):
        (tmp_path / str(rank)).mkdir()
        errors[rank] = fold(trained, planned, tmp_path / str(rank), adapter_folder=tmp_path / "a", max_lora_rank=rank)
        assert len(errors[rank]) == 21  # seven linears in each of three blocks
    assert all(errors[2][path] > error > 1e-3 for path, error in errors[4].items())


def test_a_fold_leaves_the_trained_form_as_it_is(tiny_bases, tmp_path):
    config = {"strategy": "LoRA", "rank": 4}
    trained = trained_form(tiny_bases["llama"], config, tmp_path / "adapter", kind="summarization")
    before = {name: weight.clone() for name, weight in trained.model.state_dict().items()}
    (tmp_path / "out").mkdir()
    planned = plan(trained.architecture, trained.facts, "transformers")
    fold(trained, planned, tmp_path / "out", adapter_folder=tmp_path / "adapter")
    assert all(torch.equal(weight, before[name]) for name, weight in trained.model.state_dict().items())


@pytest.mark.assets
@pytest.mark.parametrize(("family", "config", "form"), [case for case in _cases() if case.values[0] == "bert"])
def test_the_embedded_classifier_folds_exactly(family, config, form, embedded_home, tmp_path):
    model = resolve_base("minilm-l6", embedded_home)
    std = 0.1 if config["strategy"] in WEAK else 0.02
    comparison, effect = _fold_and_compare(model, config, form, tmp_path, kind=KINDS[family], std=std)
    assert comparison.is_same(TOLERANCE)
    assert effect > 1_000 * TOLERANCE


@pytest.mark.assets
@pytest.mark.parametrize(
    ("config", "form"),
    [
        ({"strategy": "LoRA"}, "merged"),
        ({"strategy": "Adapter", "is_gated": True, "non_linearity": "silu"}, "wider-ffn"),
        ({"strategy": "MoE", "num_experts": 4, "is_gated": True, "non_linearity": "silu"}, "qwen2-moe"),
        ({"strategy": "SplitLayer"}, "mixtral"),
    ],
)
def test_the_embedded_causal_model_folds_within_the_rounding_of_fp32(config, form, tmp_path):
    """Its logits reach 28, where fp32 itself is 3e-5 to 5e-5 from fp64: the bound is relative to the largest logit."""
    model = resolve_base("smollm2-135m", Settings.load(workspace=tmp_path))
    comparison, _ = _fold_and_compare(model, config, form, tmp_path, kind="summarization", std=0.01)
    assert comparison.is_same(TOLERANCE)
    assert comparison.largest_difference <= 1e-4
