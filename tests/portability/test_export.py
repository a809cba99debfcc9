import dataclasses
import json
import shlex

import pytest
import torch
from safetensors.torch import load_file, save_file
from tests.portability.conftest import KINDS, LABELS, shaken_adapter

from legion.foundation.errors import (
    AdapterError,
    EngineError,
    IntegrityError,
    NotPortableError,
    ParityError,
    UsageError,
)
from legion.neuro_architecture.data.base_models import resolve_base
from legion.neuro_architecture.portability.artefact import (
    CARD_NAME,
    CERTIFICATE_NAME,
    GGUF_NAME,
    MODELFILE_NAME,
    REFERENCE_NAME,
    read_artefact,
)
from legion.neuro_architecture.portability.card import Origin
from legion.neuro_architecture.portability.checkpoint import refuse_code
from legion.neuro_architecture.portability.engines.transformers_engine import TransformersEngine
from legion.neuro_architecture.portability.export import export_adapter, plan_folder
from legion.neuro_architecture.portability.recertify import recertify
from legion.neuro_architecture.spec.architecture import parse_architecture
from legion.testing import tiny_model

UNITS = {"eval_accuracy": "share"}
ORIGIN = Origin(name="tiny", task="tiny", data_digest="sha256:1", metrics={"eval_accuracy": 0.75}, units=UNITS)
MISSING = "it is not installed here: legion engines install vllm"


class WrongEngine:
    """A real engine whose numbers are moved by a little."""

    target = "transformers"

    def __init__(self, gap):
        self.gap = gap

    def version(self):
        return "wrong 1.0"

    def ask(self, jobs):
        return [
            [dataclasses.replace(reply, logits=tuple(x + self.gap for x in reply.logits)) for reply in replies]
            for replies in TransformersEngine().ask(jobs)
        ]


@pytest.fixture(scope="module")
def adapters(tiny_bases, tmp_path_factory):
    root = tmp_path_factory.mktemp("adapters")
    made = {}
    for family, config in (
        ("llama", {"strategy": "LoRA", "rank": 12}),
        ("bert", {"strategy": "Adapter", "bottleneck_size": 8}),
    ):
        made[family] = shaken_adapter(tiny_bases[family], parse_architecture(config), root / family, kind=KINDS[family])
    return made


def _export(tiny_bases, adapters, settings, family, target, out, **options):
    options = {"labels": LABELS if family == "bert" else (), "kind": KINDS[family], "origin": ORIGIN} | options
    return export_adapter(adapters[family], tiny_bases[family], target, out, settings=settings, **options)


@pytest.mark.parametrize(("family", "target"), [("llama", "transformers"), ("bert", "transformers"), ("llama", "peft")])
def test_an_export_is_certified_described_and_can_be_certified_again(
    tiny_bases, adapters, settings, tmp_path, family, target
):
    exported = _export(tiny_bases, adapters, settings, family, target, tmp_path / "out")
    assert exported.certificate.verdict == "same"
    assert exported.certificate.largest_difference <= exported.certificate.tolerance
    assert json.loads((tmp_path / "out" / CERTIFICATE_NAME).read_text()) == exported.certificate.to_dict()
    card = (tmp_path / "out" / CARD_NAME).read_text()
    for said in (tiny_bases[family].reference.digest, "sha256:1", "0.75 share", "**same**", exported.serving[0]):
        assert said in card
    again = recertify(tmp_path / "out", settings)
    assert again.verdict == "same"
    assert again.inputs_digest == exported.certificate.inputs_digest
    refuse_code(tmp_path / "out")


def test_a_proof_that_says_little_says_so(tiny_bases, settings, tmp_path):
    lora = parse_architecture({"strategy": "LoRA", "rank": 4})
    base = tiny_bases["llama"]
    faint = {"llama": shaken_adapter(base, lora, tmp_path / "faint", kind="summarization", std=1e-6)}
    exported = _export(tiny_bases, faint, settings, "llama", "transformers", tmp_path / "out")
    assert exported.certificate.verdict == "same"
    assert exported.certificate.effect < 1e-4
    assert not exported.certificate.is_telling
    assert "this proof says little" in (tmp_path / "out" / CARD_NAME).read_text()


