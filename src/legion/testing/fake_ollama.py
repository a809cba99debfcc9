"""FakeOllama: no Ollama, but its documented API over a real llama-server, so that its clients can be tested for real.

No Ollama server is in a package registry. This one says in `/api/version` what it is, keeps its models in a folder that
goes with it, and does what the tests need of https://github.com/ollama/ollama/blob/main/docs/api.md. Whatever else it
is asked, it refuses with 501. Templates are replaced, not interpreted: `{{ .System }}` and `{{ .Prompt }}` only.
"""

from __future__ import annotations

import contextlib
import http.server
import json
import re
import tempfile
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from http import HTTPStatus
from pathlib import Path
from typing import Any, Final, Self, final

from legion.foundation.canonical import digest_file, is_digest
from legion.neuro_architecture.portability.engines.llama_server import LlamaServer
from legion.testing._ollama_http import Answer, Refusal, handler_for

__all__ = ["FAKE_VERSION", "FakeOllama"]

FAKE_VERSION: Final = "0.0.0-fake.FakeOllama"
_VARIABLE: Final = re.compile(r"\{\{-?\s*\.(System|Prompt)\s*-?\}\}")
_NUM_CTX: Final = 2048
_OPTIONS: Final = {
    "num_predict": "n_predict",
    "temperature": "temperature",
    "top_k": "top_k",
    "top_p": "top_p",
    "min_p": "min_p",
    "seed": "seed",
    "stop": "stop",
    "repeat_penalty": "repeat_penalty",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class _Model:
    """A model as `/api/create` made it."""

    digest: str
    template: str
    system: str
    parameters: dict[str, Any]
    modified_at: datetime


@dataclass(slots=True)
class _Loaded:
    """A llama-server that runs for a model, and what ends it."""

    server: LlamaServer
    num_ctx: int
    end: contextlib.ExitStack = field(default_factory=contextlib.ExitStack)


@final
class FakeOllama:
    """A labelled fake of an Ollama server on a free port; a context manager.

    Args:
        binary: `llama-server`.
    """

    def __init__(self, binary: Path) -> None:
        self._binary = binary
        self._models: dict[str, _Model] = {}
        self._loaded: dict[str, _Loaded] = {}
        self._lock = threading.Lock()

    def __enter__(self) -> Self:
        self._scratch = tempfile.TemporaryDirectory(prefix="legion-fake-ollama.")
        self._blobs = Path(self._scratch.name)
        self._http = http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler_for(self))
        self._thread = threading.Thread(target=self._http.serve_forever, daemon=True)
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._http.shutdown()
        self._http.server_close()
        self._thread.join()
        for name in list(self._loaded):
            self._unload(name)
        self._scratch.cleanup()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._http.server_port}"

    def version(self) -> Answer:
        return {"version": FAKE_VERSION}

    def blob(self, digest: str) -> Path:
        """Where a blob is or would be."""
        if not is_digest(digest):
            raise Refusal(HTTPStatus.BAD_REQUEST, "invalid digest format")
        return self._blobs / digest.replace(":", "-")

    def keep_blob(self, digest: str, chunks: Iterator[bytes]) -> None:
        """Stores what a client sends, if its digest is the promised one."""
        target = self.blob(digest)
        with tempfile.NamedTemporaryFile(dir=self._blobs, delete=False) as file:
            for chunk in chunks:
                file.write(chunk)
        fresh = Path(file.name)
        if digest_file(fresh) != digest:
            fresh.unlink()
            raise Refusal(HTTPStatus.BAD_REQUEST, "digest mismatch, file must be uploaded again")
        fresh.replace(target)

    def create(self, body: Answer) -> Iterator[Answer]:
        files = list((body.get("files") or {}).values())
        if len(files) != 1 or body.get("adapters") or body.get("from") or body.get("quantize"):
            raise Refusal(HTTPStatus.NOT_IMPLEMENTED, "FakeOllama makes models of one GGUF file, nothing else")
        template = body.get("template") or "{{ .Prompt }}"
        if "{{" in _VARIABLE.sub("", template):
            raise Refusal(HTTPStatus.NOT_IMPLEMENTED, "FakeOllama replaces .System and .Prompt only")
        path = self.blob(files[0])
        if not path.is_file():
            raise Refusal(HTTPStatus.BAD_REQUEST, f"no blob {files[0]}")
        with path.open("rb") as file:
            if file.read(4) != b"GGUF":
                raise Refusal(HTTPStatus.BAD_REQUEST, "invalid model: no GGUF file")
        yield {"status": "parsing GGUF"}
        name = _full(body["model"])
        self._unload(name)
        self._models[name] = _Model(
            digest=files[0],
            template=template,
            system=body.get("system") or "",
            parameters=body.get("parameters") or {},
            modified_at=datetime.now(UTC),
        )
        yield {"status": f"using existing layer {files[0]}"}
        yield {"status": "writing manifest"}
        yield {"status": "success"}

    def generate(self, body: Answer) -> Iterator[Answer]:
        name, model = self._find(body)
        prompt = body.get("prompt") or ""
        if not body.get("raw"):
            prompt = _filled(body.get("template") or model.template, body.get("system") or model.system, prompt)
        return self._answers(name, model, body, prompt, lambda text: {"response": text})

    def chat(self, body: Answer) -> Iterator[Answer]:
        name, model = self._find(body)
        spoken: dict[str, list[str]] = {"system": [], "user": [], "assistant": []}
        for message in body.get("messages") or ():
            spoken[message["role"]].append(message["content"])
        system = "\n".join(spoken["system"]) or model.system
        prompt = _filled(model.template, system, "\n".join(spoken["user"]))
        return self._answers(
            name, model, body, prompt, lambda text: {"message": {"role": "assistant", "content": text}}
        )

    def _answers(
        self, name: str, model: _Model, body: Answer, prompt: str, shape: Callable[[str], Answer]
    ) -> Iterator[Answer]:
        """The pieces of an answer, then its end; an empty prompt loads the model, or unloads it with `keep_alive` 0."""
        options = model.parameters | (body.get("options") or {})
        started = datetime.now(UTC)

        def event(text: str, **more: Any) -> Answer:
            return {"model": name, "created_at": datetime.now(UTC).isoformat(), **shape(text), "done": False, **more}

        if not prompt and body.get("keep_alive") == 0:
            self._unload(name)
            yield event("", done=True, done_reason="unload")
            return
        server = self._load(name, model, int(options.get("num_ctx", _NUM_CTX)))
        load_ns = _since(started)
        if not prompt:
            yield event("", done=True, done_reason="load")
            return
        asked = {ours: options[theirs] for theirs, ours in _OPTIONS.items() if theirs in options}
        last: Answer = {}
        with self._lock:
            for last in server.stream("/completion", asked | {"prompt": prompt, "cache_prompt": False}):
                if last["content"]:
                    yield event(last["content"])
        yield event(
            "",
            done=True,
            done_reason="length" if last["stop_type"] == "limit" else "stop",
            total_duration=_since(started),
            load_duration=load_ns,
            prompt_eval_count=last["timings"]["prompt_n"],
            eval_count=last["timings"]["predicted_n"],
        )
        if body.get("keep_alive") == 0:
            self._unload(name)

    def show(self, body: Answer) -> Answer:
        _, model = self._find(body)
        lines = [f"{key} {json.dumps(value)}" for key, value in model.parameters.items()]
        return {
            "modelfile": f"FROM {self.blob(model.digest)}\n",
            "parameters": "\n".join(lines),
            "template": model.template,
            "details": _details(),
            "model_info": {},
            "capabilities": ["completion"],
            "modified_at": model.modified_at.isoformat(),
        }

    def tags(self) -> Answer:
        return {"models": [self._row(name, model) for name, model in self._models.items()]}

    def running(self) -> Answer:
        until = (datetime.now(UTC) + timedelta(minutes=5)).isoformat()
        more = [
            (name, {"expires_at": until, "size_vram": 0, "context_length": loaded.num_ctx})
            for name, loaded in self._loaded.items()
        ]
        return {"models": [self._row(name, self._models[name]) | entry for name, entry in more]}

    def _row(self, name: str, model: _Model) -> Answer:
        return {
            "name": name,
            "model": name,
            "modified_at": model.modified_at.isoformat(),
            "size": self.blob(model.digest).stat().st_size,
            "digest": model.digest.removeprefix("sha256:"),
            "details": _details(),
        }

    def copy(self, body: Answer) -> None:
        _, model = self._find({"model": body["source"]})
        self._models[_full(body["destination"])] = model

    def delete(self, body: Answer) -> None:
        name, _ = self._find(body)
        self._unload(name)
        del self._models[name]

    def _find(self, body: Answer) -> tuple[str, _Model]:
        name = _full(body.get("model") or "")
        if name not in self._models:
            raise Refusal(HTTPStatus.NOT_FOUND, f"model '{body.get('model')}' not found")
        return name, self._models[name]

    def _load(self, name: str, model: _Model, num_ctx: int) -> LlamaServer:
        if name in self._loaded and self._loaded[name].num_ctx >= num_ctx:
            return self._loaded[name].server
        self._unload(name)
        server = LlamaServer(self._binary, self.blob(model.digest), context_length=num_ctx)
        loaded = _Loaded(server, num_ctx)
        loaded.end.enter_context(server)
        self._loaded[name] = loaded
        return server

    def _unload(self, name: str) -> None:
        if name in self._loaded:
            self._loaded.pop(name).end.close()


def _full(name: str) -> str:
    return name if ":" in name else f"{name}:latest"


def _filled(template: str, system: str, prompt: str) -> str:
    values = {"System": system, "Prompt": prompt}
    return _VARIABLE.sub(lambda found: values[found[1]], template)


def _details() -> Answer:
    return {"format": "gguf", "quantization_level": "F32"}


def _since(moment: datetime) -> int:
    """Nanoseconds."""
    return int((datetime.now(UTC) - moment).total_seconds() * 1e9)
