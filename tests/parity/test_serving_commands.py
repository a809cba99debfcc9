"""The printed commands, run as they are printed: the server that they start writes what the trained form writes."""

from __future__ import annotations

import os
import shlex
import socket
import subprocess
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest
from tests.parity.cases import HIDDEN_SIZE
from tests.portability.conftest import trained_form

from legion.foundation.errors import EngineError
from legion.neuro_architecture.data.base_models import resolve_base
from legion.neuro_architecture.portability.card import Origin
from legion.neuro_architecture.portability.engines import serving_program
from legion.neuro_architecture.portability.engines.contract import Question
from legion.neuro_architecture.portability.engines.json_http import JsonServer
from legion.neuro_architecture.portability.export import export_adapter
from legion.testing import tiny_model

# vLLM's server takes a minute and a half to start.
pytestmark = [pytest.mark.engines, pytest.mark.timeout(600)]

QUESTION = Question(token_ids=(31, 8, 40, 17), num_tokens=8)
LORA = {"strategy": "LoRA", "rank": 4, "use_rslora": True}
MIXTURE = {"strategy": "MoE", "num_experts": 4, "bottleneck_size": 8, "is_gated": True, "non_linearity": "silu"}


@contextmanager
def served(command: list[str], log: Path):
    """The command's server on a free port, once it says that it is well; ended in any case."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    with log.open("wb") as said:
        process = subprocess.Popen(
            [*command, "--host", "127.0.0.1", "--port", str(port)],
            stdout=said,
            stderr=subprocess.STDOUT,
            env=os.environ | {"VLLM_CPU_KVCACHE_SPACE": "1", "VLLM_NO_USAGE_STATS": "1"},
        )
    server = JsonServer(f"http://127.0.0.1:{port}", name=command[0])
    try:
        while not _is_well(server):
            with suppress(subprocess.TimeoutExpired):
                process.wait(0.2)
                pytest.fail(log.read_text(errors="replace")[-4000:], pytrace=False)
        yield server
    finally:
        process.terminate()
        process.wait()


def _is_well(server: JsonServer) -> bool:
    try:
        server.ask("GET", "/health")
    except EngineError:
        return False
    return True


@pytest.fixture
def export(engine_settings, tmp_path):
    """`export(config, target)`: what `legion export` publishes and prints, and what the trained form writes."""
    base = resolve_base(str(tiny_model(tmp_path / "base", "llama", hidden_size=HIDDEN_SIZE)), engine_settings)

    def make(config, target):
        trained = trained_form(base, config, tmp_path / "adapter", kind="summarization")
        exported = export_adapter(
            tmp_path / "adapter",
            base,
            target,
            tmp_path / "the export",
            settings=engine_settings,
            kind="summarization",
            origin=Origin(name="legion-tiny"),
            engine="not asked here",
        )
        (expected,) = trained.ask([QUESTION])
        with trained.model.disable_adapter():
            (bare,) = trained.ask([QUESTION])
        assert expected.tokens != bare.tokens
        word, program = serving_program(target, engine_settings)
        first, *rest = shlex.split(exported.serving[0])
        assert first == word
        return [str(program), *rest], list(expected.tokens)

    return make


def test_the_command_for_vllm_serves_the_trained_tokens(export, tmp_path):
    command, expected = export(LORA, "vllm")
    body = {"model": "legion-tiny", "prompt": list(QUESTION.token_ids), "max_tokens": 8, "temperature": 0}
    body |= {"ignore_eos": True, "logprobs": 1, "return_tokens_as_token_ids": True}
    with served(command, tmp_path / "log") as server:
        answer = server.ask("POST", "/v1/completions", body)
    told = answer["choices"][0]["logprobs"]["tokens"]
    assert [int(token.removeprefix("token_id:")) for token in told] == expected


@pytest.mark.parametrize("config", [LORA, MIXTURE], ids=["lora", "mixture"])
def test_the_command_for_llama_cpp_serves_the_trained_tokens(export, tmp_path, config):
    command, expected = export(config, "llama.cpp")
    body = {"prompt": list(QUESTION.token_ids), "n_predict": 8, "temperature": 0.0, "samplers": ["temperature"]}
    with served(command, tmp_path / "log") as server:
        answer = server.ask("POST", "/completion", body | {"repeat_penalty": 1.0, "return_tokens": True})
    told = answer["tokens"]
    assert told == expected[: len(told)]
    assert len(told) == len(expected) or answer["stop_type"] == "eos"
