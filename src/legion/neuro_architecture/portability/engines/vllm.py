"""vLLM on the processor: one child process of its own Python, one offline engine an artefact, in fp32."""

from __future__ import annotations

import json
import math
import os
import signal
import subprocess
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final, final

from legion.foundation.errors import EngineError
from legion.foundation.machine import available_cores
from legion.neuro_architecture.portability.engines.contract import Question, Reply, Served
from legion.neuro_architecture.portability.engines.vllm_limits import VLLM_LORA_RANKS, refuse_unservable, serving_rank
from legion.neuro_architecture.portability.engines.workshop import clean_environment
from legion.neuro_architecture.portability.values import Target

__all__ = ["VllmEngine"]

_PROBE: Final = Path(__file__).with_name("_vllm_probe.py")
_START_TIMEOUT_S: Final = 300.0
_JOB_TIMEOUT_S: Final = 180.0
_NUM_LAST_LINES: Final = 12
# Loading and unloading an adapter may move the base's log-probabilities by rounding alone.
_BASE_MAY_MOVE: Final = 1e-4
_VARIABLES: Final = {
    "HF_HUB_OFFLINE": "1",
    "TRANSFORMERS_OFFLINE": "1",
    "VLLM_CPU_KVCACHE_SPACE": "1",
    "VLLM_CPU_OMP_THREADS_BIND": "nobind",
    "VLLM_ENABLE_V1_MULTIPROCESSING": "0",
    "VLLM_HOST_IP": "127.0.0.1",
    "VLLM_LOGGING_LEVEL": "WARNING",
    "VLLM_NO_USAGE_STATS": "1",
}


@final
class VllmEngine:
    """Implements `Engine` with vLLM.

    It computes in fp32 alone: on processors without the instructions for bf16, vLLM dies of that at the first token.

    Args:
        python: A Python that imports vLLM.
        version: Name and version of the package, as the certificate keeps it.
        max_lora_rank: The highest rank that the server is to take; vLLM itself takes up to 512.
        job_timeout_s: How long one artefact may take, its loading included.
    """

    def __init__(
        self,
        python: Path,
        *,
        version: str,
        max_lora_rank: int = VLLM_LORA_RANKS[-1],
        job_timeout_s: float = _JOB_TIMEOUT_S,
    ) -> None:
        self._python = python
        self._version = version
        self._max_lora_rank = max_lora_rank
        self._job_timeout_s = job_timeout_s

    @property
    def target(self) -> Target:
        return "vllm"

    def version(self) -> str:
        return self._version

    def ask(self, jobs: Sequence[tuple[Served, Sequence[Question]]]) -> list[list[Reply]]:
        """Serves each artefact in turn and answers its questions, in order.

        Where an adapter is served, the base is asked before and after it: an adapter without any effect and a base
        that answers otherwise while an adapter is loaded are errors, whatever the adapter's own answers are.

        Raises:
            AdapterError: an adapter's folder is damaged; nothing was started.
            NotPortableError: vLLM cannot serve an adapter; nothing was started.
            EngineError: vLLM did not start, died, refused an artefact or answered what it must not.
        """
        described = [self._describe(served, questions) for served, questions in jobs]
        if not described:
            return []
        with tempfile.TemporaryDirectory(prefix="legion-vllm-") as scratch:
            answers = self._run(described, Path(scratch))
        return [_read(answer, served) for answer, (served, _) in zip(answers, jobs, strict=True)]

    def _describe(self, served: Served, questions: Sequence[Question]) -> dict[str, Any]:
        if served.adapter is not None:
            refuse_unservable(served.adapter, self._max_lora_rank)
        return {
            "model": str(served.model.resolve()),
            "adapter": str(served.adapter.resolve()) if served.adapter else None,
            "max_lora_rank": serving_rank(served.adapter, self._max_lora_rank) if served.adapter else None,
            "max_model_len": max(len(question.token_ids) + max(1, question.num_tokens) for question in questions),
            "questions": [
                {"token_ids": list(question.token_ids), "num_tokens": question.num_tokens} for question in questions
            ],
        }

    def _run(self, jobs: list[dict[str, Any]], scratch: Path) -> list[dict[str, Any]]:
        asked, answered, log = scratch / "jobs.json", scratch / "answer.json", scratch / "log.txt"
        asked.write_text(json.dumps(jobs), encoding="utf-8")
        threads = os.environ.get("OMP_NUM_THREADS") or str(available_cores())
        with log.open("wb") as stream:
            try:
                process = subprocess.Popen(
                    [str(self._python), "-I", str(_PROBE), str(asked), str(answered)],
                    stdin=subprocess.DEVNULL,
                    stdout=stream,
                    stderr=subprocess.STDOUT,
                    env=clean_environment() | _VARIABLES | {"OMP_NUM_THREADS": threads},
                    cwd=scratch,
                    start_new_session=True,
                )
            except OSError as error:
                raise EngineError(f"cannot start {self._python}", cause=str(error)) from error
            code = self._wait(process, len(jobs), log)
        if not answered.is_file():
            raise EngineError(f"vLLM {_ending(code)}", cause=_last_lines(log))
        answer = json.loads(answered.read_text(encoding="utf-8"))
        if "error" in answer:
            job = jobs[answer["job"]]
            raise EngineError(f"vLLM refused {job['adapter'] or job['model']}", cause=answer["error"])
        answers: list[dict[str, Any]] = answer["answers"]
        return answers

    def _wait(self, process: subprocess.Popen[bytes], num_jobs: int, log: Path) -> int:
        limit_s = _START_TIMEOUT_S + num_jobs * self._job_timeout_s
        try:
            return process.wait(timeout=limit_s)
        except subprocess.TimeoutExpired as error:
            raise EngineError(f"vLLM did not answer within {limit_s:.0f} s", cause=_last_lines(log)) from error
        finally:
            if process.poll() is None:
                os.killpg(process.pid, signal.SIGKILL)
                process.wait()


def _read(answer: dict[str, Any], served: Served) -> list[Reply]:
    replies = [
        Reply(logprobs=dict(enumerate(reply["logprobs"])), tokens=tuple(reply["tokens"])) for reply in answer["replies"]
    ]
    if not all(math.isfinite(value) for reply in replies for value in (reply.logprobs or {}).values()):
        raise EngineError(f"vLLM answered NaN or infinity for {served.model}")
    if answer["base_moved"] > _BASE_MAY_MOVE:
        raise EngineError(
            f"vLLM's base model answers otherwise while {served.adapter} is loaded",
            cause=f"its log-probabilities moved by {answer['base_moved']:.3g}",
        )
    if answer["adapter_moved"] == 0.0:
        raise EngineError(
            f"{served.adapter} has no effect in vLLM", cause="every answer is the base model's own, to the last bit"
        )
    return replies


def _ending(code: int) -> str:
    if code < 0:
        return f"was ended by {signal.Signals(-code).name}"
    return f"ended with status {code} without an answer"


def _last_lines(log: Path) -> str | None:
    lines = [line for line in log.read_text(encoding="utf-8", errors="replace").splitlines() if line.strip()]
    return "\n".join(lines[-_NUM_LAST_LINES:]) or None