def test_a_target_that_cannot_take_the_plan_is_refused(tiny_bases, adapters, settings, tmp_path):
    with pytest.raises(NotPortableError, match="peft cannot serve this adapter") as caught:
        _export(tiny_bases, adapters, settings, "bert", "peft", tmp_path / "out")
    assert caught.value.exit_code == 1
    assert not (tmp_path / "out").exists()


def test_an_engine_that_answers_wrongly_publishes_nothing(tiny_bases, adapters, settings, tmp_path):
    with pytest.raises(ParityError, match=r"wrong 1\.0 does not compute what was trained") as caught:
        _export(tiny_bases, adapters, settings, "llama", "transformers", tmp_path / "out", engine=WrongEngine(0.01))
    assert caught.value.exit_code == 1
    assert not (tmp_path / "out").exists()
    assert list(tmp_path.glob(".out*")) == []


def test_an_engine_that_is_not_here_is_said_loudly(tiny_bases, adapters, settings, tmp_path):
    exported = _export(tiny_bases, adapters, settings, "llama", "transformers", tmp_path / "out", engine=MISSING)
    assert exported.certificate is None
    assert exported.reason == MISSING
    assert f"**Not certified**: {MISSING}" in (tmp_path / "out" / CARD_NAME).read_text()
    assert not (tmp_path / "out" / CERTIFICATE_NAME).exists()


def test_a_proof_that_is_made_later_stands_in_the_card(tiny_bases, adapters, settings, tmp_path):
    _export(tiny_bases, adapters, settings, "llama", "transformers", tmp_path / "out", engine=MISSING)
    before = (tmp_path / "out" / CARD_NAME).read_text()
    certificate = recertify(tmp_path / "out", settings)
    after = (tmp_path / "out" / CARD_NAME).read_text()
    assert "Not certified" not in after
    assert f"{certificate.largest_difference:.2g}" in after
    assert certificate.created_at in after
    head, heading, _ = before.partition("## Parity")
    assert after.startswith(head + heading)
    (tmp_path / "out" / CARD_NAME).write_text("a card of mine")
    recertify(tmp_path / "out", settings)
    assert (tmp_path / "out" / CARD_NAME).read_text() == "a card of mine"


def test_serving_commands_are_words_of_a_shell_whatever_the_folder_is_called(tiny_bases, adapters, settings, tmp_path):
    out = tmp_path / "my best model"
    exported = _export(tiny_bases, adapters, settings, "llama", "llama.cpp", out, engine=MISSING)
    assert str(out / GGUF_NAME) in shlex.split(exported.serving[0])


def test_an_export_to_ollama_holds_a_gguf_and_its_modelfile(tiny_bases, adapters, settings, tmp_path):
    exported = _export(tiny_bases, adapters, settings, "llama", "ollama", tmp_path / "out", engine=MISSING)
    assert (tmp_path / "out" / MODELFILE_NAME).read_text().startswith(f"FROM ./{GGUF_NAME}")
    assert set(exported.record.files) == {GGUF_NAME, MODELFILE_NAME, REFERENCE_NAME}
    assert exported.certificate is None
    assert exported.serving[0].startswith("ollama create tiny -f ")


