from __future__ import annotations

import json
import threading

import pytest
import torch

from legion.core import legion_core
from legion.foundation.errors import IntegrityError, InvalidValueError, ModelError, UnknownNameError
from legion.neuro_architecture.records import SlotStore

TEXT = "the film a good story"
STRATEGIES = [{"strategy": "LoRA", "rank": 4}, {"strategy": "Adapter", "bottleneck_size": 4}, {"strategy": "MoE"}]


def expected_scores(world, family, model, text=TEXT):
    inputs = world.base(family).tokenizer()(text, return_tensors="pt")
    inputs.pop("token_type_ids", None)
    with torch.inference_mode():
        return torch.softmax(model(**inputs).logits.double(), dim=-1)[0].tolist()


@pytest.mark.parametrize("config", STRATEGIES, ids=lambda config: config["strategy"])
@pytest.mark.parametrize("family", ["bert", "llama", "gpt2"])
def test_classifier_answers_as_the_model_that_was_saved(world, family, config):
    snapshot, model = world.snapshot(family, "classification", config)
    world.fill("tiny", family, "classification", snapshot)
    answer = world.core.ask("tiny", TEXT)
    assert list(answer.scores.values()) == expected_scores(world, family, model)
    assert list(answer.scores) == ["negative", "positive"]
    assert answer.label == answer.text == max(answer.scores, key=answer.scores.get)
    assert answer.snapshot == snapshot.digest
    assert answer.base_digest == world.base(family).reference.digest
    assert answer.latency_ms > 0.0
    assert json.loads(json.dumps(answer.to_dict()))["slot"] == "tiny"


@pytest.mark.parametrize("family", ["llama", "gpt2"])
def test_causal_slot_writes_greedily_with_and_without_a_snapshot(world, family):
    world.fill("bare", family, "summarization", None)
    bare = world.core.ask("bare", TEXT)
    assert (bare.snapshot, bare.label, bare.scores) == (None, None, {})
    assert bare.text == world.core.ask("bare", TEXT).text
    snapshot, _ = world.snapshot(family, "summarization", {"strategy": "LoRA"})
    world.fill("adapted", family, "summarization", snapshot)
    adapted = world.core.ask("adapted", TEXT)
    assert adapted.snapshot == snapshot.digest
    assert adapted.text != bare.text


def test_changed_manifest_is_in_force_at_the_next_question(world):
    first, first_model = world.snapshot("bert", "classification", {"strategy": "LoRA"}, seed=1)
    second, second_model = world.snapshot("bert", "classification", {"strategy": "LoRA"}, seed=2)
    for snapshot, model in ((first, first_model), (second, second_model), (first, first_model)):
        world.fill("tiny", "bert", "classification", snapshot)
        answer = world.core.ask("tiny", TEXT)
        assert answer.snapshot == snapshot.digest
        assert list(answer.scores.values()) == expected_scores(world, "bert", model)


def test_model_is_loaded_once_and_the_oldest_goes_first(world, monkeypatch):
    loaded = []
    serve = legion_core.serve

    def counted(slot, *rest):
        loaded.append(slot.name)
        return serve(slot, *rest)

    monkeypatch.setattr(legion_core, "serve", counted)
    core = legion_core.LegionCore(world.settings, world.registry, max_models=1)
    for seed, name in ((1, "a"), (2, "b")):
        snapshot, _ = world.snapshot("bert", "classification", {"strategy": "LoRA"}, seed=seed)
        world.fill(name, "bert", "classification", snapshot)
    for name in ("a", "a", "b", "b", "a"):
        core.ask(name, TEXT)
    assert loaded == ["a", "b", "a"]


