"""transformers and PEFT as engines: what a folder holds is computed, or it is an error with the tensor's name."""

from __future__ import annotations

import json

import peft
import pytest
import torch
import transformers
from safetensors.torch import load_file, save_file

from legion.foundation.errors import AdapterError, EngineError, ModelError
from legion.neuro_architecture.portability.engines.contract import Question, Served
from legion.neuro_architecture.portability.engines.peft_engine import PeftEngine
from legion.neuro_architecture.portability.engines.transformers_engine import TransformersEngine
from legion.testing import tiny_model

# PEFT asks transformers for a property by its old name.
pytestmark = pytest.mark.filterwarnings("ignore:`is_gradient_checkpointing` is deprecated:FutureWarning")

IDS = (5, 9, 14, 3, 22)


@pytest.fixture
def llama(tmp_path):
    return tiny_model(tmp_path / "llama", "llama")


@pytest.fixture
def bert_classifier(tmp_path):
    folder = tiny_model(tmp_path / "bert", "bert")
    config = transformers.AutoConfig.from_pretrained(folder, num_labels=3)
    transformers.AutoModelForSequenceClassification.from_pretrained(folder, config=config).save_pretrained(folder)
    return folder


def peft_lora(base_folder, folder, auto_class, **config):
    base = auto_class.from_pretrained(base_folder)
    model = peft.get_peft_model(base, peft.LoraConfig(r=4, target_modules="all-linear", **config))
    with torch.no_grad():
        for name, weight in model.named_parameters():
            if "lora_B" in name or "modules_to_save" in name:
                weight.normal_(0.0, 0.2)
    model.save_pretrained(folder)
    return model.eval()


def change(folder, name, edit):
    path = folder / name
    tensors = load_file(path)
    edit(tensors)
    save_file(tensors, path, metadata={"format": "pt"})


def test_causal_model_answers_with_logits_logprobs_and_its_own_greedy_tokens(llama):
    question = Question(token_ids=IDS, num_tokens=5)
    ((reply,),) = TransformersEngine().ask([(Served(model=llama), [question])])
    model = transformers.AutoModelForCausalLM.from_pretrained(llama, attn_implementation="eager")
    with torch.no_grad():
        logits = model(torch.tensor([IDS])).logits[0, -1]
    assert torch.allclose(torch.tensor(reply.logits), logits, atol=1e-6)
    assert sum(torch.tensor(list(reply.logprobs.values())).exp()) == pytest.approx(1.0)
    greedy = model.generate(
        torch.tensor([IDS]),
        attention_mask=torch.ones(1, len(IDS), dtype=torch.long),
        max_new_tokens=5,
        min_new_tokens=5,
        do_sample=False,
        eos_token_id=None,
    )
    assert reply.tokens == tuple(greedy[0, len(IDS) :].tolist())


def test_classifier_answers_with_its_labels(bert_classifier):
    ((reply,),) = TransformersEngine().ask([(Served(model=bert_classifier), [Question(token_ids=IDS)])])
    assert len(reply.logits) == 3
    assert reply.logprobs is None
    assert reply.tokens == ()


def test_checkpoint_that_lacks_or_adds_a_tensor_is_refused_by_name(llama):
    name = "model.layers.1.mlp.up_proj.weight"
    change(llama, "model.safetensors", lambda tensors: tensors.update({"model.extra": torch.ones(1)}))
    with pytest.raises(EngineError) as caught:
        TransformersEngine().ask([(Served(model=llama), [Question(token_ids=IDS)])])
    assert "unexpected tensor model.extra" in caught.value.cause
    change(llama, "model.safetensors", lambda tensors: (tensors.pop(name), tensors.pop("model.extra")))
    with pytest.raises(EngineError) as caught:
        TransformersEngine().ask([(Served(model=llama), [Question(token_ids=IDS)])])
    assert f"missing tensor {name}" in caught.value.cause


def test_truncated_checkpoint_is_refused(llama):
    weights = llama / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-100])
    with pytest.raises(EngineError, match="transformers refuses"):
        TransformersEngine().ask([(Served(model=llama), [Question(token_ids=IDS)])])


