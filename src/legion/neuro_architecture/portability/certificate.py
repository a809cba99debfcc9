"""The proof that an artefact computes what was trained: the engine's own answers beside the trained form's."""

from __future__ import annotations

import math
import random
from collections.abc import Sequence
from typing import Annotated, Any, Final, Literal

from pydantic import Field

from legion.foundation.canonical import digest_json
from legion.foundation.errors import ParityError
from legion.neuro_architecture.portability.engines.contract import Question, Reply
from legion.neuro_architecture.portability.values import Form, Target
from legion.neuro_architecture.spec._value import Value

__all__ = [
    "TOLERANCES",
    "ParityCertificate",
    "Reference",
    "compare",
    "draw_questions",
    "make_reference",
    "refuse_different",
]

# Largest difference that still counts as the same: of logits in fp32 where an engine gives them all, else of logprobs.
# Of logits it is relative to the largest one (at least 1): where logits reach 28, as SmolLM2's do, fp32 arithmetic
# itself is 3e-5 to 5e-5 away from fp64.
TOLERANCES: Final[dict[Target, float]] = {
    "peft": 1e-5,
    "transformers": 1e-5,
    "vllm": 1e-4,
    "llama.cpp": 1e-4,
    "ollama": 1e-4,
}
_TELLING: Final = 10.0
_TOP: Final = 20  # tokens whose logprobs a stored reference keeps, and that are compared where an engine gives no more
_LENGTHS: Final = (3, 5, 8, 13, 21, 34, 48, 64)
_NUM_GREEDY: Final = 12
_SEED: Final = 20_240_817

Share = Annotated[float, Field(ge=0.0, le=1.0)]
Size = Annotated[float, Field(ge=0.0)]


class Reference(Value):
    """Questions and what the trained form answers, small enough to travel with the artefact.

    Attributes:
        questions: Token ids of each prompt, and how many tokens to continue it.
        logits: A classifier's, for each question; empty for a causal model.
        logprobs: Of the most probable next tokens, for each question; empty for a classifier.
        tokens: Greedy continuations.
        effect: Largest difference between the trained form and the bare base, in the same quantity: how much there
            was to lose. None where it was not measured.
    """

    questions: tuple[tuple[tuple[int, ...], int], ...]
    logits: tuple[tuple[float, ...], ...] = ()
    logprobs: tuple[dict[int, float], ...] = ()
    tokens: tuple[tuple[int, ...], ...]
    effect: Size | None = None

    @property
    def inputs_digest(self) -> str:
        return digest_json([[list(ids), count] for ids, count in self.questions])

    def asked(self) -> list[Question]:
        return [Question(token_ids=ids, num_tokens=count) for ids, count in self.questions]


class ParityCertificate(Value):
    """What was compared, where, and how far apart it was.

    Attributes:
        format: Version of this record.
        target: Who served.
        engine: Its name and version, as it says itself.
        form: The form that was served.
        artefact: Digest of the artefact.
        inputs_digest: Of the questions.
        num_questions: How many there were.
        quantity: `logits` or `logprobs`.
        largest_difference: Over all questions; of all logits, or of the log-probabilities of the 20 most probable next
            tokens.
        tail_difference: Over every log-probability that both sides gave, however improbable the token: it is reported
            and not judged. None for logits.
        largest_logit: The largest magnitude among the compared logits; None for logprobs.
        tolerance: The most that counts as the same, here.
        argmax_agreement: Share of questions with the same most probable token or label.
        greedy_agreement: Share of continuations that are equal token by token; None where none were asked.
        effect: How far the trained form is from the bare base in the same quantity, or None where it is not known.
        verdict: `same` or `different`.
        machine: Where it was measured.
        created_at: RFC 3339.
    """

    format: Literal[1] = 1
    target: Target
    engine: str
    form: Form
    artefact: str
    inputs_digest: str
    num_questions: int
    quantity: Literal["logits", "logprobs"]
    largest_difference: Size
    tail_difference: Size | None
    largest_logit: Size | None
    tolerance: Size
    argmax_agreement: Share
    greedy_agreement: Share | None
    effect: Size | None
    verdict: Literal["same", "different"]
    machine: dict[str, Any]
    created_at: str

    @property
    def is_telling(self) -> bool:
        """Whether the adapter moves the numbers well beyond the tolerance, so that losing it would have been seen."""
        return self.effect is None or self.effect >= _TELLING * self.tolerance


class Comparison(Value):
    """The numbers of a certificate."""

    quantity: Literal["logits", "logprobs"]
    largest_difference: Size
    tail_difference: Size | None
    largest_logit: Size | None
    argmax_agreement: Share
    greedy_agreement: Share | None

    def scaled(self, tolerance: float) -> float:
        """The tolerance for numbers of this size."""
        return tolerance * max(1.0, self.largest_logit or 0.0)

    def is_same(self, tolerance: float) -> bool:
        greedy = 1.0 if self.greedy_agreement is None else self.greedy_agreement
        return self.largest_difference <= self.scaled(tolerance) and self.argmax_agreement == 1.0 and greedy == 1.0


