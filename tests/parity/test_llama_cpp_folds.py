"""Adapters of every kind, folded and written as GGUF, beside their trained form in llama-server."""

import pytest
from tests.parity.cases import HIDDEN_SIZE, cases
from tests.portability.conftest import trained_form

from legion.foundation.settings import Settings
from legion.neuro_architecture.data.base_models import resolve_base
from legion.neuro_architecture.portability import plan
from legion.neuro_architecture.portability.artefact import GGUF_NAME
from legion.neuro_architecture.portability.certificate import TOLERANCES, compare
from legion.neuro_architecture.portability.certify import ask_trained
from legion.neuro_architecture.portability.engines.contract import Served
from legion.neuro_architecture.portability.fold import fold
from legion.testing import tiny_model

pytestmark = pytest.mark.engines


@pytest.fixture(scope="module")
def bases(tmp_path_factory):
    root = tmp_path_factory.mktemp("bases")
    settings = Settings.load(workspace=root)
    return {
        family: resolve_base(str(tiny_model(root / family, family, hidden_size=HIDDEN_SIZE)), settings)
        for family in ("llama", "gpt2")
    }


@pytest.mark.parametrize("name", cases("llama.cpp"))
def test_llama_server_computes_what_was_trained(llama_engine, bases, measured, tmp_path, name):
    family, config = cases("llama.cpp")[name]
    base = bases[family]
    trained = trained_form(base, config, tmp_path / "adapter", kind="summarization")
    planned = plan(trained.architecture, trained.facts, "llama.cpp")
    assert planned.verdict == ("bounded" if family == "gpt2" else "exact")
    answers = ask_trained(trained, base.tokenizer(), max_tokens=base.max_tokens)
    out = tmp_path / "out"
    out.mkdir()
    fold(trained, planned, out, adapter_folder=tmp_path / "adapter")
    assert [path.name for path in out.iterdir()] == [GGUF_NAME]
    (replies,) = llama_engine.ask([(Served(model=out / GGUF_NAME), answers.questions)])
    comparison = compare(answers.replies, replies)
    tolerance, effect = planned.bound or TOLERANCES["llama.cpp"], answers.reference.effect
    difference = comparison.largest_difference
    measured(llama_engine.version(), name, difference=difference, tolerance=tolerance, effect=effect)
    assert difference <= tolerance
    assert effect > tolerance  # there was something to lose
    if planned.bound is None:
        assert comparison.is_same(tolerance)
        assert comparison.tail_difference <= tolerance
