"""One llama-server process: started on a free port of this machine, asked over HTTP, always stopped."""

from __future__ import annotations

import os
import queue
import re
import subprocess
import tempfile
import threading
from collections import deque
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final, Self, final

from legion.foundation.errors import EngineError
from legion.neuro_architecture.portability.engines.json_http import JsonServer

__all__ = ["LlamaServer"]

_HOST: Final = "127.0.0.1"
_LISTENING: Final = re.compile(rf"listening on http://{re.escape(_HOST)}:(\d+)")
_LAST_WORDS: Final = 20
_START_S: Final = 120.0
_STOP_S: Final = 10.0


@final
class LlamaServer:
    """A llama-server with one model, in fp32 throughout; a context manager.

    It is ready once it has answered one real completion: `/health` says yes of models that cannot compute. Its process
    sees nothing of our environment and writes nothing outside a folder that goes with it. One thread at a time may ask.

    Args:
        binary: `llama-server`.
        model: A GGUF file.
        context_length: Tokens of prompt and answer that it must hold.
        threads: Of computation.

    Raises:
        EngineError: on entry, where it did not start; the cause holds its last words.
    """

    def __init__(self, binary: Path, model: Path, *, context_length: int, threads: int = 1) -> None:
        self._binary = binary
        self._model = model
        self._context_length = context_length
        self._threads = threads
        self._last_words: deque[str] = deque(maxlen=_LAST_WORDS)
        self._ports: queue.Queue[int | None] = queue.Queue()

    def __enter__(self) -> Self:
        if not self._model.is_file():
            raise EngineError(f"no GGUF file {self._model}")
        self._scratch = tempfile.TemporaryDirectory(prefix="legion-llama-server.")
        try:
            self._process = self._start()
        except OSError as error:
            self._scratch.cleanup()
            raise EngineError(
                f"{self._binary} does not start", cause=str(error), hint="legion engines install llama.cpp"
            ) from error
        try:
            self._become_ready()
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self._process.terminate()
        try:
            self._process.wait(_STOP_S)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._listener.join()
        self._scratch.cleanup()

    def post(self, path: str, body: dict[str, Any]) -> Any:
        """The JSON answer to a request.

        Raises:
            EngineError: the server refused, died, or answered something else.
        """
        return self._server.ask("POST", path, body)

    def stream(self, path: str, body: dict[str, Any]) -> Iterator[dict[str, Any]]:
        """The events of a streamed answer.

        Raises:
            EngineError: the server refused or died.
        """
        for line in self._server.lines("POST", path, body | {"stream": True}):
            if line.startswith(b"data: "):
                yield self._server.parsed(line.removeprefix(b"data: "), path)

    def _start(self) -> subprocess.Popen[bytes]:
        arguments = {
            "--model": str(self._model.resolve()),
            "--host": _HOST,
            "--port": "0",  # any free one; the log says which
            "--ctx-size": str(self._context_length),
            "--parallel": "1",
            "--threads": str(self._threads),
            "--threads-batch": str(self._threads),
            "--cache-type-k": "f32",
            "--cache-type-v": "f32",
            "--flash-attn": "off",
            "--fit": "off",
            "--cache-ram": "0",
            "--log-colors": "off",
        }
        command = [str(self._binary), *(word for pair in arguments.items() for word in pair)]
        process = subprocess.Popen(
            [*command, "--no-ui", "--no-slots", "--no-warmup", "--offline"],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            cwd=self._scratch.name,
            env={"PATH": os.defpath, "LC_ALL": "C.UTF-8", "HOME": self._scratch.name},
        )
        self._listener = threading.Thread(target=self._listen, args=(process,), daemon=True)
        self._listener.start()
        return process

    def _listen(self, process: subprocess.Popen[bytes]) -> None:
        """Keeps the log's last lines and passes the port on; None once the log ends."""
        if process.stdout is not None:
            with process.stdout as log:
                for raw in log:
                    line = raw.decode("utf-8", "replace").rstrip()
                    self._last_words.append(line)
                    if found := _LISTENING.search(line):
                        self._ports.put(int(found[1]))
        self._ports.put(None)

    def _become_ready(self) -> None:
        try:
            port = self._ports.get(timeout=_START_S)
        except queue.Empty as error:
            raise EngineError(f"llama-server is not ready after {_START_S:.0f} s", cause=self._words()) from error
        if port is None:
            raise EngineError(f"llama-server does not serve {self._model.name}", cause=self._words())
        self._server = JsonServer(f"http://{_HOST}:{port}", name="llama-server", last_words=self._words)
        self.post("/completion", {"prompt": [0], "n_predict": 1})

    def _words(self) -> str:
        return "\n".join(self._last_words)
