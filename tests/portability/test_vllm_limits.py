"""What vLLM would refuse, serve wrongly, or let spoil its base is refused before an engine is started for it."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from legion.foundation.errors import AdapterError, EngineError, NotPortableError
from legion.neuro_architecture.portability.engines.contract import Question, Served
from legion.neuro_architecture.portability.engines.vllm import VllmEngine
from legion.neuro_architecture.portability.engines.vllm_limits import refuse_unservable, serving_rank

QUESTIONS = [Question(token_ids=(5, 9, 14))]
PREFIX = "base_model.model.model.layers.0.self_attn.q_proj"


def lora(folder: Path, *, tensors: dict[str, torch.Tensor] | None = None, **config) -> Path:
    folder.mkdir(exist_ok=True)
    plain = {"peft_type": "LORA", "r": 8, "lora_alpha": 8, "bias": "none", "target_modules": ["q_proj"]}
    (folder / "adapter_config.json").write_text(json.dumps(plain | config))
    weights = {f"{PREFIX}.lora_A.weight": torch.ones(8, 32), f"{PREFIX}.lora_B.weight": torch.ones(32, 8)}
    save_file(weights | (tensors or {}), folder / "adapter_model.safetensors")
    return folder


def test_plain_lora_is_servable(tmp_path):
    refuse_unservable(lora(tmp_path / "a", use_rslora=True, init_lora_weights="gaussian"), 16)


@pytest.mark.parametrize(("config", "rank"), [({}, 8), ({"r": 9}, 16), ({"rank_pattern": {"q_proj": 40}}, 64)])
def test_server_is_asked_for_the_smallest_rank_that_serves(tmp_path, config, rank):
    assert serving_rank(lora(tmp_path / "a", **config), 512) == rank


@pytest.mark.parametrize(
    ("config", "words"),
    [
        ({"use_dora": True}, "DoRA"),
        ({"lora_bias": True}, "LoRA biases"),
        ({"bias": "all"}, "trained biases"),
        ({"modules_to_save": ["lm_head"]}, "modules_to_save"),
        ({"init_lora_weights": "pissa"}, "an init that changes the base"),
        ({"init_lora_weights": "lora_ga"}, "an init that changes the base"),
        ({"layer_replication": [[0, 1]]}, "layer_replication"),
    ],
)
def test_options_that_vllm_does_not_know_are_refused_by_name(tmp_path, config, words):
    with pytest.raises(NotPortableError, match="vLLM cannot serve") as caught:
        refuse_unservable(lora(tmp_path / "a", **config), 16)
    assert words in caught.value.cause


@pytest.mark.parametrize("part", ["lm_head", "model.embed_tokens", "transformer.wte"])
def test_adapter_of_the_head_never_travels_to_vllm(tmp_path, part):
    """While it is loaded, the base model's own answers change."""
    name = f"base_model.model.{part}.lora_A.weight"
    with pytest.raises(NotPortableError) as caught:
        refuse_unservable(lora(tmp_path / "a", tensors={name: torch.ones(8, 32)}), 16)
    assert name in caught.value.cause


def test_every_reason_is_told_at_once(tmp_path):
    with pytest.raises(NotPortableError) as caught:
        refuse_unservable(lora(tmp_path / "a", use_dora=True, bias="all"), 16)
    assert len(caught.value.cause.splitlines()) == 2


def test_other_methods_are_refused(tmp_path):
    with pytest.raises(NotPortableError, match="not IA3"):
        refuse_unservable(lora(tmp_path / "a", peft_type="IA3"), 16)


def test_damaged_folders_are_named(tmp_path):
    with pytest.raises(AdapterError, match="is no adapter folder"):
        refuse_unservable(tmp_path, 16)
    broken = lora(tmp_path / "truncated")
    weights = broken / "adapter_model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-64])
    with pytest.raises(AdapterError, match="missing or damaged"):
        refuse_unservable(broken, 16)
    spoilt = lora(tmp_path / "nan", tensors={f"{PREFIX}.lora_B.weight": torch.full((32, 8), torch.nan)})
    with pytest.raises(AdapterError, match="NaN"):
        refuse_unservable(spoilt, 16)
    with pytest.raises(AdapterError, match="names no rank"):
        refuse_unservable(lora(tmp_path / "rankless", r="8"), 16)