def draw_questions(
    vocab_size: int, *, avoid: frozenset[int], max_tokens: int, texts: Sequence[Sequence[int]] = (), causal: bool
) -> list[Question]:
    """Prompts of 3 to 64 random tokens, always the same ones for a vocabulary, then the given texts.

    Args:
        vocab_size: Tokens there are.
        avoid: Special tokens, which random prompts leave out.
        max_tokens: Longest prompt with its continuation.
        texts: Token ids of real texts.
        causal: Whether the texts are continued greedily.
    """
    draw = random.Random(_SEED)
    allowed = [token for token in range(vocab_size) if token not in avoid]
    room = max_tokens - _NUM_GREEDY
    prompts = [tuple(draw.choices(allowed, k=min(length, room))) for length in _LENGTHS]
    prompts += [tuple(ids)[:room] for ids in texts if ids]
    first_greedy = len(_LENGTHS)
    return [
        Question(token_ids=ids, num_tokens=_NUM_GREEDY if causal and index >= first_greedy else 0)
        for index, ids in enumerate(prompts)
    ]


def make_reference(questions: Sequence[Question], trained: Sequence[Reply], bare: Sequence[Reply] | None) -> Reference:
    """The answers of the trained form, and how far they are from the bare base's."""
    is_causal = all(reply.logprobs is not None for reply in trained)
    effect = None
    if bare is not None:
        effect = max(
            _largest_gap(one, other, "logprobs" if is_causal else "logits")
            for one, other in zip(trained, bare, strict=True)
        )
    return Reference(
        questions=tuple((question.token_ids, question.num_tokens) for question in questions),
        logits=() if is_causal else tuple(reply.logits or () for reply in trained),
        logprobs=tuple(_top(reply.logprobs or {}) for reply in trained) if is_causal else (),
        tokens=tuple(reply.tokens for reply in trained),
        effect=effect,
    )


def as_replies(reference: Reference) -> list[Reply]:
    """A stored reference as replies."""
    count = len(reference.questions)
    return [
        Reply(
            logits=reference.logits[index] if reference.logits else None,
            logprobs=reference.logprobs[index] if reference.logprobs else None,
            tokens=reference.tokens[index],
        )
        for index in range(count)
    ]


def compare(expected: Sequence[Reply], answered: Sequence[Reply]) -> Comparison:
    """All logits where both sides give them, else the log-probabilities of the 20 most probable next tokens.

    Raises:
        ParityError: an answer is missing, not finite, or lacks one of the most probable tokens.
    """
    if len(expected) != len(answered):
        raise ParityError(f"{len(answered)} answers to {len(expected)} questions")
    has_logits = all(reply.logits is not None for reply in (*expected, *answered))
    quantity: Literal["logits", "logprobs"] = "logits" if has_logits else "logprobs"
    pairs = list(zip(expected, answered, strict=True))
    greedy = [one.tokens == other.tokens for one, other in pairs if one.tokens]
    return Comparison(
        quantity=quantity,
        largest_difference=max(_largest_gap(one, other, quantity) for one, other in pairs),
        tail_difference=None if has_logits else max(_tail_gap(one, other) for one, other in pairs),
        largest_logit=max(abs(logit) for one in expected for logit in one.logits or ()) if has_logits else None,
        argmax_agreement=sum(_argmax(one, quantity) == _argmax(other, quantity) for one, other in pairs) / len(pairs),
        greedy_agreement=sum(greedy) / len(greedy) if greedy else None,
    )


def refuse_different(certificate: ParityCertificate) -> None:
    """Raises ParityError, with the numbers, where the verdict is `different`."""
    if certificate.verdict == "same":
        return
    raise ParityError(
        f"{certificate.engine} does not compute what was trained",
        cause=(
            f"{certificate.quantity} differ by up to {certificate.largest_difference:.2g} "
            f"(tolerance {certificate.tolerance:.1e}); the most probable token agrees on "
            f"{certificate.argmax_agreement:.0%} of {certificate.num_questions} questions"
        ),
        hint="nothing was published; report it with the certificate above",
    )


def _largest_gap(one: Reply, other: Reply, quantity: str) -> float:
    first, second = _numbers(one, quantity), _numbers(other, quantity)
    wanted = list(first) if quantity == "logits" else sorted(first, key=lambda token: -first[token])[:_TOP]
    missing = [token for token in wanted if token not in second]
    if len(second) >= len(wanted) and missing:
        raise ParityError(f"the engine says nothing of token {missing[0]}", cause=f"of the {len(wanted)} most probable")
    gaps = [abs(first[token] - second[token]) for token in wanted if token in second]
    if not gaps or not all(math.isfinite(gap) for gap in gaps):
        raise ParityError("the engine's answer is not finite" if gaps else "the engine answered nothing")
    return max(gaps)


def _tail_gap(one: Reply, other: Reply) -> float:
    first, second = one.logprobs or {}, other.logprobs or {}
    return max(abs(first[token] - second[token]) for token in first.keys() & second.keys())


def _numbers(reply: Reply, quantity: str) -> dict[int, float]:
    if quantity == "logits":
        return dict(enumerate(reply.logits or ()))
    return reply.logprobs or {}


def _argmax(reply: Reply, quantity: str) -> int:
    numbers = _numbers(reply, quantity)
    return max(numbers, key=lambda token: numbers[token])


def _top(logprobs: dict[int, float]) -> dict[int, float]:
    tokens = sorted(logprobs, key=lambda token: -logprobs[token])[:_TOP]
    return {token: logprobs[token] for token in tokens}