def test_an_adapter_of_another_base_is_refused(tiny_bases, adapters, settings, tmp_path):
    other = resolve_base(str(tiny_model(tmp_path / "other", "llama", seed=1)), settings)
    with pytest.raises(AdapterError, match="was not made for"):
        plan_folder(adapters["llama"], other, "transformers", kind="summarization")
    with pytest.raises(AdapterError, match="was not made for"):
        _export(tiny_bases | {"llama": other}, adapters, settings, "llama", "transformers", tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_a_rank_above_the_servers_maximum_is_refused(tiny_bases, adapters, settings, tmp_path):
    with pytest.raises(NotPortableError) as caught:
        _export(
            tiny_bases, adapters, settings, "llama", "vllm", tmp_path / "out", form="canonical-lora", max_lora_rank=8
        )
    assert caught.value.exit_code == 1
    assert "attention heads" in caught.value.cause or "rank 12" in caught.value.cause


@pytest.fixture
def damaged(adapters, tmp_path):
    import shutil

    return {"llama": shutil.copytree(adapters["llama"], tmp_path / "damaged")}


def test_a_weight_that_is_not_a_number_is_refused(tiny_bases, damaged, settings, tmp_path):
    path = damaged["llama"] / "adapter_model.safetensors"
    tensors = load_file(path)
    name = min(tensors)
    tensors[name][0, 0] = torch.nan
    save_file(tensors, path)
    with pytest.raises(AdapterError, match="NaN"):
        _export(tiny_bases, damaged, settings, "llama", "transformers", tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_a_truncated_file_is_refused(tiny_bases, damaged, settings, tmp_path):
    path = damaged["llama"] / "adapter_model.safetensors"
    path.write_bytes(path.read_bytes()[:-40])
    with pytest.raises(AdapterError, match="is damaged"):
        _export(tiny_bases, damaged, settings, "llama", "transformers", tmp_path / "out")


def test_a_changed_artefact_is_not_certified_again(tiny_bases, adapters, settings, tmp_path):
    _export(tiny_bases, adapters, settings, "llama", "transformers", tmp_path / "out")
    weights = tmp_path / "out" / "model.safetensors"
    content = bytearray(weights.read_bytes())
    content[-1] ^= 1
    weights.write_bytes(content)
    with pytest.raises(IntegrityError, match=r"model.safetensors in .* changed"):
        recertify(tmp_path / "out", settings)
    weights.write_bytes(content[:-8])
    with pytest.raises(IntegrityError):
        read_artefact(tmp_path / "out")
    weights.unlink()
    with pytest.raises(IntegrityError, match="missing"):
        read_artefact(tmp_path / "out")


def test_a_wrong_engine_leaves_the_old_certificate(tiny_bases, adapters, settings, tmp_path):
    _export(tiny_bases, adapters, settings, "llama", "transformers", tmp_path / "out")
    before = (tmp_path / "out" / CERTIFICATE_NAME).read_bytes()
    with pytest.raises(EngineError, match="cannot be reached"):
        recertify(tmp_path / "out", settings, engine=DeadEngine())
    assert (tmp_path / "out" / CERTIFICATE_NAME).read_bytes() == before


class DeadEngine:
    target = "transformers"

    def version(self):
        return "dead 1.0"

    def ask(self, jobs):
        raise EngineError("the engine cannot be reached")


def test_a_folder_that_is_no_export_is_left_alone(tiny_bases, adapters, settings, tmp_path):
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "thesis.txt").write_text("mine")
    with pytest.raises(UsageError, match="is in the way"):
        _export(tiny_bases, adapters, settings, "llama", "transformers", tmp_path / "out")
    assert (tmp_path / "out" / "thesis.txt").read_text() == "mine"


def test_an_earlier_export_is_replaced(tiny_bases, adapters, settings, tmp_path):
    _export(tiny_bases, adapters, settings, "llama", "transformers", tmp_path / "out", engine=MISSING)
    exported = _export(tiny_bases, adapters, settings, "llama", "peft", tmp_path / "out")
    assert read_artefact(tmp_path / "out") == exported.record
    assert not (tmp_path / "out" / "model.safetensors").exists()


@pytest.mark.parametrize("name", ["modeling_tiny.py", "pytorch_model.bin"])
def test_code_and_pickles_are_refused(tmp_path, name):
    (tmp_path / name).write_text("")
    with pytest.raises(NotPortableError, match="is no stock artefact"):
        refuse_code(tmp_path)


def test_a_config_that_asks_for_code_is_refused(tmp_path):
    (tmp_path / "config.json").write_text('{"auto_map": {}}')
    with pytest.raises(NotPortableError) as caught:
        refuse_code(tmp_path)
    assert "auto_map in config.json" in caught.value.cause
