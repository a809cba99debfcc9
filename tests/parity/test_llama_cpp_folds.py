"""Adapters of every kind, folded and written as GGUF, beside their trained form in llama-server."""

import pytest
from tests.portability.conftest import trained_form

from legion.foundation.settings import Settings
from legion.neuro_architecture.data.base_models import resolve_base
from legion.neuro_architecture.portability import plan
from legion.neuro_architecture.portability.artefact import GGUF_NAME
from legion.neuro_architecture.portability.certificate import TOLERANCES, compare
from legion.neuro_architecture.portability.certify import ask_trained
from legion.neuro_architecture.portability.engines.contract import Served
from legion.neuro_architecture.portability.engines.llama_cpp import LlamaCppEngine
from legion.neuro_architecture.portability.fold import fold
from legion.testing import tiny_model

pytestmark = pytest.mark.engines

GATED = {"bottleneck_size": 8, "is_gated": True, "non_linearity": "silu"}
MIXTURE = {"strategy": "MoE", **GATED}
CASES = {
    "lora": ("llama", {"strategy": "LoRA", "rank": 4, "use_rslora": True, "rank_pattern": {"q_proj": 2}}, "merged"),
    "dora": ("llama", {"strategy": "LoRA", "rank": 4, "use_dora": True}, "merged"),
    "oft": ("llama", {"strategy": "OFT"}, "merged"),
    "bottleneck": ("llama", {"strategy": "Adapter", **GATED}, "wider-ffn"),
    "bottleneck-plain": ("llama", {"strategy": "Adapter", "bottleneck_size": 8, "non_linearity": "silu"}, "wider-ffn"),
    "bottleneck-layer": ("llama", {"strategy": "Adapter", **GATED, "placement": "seq_layer"}, "extra-layers"),
    "random-experts": ("llama", {**MIXTURE, "num_experts": 4, "top_k": 1, "routing": "random"}, "wider-ffn"),
    "mixture-on-one-layer": ("llama", {**MIXTURE, "num_experts": 4, "layers": [1]}, "qwen2-moe"),
    "split": ("llama", {"strategy": "SplitLayer", "rank": 2}, "mixtral"),
    "sparse": ("llama", {"strategy": "SparseRouting", "rank": 2, "num_experts": 8, "top_k": 3}, "mixtral"),
    "gpt2-lora": ("gpt2", {"strategy": "LoRA", "rank": 4}, "merged"),
    "gpt2-bottleneck": ("gpt2", {"strategy": "Adapter", "bottleneck_size": 8}, "wider-ffn"),
    **{
        f"mixture-{experts}-{top_k}": ("llama", {**MIXTURE, "num_experts": experts, "top_k": top_k}, "qwen2-moe")
        for experts in (2, 4, 8)
        for top_k in (1, 2)
    },
}


@pytest.fixture(scope="module")
def bases(tmp_path_factory):
    root = tmp_path_factory.mktemp("bases")
    settings = Settings.load(workspace=root)
    return {
        family: resolve_base(str(tiny_model(root / family, family, hidden_size=64)), settings)
        for family in ("llama", "gpt2")
    }


@pytest.mark.parametrize("name", CASES)
def test_llama_server_computes_what_was_trained(llama_server, bases, tmp_path, name):
    family, config, form = CASES[name]
    base = bases[family]
    trained = trained_form(base, config, tmp_path / "adapter", kind="summarization")
    planned = plan(trained.architecture, trained.facts, "llama.cpp")
    assert (planned.form, planned.verdict) == (form, "bounded" if family == "gpt2" else "exact")
    answers = ask_trained(trained, base.tokenizer(), max_tokens=base.max_tokens)
    out = tmp_path / "out"
    out.mkdir()
    fold(trained, planned, out, adapter_folder=tmp_path / "adapter")
    assert [path.name for path in out.iterdir()] == [GGUF_NAME]
    engine = LlamaCppEngine(llama_server, version="tested")
    (replies,) = engine.ask([(Served(model=out / GGUF_NAME), answers.questions)])
    comparison = compare(answers.replies, replies)
    tolerance = planned.bound or TOLERANCES["llama.cpp"]
    assert comparison.largest_difference <= tolerance
    assert answers.reference.effect > 10 * tolerance
    if planned.bound is None:
        assert comparison.is_same(tolerance)
