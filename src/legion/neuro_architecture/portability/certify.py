"""Asks an engine about an artefact and writes down how its answers compare with the trained form's."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Final

from legion.foundation.clock import Clock, SystemClock, rfc3339
from legion.foundation.machine import describe_machine
from legion.neuro_architecture.portability.artefact import ArtefactRecord, served
from legion.neuro_architecture.portability.certificate import (
    TOLERANCES,
    ParityCertificate,
    Reference,
    compare,
    draw_questions,
    make_reference,
)
from legion.neuro_architecture.portability.engines.contract import Engine, Question, Reply
from legion.neuro_architecture.portability.trained import TrainedForm
from legion.neuro_architecture.portability.values import Target

__all__ = ["TrainedAnswers", "ask_trained", "certify", "open_point"]

# Real text beside random tokens, for what a tokenizer makes of it; general enough for any task.
_TEXTS: Final = (
    "The committee met on Tuesday and decided, after a long debate, that",
    "In 1969 two people walked on the Moon for the first time.",
    "def mean(values):\n    return sum(values) /",
)
_MOST_TOKENS: Final = 128


class TrainedAnswers:
    """Questions with the trained form's full answers, and the reference made from them.

    Attributes:
        questions: What was asked.
        replies: What the trained form answered.
        reference: The part that is stored.
    """

    def __init__(self, questions: Sequence[Question], replies: Sequence[Reply], bare: Sequence[Reply]) -> None:
        self.questions = list(questions)
        self.replies = list(replies)
        self.reference: Reference = make_reference(questions, replies, bare)


def open_point(target: Target) -> str | None:
    """What a certificate for `target` leaves open, or None."""
    if target == "ollama":
        return "Ollama itself was not asked; llama.cpp, the engine inside it, answered from the same file"
    return None


def ask_trained(trained: TrainedForm, tokenizer: object, *, max_tokens: int) -> TrainedAnswers:
    """The trained form's answers to the certificate's questions, and the bare base's."""
    special = frozenset(getattr(tokenizer, "all_special_ids", ()))
    encode = getattr(tokenizer, "encode")  # noqa: B009 - transformers' tokenizers have no common typed base
    questions = draw_questions(
        trained.facts.anatomy.vocab_size,
        avoid=special,
        max_tokens=min(max_tokens, _MOST_TOKENS),
        texts=[encode(text) for text in _TEXTS],
        causal=trained.facts.kind != "classification",
    )
    replies = trained.ask(questions)
    with trained.model.disable_adapter():
        bare = trained.ask([Question(token_ids=question.token_ids) for question in questions])
    return TrainedAnswers(questions, replies, bare)


def certify(
    record: ArtefactRecord,
    folder: Path,
    engine: Engine,
    *,
    questions: Sequence[Question],
    expected: Sequence[Reply],
    reference: Reference,
    base_folder: Path | None = None,
    clock: Clock | None = None,
) -> ParityCertificate:
    """What `engine` answers about the artefact in `folder`, beside what is expected.

    Raises:
        EngineError: the engine did not start or died.
        ParityError: an answer is missing or not finite.
    """
    (answered,) = engine.ask([(served(record, folder, base_folder), questions)])
    comparison = compare(expected, answered)
    tolerance = TOLERANCES[engine.target] if record.bound is None else record.bound
    return ParityCertificate(
        target=record.target,
        engine=engine.version(),
        form=record.form,
        artefact=record.digest,
        inputs_digest=reference.inputs_digest,
        num_questions=len(questions),
        **comparison.model_dump(),
        tolerance=comparison.scaled(tolerance),
        effect=reference.effect,
        verdict="same" if comparison.is_same(tolerance) else "different",
        machine=dict(describe_machine()),
        created_at=rfc3339((clock or SystemClock()).now()),
    )
