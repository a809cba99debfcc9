"""Ollama's API, asked by Ollama's own client: a labelled fake over a real llama-server, for want of a server."""

from __future__ import annotations

import hashlib
import http.client
from urllib.parse import urlsplit

import ollama
import pytest
import transformers

from legion.foundation.errors import EngineError
from legion.neuro_architecture.portability.engines.contract import Question, Served
from legion.neuro_architecture.portability.engines.llama_cpp import LlamaCppEngine
from legion.neuro_architecture.portability.engines.llama_server import LlamaServer
from legion.neuro_architecture.portability.engines.ollama import OllamaEngine, push
from legion.neuro_architecture.portability.gguf import write_gguf
from legion.testing import tiny_checkpoint, write_byte_tokenizer
from legion.testing.fake_ollama import FAKE_VERSION, FakeOllama

pytestmark = pytest.mark.engines
GREEDY = {"temperature": 0, "repeat_penalty": 1.0, "num_predict": 8, "num_ctx": 256}
PROMPT = "The film was"


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A tiny checkpoint with a tokenizer."""
    folder = tiny_checkpoint(tmp_path_factory.mktemp("ollama") / "model", "Llama")
    write_byte_tokenizer(folder)
    return folder


@pytest.fixture(scope="module")
def gguf(folder):
    target = folder.parent / "model.gguf"
    assert write_gguf(folder, target).tokenizer == "gpt-2"
    return target


@pytest.fixture(scope="module")
def fake(llama_server):
    with FakeOllama(llama_server) as fake:
        yield fake


@pytest.fixture
def client(fake):
    with ollama.Client(host=fake.url) as client:
        yield client


@pytest.fixture
def made(client, gguf):
    """A model that the client made."""
    client.create("tiny", files={"model.gguf": client.create_blob(gguf)}, parameters={"temperature": 0})
    yield "tiny"
    if any(model.model == "tiny:latest" for model in client.list().models):
        client.delete("tiny")


@pytest.fixture(scope="module")
def greedy_text(llama_server, gguf) -> str:
    """What llama-server itself says."""
    with LlamaServer(llama_server, gguf, context_length=256) as server:
        body = {"prompt": PROMPT, "n_predict": 8, "temperature": 0.0, "repeat_penalty": 1.0, "cache_prompt": False}
        text: str = server.post("/completion", body)["content"]
    assert text
    return text


def test_the_fake_says_that_it_is_one(fake):
    assert OllamaEngine(fake.url, tokenizer=fake.blob("sha256:" + 64 * "0")).version() == f"ollama {FAKE_VERSION}"
    assert "fake" in FAKE_VERSION


def test_a_blob_whose_digest_is_another_is_refused(fake, client, gguf):
    digest = "sha256:" + hashlib.sha256(b"something else").hexdigest()

    with pytest.raises(ollama.ResponseError, match="digest mismatch") as caught, gguf.open("rb") as content:
        client._request_raw("POST", f"/api/blobs/{digest}", content=content)

    assert caught.value.status_code == 400
    assert not fake.blob(digest).exists()


def test_a_blob_in_chunks_arrives_whole(fake):
    address = urlsplit(fake.url)
    connection = http.client.HTTPConnection(address.hostname, address.port)
    digest = "sha256:" + hashlib.sha256(b"abcdef").hexdigest()

    connection.request("POST", f"/api/blobs/{digest}", iter([b"abc", b"d", b"ef"]))

    assert connection.getresponse().status == 201
    connection.close()
    assert fake.blob(digest).read_bytes() == b"abcdef"


def test_a_blob_that_is_no_gguf_file_makes_no_model(client, tmp_path):
    (tmp_path / "no.gguf").write_bytes(b"no such thing")

    with pytest.raises(ollama.ResponseError, match="no GGUF file"):
        client.create("broken", files={"no.gguf": client.create_blob(tmp_path / "no.gguf")})


def test_raw_greedy_text_is_what_llama_server_says(client, made, greedy_text):
    whole = client.generate(made, PROMPT, raw=True, options=GREEDY)
    pieces = list(client.generate(made, PROMPT, raw=True, options=GREEDY, stream=True))

    assert whole.response == greedy_text
    assert "".join(piece.response for piece in pieces) == greedy_text
    assert len(pieces) > 2
    assert [piece.done for piece in pieces] == [False] * (len(pieces) - 1) + [True]
    assert (whole.done_reason, whole.eval_count) == ("length", 8)


def test_a_template_shapes_the_prompt_unless_it_is_raw(client, made, gguf, greedy_text):
    client.create(
        "shaped",
        files={"model.gguf": client.create_blob(gguf)},
        template="{{ .System }}{{ .Prompt }} was",
        system="The ",
        parameters=GREEDY,
    )

    assert client.generate("shaped", "film").response == greedy_text
    assert client.chat("shaped", [{"role": "user", "content": "film"}]).message.content == greedy_text
    assert client.generate("shaped", "film", raw=True).response != greedy_text
    client.delete("shaped")


def test_models_are_listed_shown_copied_and_deleted(client, made, gguf):
    client.copy(made, "twin")
    client.delete(made)

    (listed,) = client.list().models
    assert (listed.model, listed.size) == ("twin:latest", gguf.stat().st_size)
    assert client.show("twin").template == "{{ .Prompt }}"
    client.delete("twin")
    assert not client.list().models
    with pytest.raises(ollama.ResponseError, match="not found") as caught:
        client.generate("twin", PROMPT)
    assert caught.value.status_code == 404


def test_a_loaded_model_is_listed_as_running_until_it_is_unloaded(client, made):
    client.generate(made, options=GREEDY)
    assert [(model.model, model.context_length) for model in client.ps().models] == [("tiny:latest", 256)]

    assert client.generate(made, keep_alive=0).done_reason == "unload"

    assert not client.ps().models


def test_push_makes_a_model_and_sends_no_byte_twice(fake, client, gguf, greedy_text):
    push(gguf, "pushed", host=fake.url, parameters=GREEDY)
    blob = fake.blob("sha256:" + hashlib.sha256(gguf.read_bytes()).hexdigest())
    before = blob.stat().st_mtime_ns
    push(gguf, "pushed", host=fake.url, parameters=GREEDY)

    assert blob.stat().st_mtime_ns == before
    assert client.generate("pushed", PROMPT).response == greedy_text
    client.delete("pushed")


def test_what_the_server_refuses_is_an_error(fake, gguf):
    with pytest.raises(EngineError, match="refuses /api/create with status 501") as caught:
        push(gguf, "odd", host=fake.url, template="{{ range .Messages }}{{ end }}")

    assert "FakeOllama replaces" in (caught.value.cause or "")


def test_the_engine_continues_as_llama_server_does(fake, client, folder, gguf, llama_server):
    tokenizer = transformers.AutoTokenizer.from_pretrained(folder)
    question = Question(token_ids=tuple(tokenizer.encode(PROMPT)), num_tokens=3)

    ((reply,),) = OllamaEngine(fake.url, tokenizer=folder).ask([(Served(model=gguf), [question])])

    ((known,),) = LlamaCppEngine(llama_server, version="test").ask([(Served(model=gguf), [question])])
    text = tokenizer.decode(known.tokens)
    assert tokenizer.decode(reply.tokens) == text[: len(tokenizer.decode(reply.tokens))]
    assert reply.tokens
    assert reply.logprobs is None
    assert not client.list().models


def test_the_engine_refuses_what_is_no_text(fake, folder, gguf):
    tokenizer = transformers.AutoTokenizer.from_pretrained(folder)
    parts = tuple(tokenizer.convert_tokens_to_ids(["f", "i", "l", "m"]))
    assert len(tokenizer.encode("film")) < len(parts)

    with pytest.raises(EngineError, match="no text becomes these 4 tokens"):
        OllamaEngine(fake.url, tokenizer=folder).ask([(Served(model=gguf), [Question(token_ids=parts, num_tokens=1)])])
