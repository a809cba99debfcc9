"""Ollama: the Modelfile that serves a GGUF file, its upload over the documented API, and what can be asked of it.

No Ollama server is in a package registry, so none was tested: the tests drive a labelled fake of the same API that
computes with a real llama-server.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final, final

from legion.foundation.canonical import digest_file
from legion.foundation.errors import EngineError, InvalidValueError
from legion.foundation.files import read_json
from legion.neuro_architecture.portability.engines.contract import Question, Reply, Served
from legion.neuro_architecture.portability.engines.json_http import JsonServer
from legion.neuro_architecture.portability.values import Target

__all__ = ["AS_TYPED", "OllamaEngine", "modelfile", "push"]

AS_TYPED: Final = "{{ .Prompt }}"
"""The template that hands a prompt over as it is: what an adapter was trained on already has its form."""

_MOST_CONTEXT: Final = 4096
_CONTEXT_KEYS: Final = ("max_position_embeddings", "n_positions")
_QUOTES: Final = '"""'
# Ollama's own defaults sample at temperature 0.8 and punish repetition.
_GREEDY: Final[dict[str, Any]] = {"temperature": 0, "repeat_penalty": 1.0, "top_k": 1, "seed": 0}


def modelfile(
    gguf_name: str,
    *,
    checkpoint: Path,
    template: str = AS_TYPED,
    system: str | None = None,
    stop: Sequence[str] | None = None,
    num_ctx: int | None = None,
) -> str:
    """The text of a Modelfile beside the GGUF file: greedy, without a punishment of repetition.

    Args:
        gguf_name: The file's name, in the Modelfile's own folder.
        checkpoint: A folder with the model's `config.json` and tokenizer, for the defaults.
        template: Go template of a prompt.
        system: The system message that `{{ .System }}` becomes.
        stop: Texts that end an answer; by default the end-of-text token.
        num_ctx: Tokens of context; by default the model's own, 4096 at most.

    Raises:
        InvalidValueError: a text holds three double quotes, which a Modelfile cannot quote.
    """
    endings = _end_of_text(checkpoint) if stop is None else stop
    lines = [f"FROM ./{gguf_name}", f"TEMPLATE {_quoted(template)}"]
    if system is not None:
        lines.append(f"SYSTEM {_quoted(system)}")
    lines += [
        "PARAMETER temperature 0",
        "PARAMETER repeat_penalty 1",
        f"PARAMETER num_ctx {_context(checkpoint) if num_ctx is None else num_ctx}",
        *(f"PARAMETER stop {_quoted(text)}" for text in endings),
    ]
    return "\n".join(lines) + "\n"


def _quoted(text: str) -> str:
    if _QUOTES in text or text.endswith('"'):
        raise InvalidValueError(f"a Modelfile cannot quote {text!r}")
    return f"{_QUOTES}{text}{_QUOTES}"


def _end_of_text(checkpoint: Path) -> list[str]:
    path = checkpoint / "tokenizer_config.json"
    stated = read_json(path).get("eos_token") if path.is_file() else None
    token = stated.get("content") if isinstance(stated, dict) else stated
    return [token] if isinstance(token, str) else []


def _context(checkpoint: Path) -> int:
    config = read_json(checkpoint / "config.json")
    return min(_MOST_CONTEXT, *(config[key] for key in _CONTEXT_KEYS if key in config))


def push(
    gguf: Path,
    name: str,
    *,
    host: str,
    template: str = AS_TYPED,
    system: str | None = None,
    parameters: Mapping[str, Any] | None = None,
) -> None:
    """Makes a model called `name` of a GGUF file on an Ollama server; bytes that it has already do not travel.

    Raises:
        EngineError: the server is not there or refuses.
    """
    server = _server(host)
    digest = digest_file(gguf)
    if not server.has(f"/api/blobs/{digest}"):
        server.upload(f"/api/blobs/{digest}", gguf)
    body = {"model": name, "files": {gguf.name: digest}, "template": template, "parameters": dict(parameters or {})}
    last: dict[str, Any] = {}
    for line in server.lines("POST", "/api/create", body | ({"system": system} if system else {})):
        last = server.parsed(line, "/api/create")
        if "error" in last:
            raise EngineError(f"Ollama does not make {name}", cause=str(last["error"]))
    if last.get("status") != "success":
        raise EngineError(f"Ollama did not finish {name}", cause=f"its last word: {last or 'none'}")


def _server(host: str) -> JsonServer:
    return JsonServer(host, name=f"Ollama at {host}")


@final
class OllamaEngine:
    """What an Ollama server can be asked: greedy text, no more.

    Its API takes no token ids and names none. A question is asked as text (`raw`, hence past every template), which the
    tokenizer must turn into the same ids again; the answer's text is turned into ids. No probabilities; and an answer
    ends at the end-of-text token, so it may be shorter than asked.

    Args:
        host: Address of the server.
        tokenizer: Folder with the tokenizer of what is served.
    """

    def __init__(self, host: str, *, tokenizer: Path) -> None:
        self._host = host
        self._server = _server(host)
        self._tokenizer_folder = tokenizer

    @property
    def target(self) -> Target:
        return "ollama"

    def version(self) -> str:
        return f"ollama {self._server.ask('GET', '/api/version')['version']}"

    def ask(self, jobs: Sequence[tuple[Served, Sequence[Question]]]) -> list[list[Reply]]:
        """Makes a model of each GGUF file, asks it, and deletes it again.

        Raises:
            EngineError: an adapter folder came along, a question is no text, or the server is not there or refuses.
        """
        from transformers import AutoTokenizer

        tokenizer = AutoTokenizer.from_pretrained(self._tokenizer_folder, local_files_only=True)
        return [self._answers(served, questions, tokenizer) for served, questions in jobs]

    def _answers(self, served: Served, questions: Sequence[Question], tokenizer: Any) -> list[Reply]:
        if served.adapter is not None:
            raise EngineError(
                f"Ollama is not given adapter folders ({served.adapter.name})",
                hint="merge it into the base first: legion export SNAPSHOT --to ollama",
            )
        name = f"legion-parity-{digest_file(served.model).removeprefix('sha256:')[:12]}"
        push(served.model, name, host=self._host)
        try:
            return [self._reply(name, question, tokenizer) for question in questions]
        finally:
            self._server.ask("DELETE", "/api/delete", {"model": name})

    def _reply(self, name: str, question: Question, tokenizer: Any) -> Reply:
        if question.num_tokens == 0:
            return Reply()
        ids = list(question.token_ids)
        prompt = _text(ids, tokenizer)
        length = len(ids) + question.num_tokens
        body = {"model": name, "prompt": prompt, "raw": True, "stream": False}
        options = _GREEDY | {"num_predict": question.num_tokens, "num_ctx": max(length + 1, 256)}
        answer = self._server.ask("POST", "/api/generate", body | {"options": options})
        whole = tokenizer(prompt + answer["response"])["input_ids"]
        return Reply(tokens=tuple(whole[len(ids) : length]))


def _text(ids: list[int], tokenizer: Any) -> str:
    """The text that becomes these ids; a server puts the first one there itself where the tokenizer does."""
    for part in (ids, ids[1:]):
        text: str = tokenizer.decode(part)
        if tokenizer(text)["input_ids"] == ids:
            return text
    raise EngineError(f"Ollama takes text, and no text becomes these {len(ids)} tokens")