def test_threads_that_ask_at_once_get_the_same_answer(world):
    snapshot, model = world.snapshot("bert", "classification", {"strategy": "MoE"})
    world.fill("tiny", "bert", "classification", snapshot)
    answers = []
    threads = [threading.Thread(target=lambda: answers.append(world.core.ask("tiny", TEXT))) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert [list(answer.scores.values()) for answer in answers] == [expected_scores(world, "bert", model)] * 4


def test_damaged_copy_of_the_adapter_is_made_anew(world):
    snapshot, _ = world.snapshot("bert", "classification", {"strategy": "LoRA"})
    world.fill("tiny", "bert", "classification", snapshot)
    before = world.core.ask("tiny", TEXT)
    (weights,) = (world.settings.home / "adapters").rglob("adapter_model.safetensors")
    weights.write_bytes(b"damaged")
    fresh = legion_core.LegionCore(world.settings, world.registry)
    assert fresh.ask("tiny", TEXT).scores == before.scores


def test_altered_blob_never_answers(world):
    snapshot, _ = world.snapshot("bert", "classification", {"strategy": "LoRA"})
    world.fill("tiny", "bert", "classification", snapshot)
    name = snapshot.blobs["adapter_model.safetensors"].removeprefix("sha256:")
    blob = world.registry.root / "blobs" / "sha256" / name[:2] / name
    blob.chmod(0o644)
    blob.write_bytes(blob.read_bytes()[:-1] + b"\x01")
    with pytest.raises(IntegrityError, match=name):
        world.core.ask("tiny", TEXT)


def test_unregistered_snapshot_never_answers(world):
    world.fill("tiny", "bert", "classification", None, snapshot="sha256:" + "0" * 64)
    with pytest.raises(IntegrityError, match="not registered"):
        world.core.ask("tiny", TEXT)


def test_adapter_of_another_architecture_never_answers(world):
    snapshot, _ = world.snapshot("bert", "classification", {"strategy": "LoRA", "rank": 4})
    copy = world.registry.materialise(snapshot, world.settings.home / "copy")
    files = {path.name: path for path in copy.iterdir()}
    lie = world.registry.register("1", {"strategy": "LoRA", "rank": 2}, {}, files=files)
    world.fill("tiny", "bert", "classification", lie)
    with pytest.raises(IntegrityError, match="another architecture"):
        world.core.ask("tiny", TEXT)
    world.fill("tiny", "bert", "classification", world.registry.register("1", {"strategy": "MoE"}, {}))
    with pytest.raises(IntegrityError, match="carries no adapter"):
        world.core.ask("tiny", TEXT)


def test_base_that_is_not_the_slots_never_answers(world):
    world.fill("tiny", "llama", "summarization", None, base=world.base("gpt2").reference)
    assert world.core.ask("tiny", TEXT).base_digest == world.base("gpt2").reference.digest
    forged = world.base("llama").reference.model_copy(update={"digest": "sha256:" + "0" * 64})
    world.fill("tiny", "llama", "summarization", None, base=forged)
    with pytest.raises(ModelError, match="is not the one that slot"):
        world.core.ask("tiny", TEXT)


def test_classifier_without_a_trained_head_does_not_answer(world):
    world.fill("tiny", "bert", "classification", None)
    with pytest.raises(ModelError, match="no trained head") as caught:
        world.core.ask("tiny", TEXT)
    assert "legion integrate" in caught.value.hint


@pytest.mark.parametrize("text", ["", "  \n"])
def test_blank_text_is_refused(world, text):
    world.fill("tiny", "llama", "summarization", None)
    with pytest.raises(InvalidValueError, match="blank"):
        world.core.ask("tiny", text)


def test_unknown_slot_is_refused_with_the_known_ones(world):
    world.fill("tiny", "llama", "summarization", None)
    with pytest.raises(UnknownNameError) as caught:
        world.core.ask("tinny", TEXT)
    assert "tiny" in caught.value.hint
    assert set(world.core.slots()) == {"tiny"}
    SlotStore(world.settings).path.unlink()
    with pytest.raises(UnknownNameError):
        world.core.ask("tiny", TEXT)