def test_checkpoint_that_asks_for_code_is_refused(llama):
    config = json.loads((llama / "config.json").read_text())
    (llama / "config.json").write_text(json.dumps(config | {"auto_map": {"AutoModelForCausalLM": "evil.Model"}}))
    with pytest.raises(ModelError, match="not safe to load"):
        TransformersEngine().ask([(Served(model=llama), [Question(token_ids=IDS)])])


def test_prompt_that_the_model_cannot_take_is_an_error(llama):
    with pytest.raises(EngineError, match="cannot be computed"):
        TransformersEngine().ask([(Served(model=llama), [Question(token_ids=(5, 10_000))])])


def test_peft_folder_is_computed_as_peft_trained_it(llama, tmp_path):
    model = peft_lora(llama, tmp_path / "lora", transformers.AutoModelForCausalLM)
    ((reply,),) = PeftEngine().ask([(Served(model=llama, adapter=tmp_path / "lora"), [Question(token_ids=IDS)])])
    with torch.no_grad():
        logits = model(torch.tensor([IDS])).logits[0, -1]
    assert (torch.tensor(reply.logits) - logits).abs().max() <= 1e-5


@pytest.mark.parametrize("task_type", [None, "SEQ_CLS"])
def test_classifier_comes_with_the_adapter_that_trained_it(bert_classifier, tmp_path, task_type):
    """The base itself may be saved without the head: the number of labels is the adapter's."""
    config = {"task_type": task_type} if task_type else {"modules_to_save": ["classifier"]}
    model = peft_lora(bert_classifier, tmp_path / "lora", transformers.AutoModelForSequenceClassification, **config)
    headless = tmp_path / "headless"
    transformers.AutoModelForSequenceClassification.from_pretrained(bert_classifier).bert.save_pretrained(headless)
    ((reply,),) = PeftEngine().ask([(Served(model=headless, adapter=tmp_path / "lora"), [Question(token_ids=IDS)])])
    with torch.no_grad():
        logits = model(torch.tensor([IDS])).logits[0]
    assert (torch.tensor(reply.logits) - logits).abs().max() <= 1e-5


def test_adapter_that_lacks_or_adds_a_tensor_is_refused_where_peft_only_warns(llama, tmp_path):
    peft_lora(llama, tmp_path / "lora", transformers.AutoModelForCausalLM)
    served = Served(model=llama, adapter=tmp_path / "lora")
    name = "base_model.model.model.layers.0.self_attn.q_proj.lora_B.weight"
    renamed = name.replace("layers.0", "layers.9")
    change(served.adapter, "adapter_model.safetensors", lambda tensors: tensors.update({renamed: tensors.pop(name)}))
    with pytest.raises(EngineError, match="does not hold the adapter") as caught:
        PeftEngine().ask([(served, [Question(token_ids=IDS)])])
    assert f"missing tensor {name}" in caught.value.cause
    assert f"unexpected tensor {renamed}" in caught.value.cause


def test_adapter_of_another_width_or_truncated_is_refused(llama, tmp_path):
    peft_lora(llama, tmp_path / "lora", transformers.AutoModelForCausalLM)
    wide = tiny_model(tmp_path / "wide", "llama", hidden_size=64)
    with pytest.raises(EngineError, match="PEFT refuses"):
        PeftEngine().ask([(Served(model=wide, adapter=tmp_path / "lora"), [Question(token_ids=IDS)])])
    weights = tmp_path / "lora" / "adapter_model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-100])
    with pytest.raises(AdapterError, match="missing or damaged"):
        PeftEngine().ask([(Served(model=llama, adapter=tmp_path / "lora"), [Question(token_ids=IDS)])])


def test_each_engine_refuses_what_it_does_not_serve(llama, tmp_path):
    with pytest.raises(EngineError, match="no adapter folder"):
        TransformersEngine().ask([(Served(model=llama, adapter=tmp_path), [])])
    with pytest.raises(EngineError, match="none is given"):
        PeftEngine().ask([(Served(model=llama), [])])