def test_rank_above_the_servers_maximum_is_refused_before_anything_starts(tmp_path):
    """The Python does not exist: starting it would be another error."""
    engine = VllmEngine(tmp_path / "no-python", version="vllm 0", max_lora_rank=16)
    with pytest.raises(NotPortableError, match="rank 32 is above the server's maximum of 16"):
        engine.ask([(Served(model=tmp_path, adapter=lora(tmp_path / "a", r=32)), QUESTIONS)])


def test_no_jobs_start_nothing(tmp_path):
    assert VllmEngine(tmp_path / "no-python", version="vllm 0").ask([]) == []


def test_python_that_is_not_there_is_an_error(tmp_path):
    with pytest.raises(EngineError, match="cannot start"):
        VllmEngine(tmp_path / "no-python", version="vllm 0").ask([(Served(model=tmp_path), QUESTIONS)])


def test_python_without_vllm_tells_what_it_said(tmp_path):
    """This project's own Python has no vLLM: a real child that really fails."""
    with pytest.raises(EngineError) as caught:
        VllmEngine(Path(sys.executable), version="vllm 0").ask([(Served(model=tmp_path), QUESTIONS)])
    assert "No module named 'vllm'" in caught.value.cause


def child(path: Path, body: str) -> Path:
    path.write_text(f"#!/bin/sh\n{body}\n")
    path.chmod(0o755)
    return path


def test_child_that_dies_tells_its_signal_and_its_last_words(tmp_path):
    python = child(tmp_path / "python", "echo 'computing in bf16' >&2; kill -ILL $$")
    with pytest.raises(EngineError, match="SIGILL") as caught:
        VllmEngine(python, version="vllm 0").ask([(Served(model=tmp_path), QUESTIONS)])
    assert "computing in bf16" in caught.value.cause


def test_child_that_hangs_is_ended(tmp_path, monkeypatch):
    monkeypatch.setattr("legion.neuro_architecture.portability.engines.vllm._START_TIMEOUT_S", 0.0)
    python = child(tmp_path / "python", f"echo $$ > {tmp_path / 'pid'}; echo waiting >&2; exec sleep 600")
    engine = VllmEngine(python, version="vllm 0", job_timeout_s=2.0)
    with pytest.raises(EngineError, match="did not answer within 2 s"):
        engine.ask([(Served(model=tmp_path), QUESTIONS)])
    assert not Path(f"/proc/{(tmp_path / 'pid').read_text().strip()}").exists()


def answering(tmp_path: Path, **changes) -> VllmEngine:
    """An engine whose child gives one fixed answer, whatever it is asked."""
    replies = [{"logprobs": [-0.5, -1.0], "tokens": []}]
    answer = {"answers": [{"replies": replies, "base_moved": 0.0, "adapter_moved": None} | changes]}
    (tmp_path / "fixed.json").write_text(json.dumps(answer))
    # Arguments: -I, the probe, the jobs, the answer.
    return VllmEngine(child(tmp_path / "python", f'cp {tmp_path / "fixed.json"} "$4"'), version="vllm 0")


def test_answer_is_read_by_token_id(tmp_path):
    ((reply,),) = answering(tmp_path).ask([(Served(model=tmp_path), QUESTIONS)])
    assert reply.logprobs == {0: -0.5, 1: -1.0}


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"base_moved": 5.4, "adapter_moved": 1.0}, "base model answers otherwise"),
        ({"adapter_moved": 0.0}, "has no effect"),
        ({"replies": [{"logprobs": [float("nan"), -1.0], "tokens": []}], "adapter_moved": 1.0}, "NaN"),
    ],
)
def test_answers_that_must_not_be_are_errors(tmp_path, changes, words):
    with pytest.raises(EngineError, match=words):
        answering(tmp_path, **changes).ask([(Served(model=tmp_path, adapter=lora(tmp_path / "a")), QUESTIONS)])
