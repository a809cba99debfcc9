"""Asks vLLM in vLLM's own Python: `python -I _vllm_probe.py JOBS ANSWER`. Imports nothing of this project.

JOBS holds `[{"model", "adapter", "max_lora_rank", "max_model_len", "questions": [{"token_ids", "num_tokens"}]}]`.
ANSWER receives `{"answers": [{"replies": [{"logprobs", "tokens"}], "base_moved", "adapter_moved"}]}`, where `logprobs`
are those of the whole vocabulary in the order of token ids, or `{"error", "job"}`. One process asks for all, since the
imports take longer than a tiny model; an engine is shut down before the next one starts.
"""

from __future__ import annotations

import gc
import json
import os
import sys
from pathlib import Path
from typing import Any

_MAX_SEQUENCES = 8


def main(jobs_path: Path, answer_path: Path) -> int:
    """Serves every job in turn; 0 where all were answered."""
    jobs = json.loads(jobs_path.read_text(encoding="utf-8"))
    answers: list[dict[str, Any]] = []
    try:
        for job in jobs:
            answers.append(_serve(job))  # noqa: PERF401 - how many there are tells which job failed
    except Exception as error:  # noqa: BLE001 - the process edge: whatever vLLM says reaches the asking process
        answer_path.write_text(json.dumps({"error": _chain(error), "job": len(answers)}), encoding="utf-8")
        return 1
    answer_path.write_text(json.dumps({"answers": answers}), encoding="utf-8")
    return 0


def _serve(job: dict[str, Any]) -> dict[str, Any]:
    from vllm import LLM
    from vllm.lora.request import LoRARequest

    lora: dict[str, Any] = {}
    if job["adapter"]:
        lora = {"enable_lora": True, "max_loras": 1, "max_lora_rank": job["max_lora_rank"]}
    engine = LLM(
        model=job["model"],
        dtype="float32",
        enforce_eager=True,
        load_format="safetensors",
        skip_tokenizer_init=True,
        generation_config="vllm",
        max_model_len=job["max_model_len"],
        max_num_seqs=_MAX_SEQUENCES,
        max_logprobs=-1,
        enable_prefix_caching=False,
        seed=0,
        **lora,
    )
    try:
        questions = job["questions"]
        if not job["adapter"]:
            return {"replies": _replies(engine, questions, None), "base_moved": 0.0, "adapter_moved": None}
        before = _logprobs(engine, questions, None)
        replies = _replies(engine, questions, LoRARequest("adapter", 1, job["adapter"]))
        after = _logprobs(engine, questions, None)
        return {
            "replies": replies,
            "base_moved": _distance(before, after),
            "adapter_moved": _distance(before, [reply["logprobs"] for reply in replies]),
        }
    finally:
        engine.llm_engine.engine_core.shutdown()
        del engine
        gc.collect()


def _replies(engine: Any, questions: list[dict[str, Any]], adapter: Any) -> list[dict[str, Any]]:
    tokens = [_continue(engine, question, adapter) for question in questions]
    logprobs = _logprobs(engine, questions, adapter)
    return [{"logprobs": row, "tokens": found} for row, found in zip(logprobs, tokens, strict=True)]


def _logprobs(engine: Any, questions: list[dict[str, Any]], adapter: Any) -> list[list[float]]:
    """Of the next token, at temperature 1: vLLM's `raw_logprobs` do not follow the sampling temperature."""
    outputs = _generate(engine, questions, adapter, max_tokens=1, logprobs=-1)
    rows = []
    for output in outputs:
        by_token = output.outputs[0].logprobs[0]
        rows.append([float(by_token[token].logprob) for token in range(len(by_token))])
    return rows


def _continue(engine: Any, question: dict[str, Any], adapter: Any) -> list[int]:
    if not question["num_tokens"]:
        return []
    (output,) = _generate(engine, [question], adapter, max_tokens=question["num_tokens"], logprobs=None)
    return [int(token) for token in output.outputs[0].token_ids]


def _generate(
    engine: Any, questions: list[dict[str, Any]], adapter: Any, *, max_tokens: int, logprobs: int | None
) -> Any:
    from vllm import SamplingParams

    sampling = SamplingParams(
        temperature=0.0, max_tokens=max_tokens, logprobs=logprobs, ignore_eos=True, detokenize=False
    )
    prompts = [{"prompt_token_ids": question["token_ids"]} for question in questions]
    return engine.generate(prompts, sampling, use_tqdm=False, lora_request=adapter)


def _distance(one: list[list[float]], other: list[list[float]]) -> float:
    return max(abs(a - b) for row, twin in zip(one, other, strict=True) for a, b in zip(row, twin, strict=True))


def _chain(error: BaseException) -> str:
    """The error and what it came from, the nearest first."""
    words: list[str] = []
    link: BaseException | None = error
    while link is not None:
        words.append(f"{type(link).__name__}: {link}")
        link = link.__cause__ or link.__context__
    return "\n".join(words)


if __name__ == "__main__":
    _code = main(Path(sys.argv[1]), Path(sys.argv[2]))
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(_code)  # the answer is written; vLLM's threads may keep an ordinary exit waiting
