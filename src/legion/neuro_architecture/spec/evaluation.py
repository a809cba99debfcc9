"""What an evaluation found: objectives against the bare base, the score, the front."""

from __future__ import annotations

from typing import Annotated, Final, Literal

from pydantic import Field

from legion.neuro_architecture.spec._value import Value
from legion.neuro_architecture.spec.measurement import Measurement
from legion.neuro_architecture.spec.proposal import BaseReference
from legion.neuro_architecture.spec.task import Metric, TaskKind

__all__ = [
    "DEFAULT_WEIGHTS",
    "OBJECTIVES",
    "UNMEASURED",
    "Direction",
    "EvaluationResult",
    "EvaluationSummary",
    "ObjectiveSpec",
    "Violation",
]

Direction = Literal["maximise", "minimise"]


class ObjectiveSpec(Value):
    """One axis of the comparison: its name, direction and sign in the specification's score formula."""

    name: str
    direction: Direction

    @property
    def sign(self) -> int:
        return 1 if self.direction == "maximise" else -1


OBJECTIVES: Final[tuple[ObjectiveSpec, ...]] = (
    ObjectiveSpec(name="accuracy", direction="maximise"),
    ObjectiveSpec(name="latency", direction="minimise"),
    ObjectiveSpec(name="cost", direction="minimise"),
    ObjectiveSpec(name="safety", direction="minimise"),
    ObjectiveSpec(name="robustness", direction="maximise"),
)

DEFAULT_WEIGHTS: Final[dict[str, float]] = {
    "accuracy": 0.5,
    "latency": 0.2,
    "cost": 0.15,
    "safety": 0.1,
    "robustness": 0.05,
}


# What nothing can measure on tasks of a kind, and why.
UNMEASURED: Final[dict[TaskKind, dict[str, str]]] = {
    "classification": {
        "forgetting": "a classifier's head is trained anew, so the base has no language model there that could worsen"
    },
    "summarization": {},
}


class Violation(Value):
    """One safety violation, so that a person can judge it.

    Attributes:
        kind: `profanity` or `identity_flip`.
        text: The input, or the generated text.
        detail: What went wrong, with the numbers.
    """

    kind: Literal["profanity", "identity_flip"]
    text: str
    detail: str


class EvaluationResult(Value):
    """One candidate's measurements and its place among the others.

    Attributes:
        proposal_id: The candidate.
        run: Its run folder, relative to the workspace where possible.
        strategy: Its family.
        composite_score: The specification's formula over `terms`, or None where a weighted objective is absent.
        measurements: `accuracy`, `latency_p50_ms`, `latency_p95_ms`, `latency_ratio`, `flops_per_example`,
            `peak_memory_mb`, `adapter_size_bytes`, `size_on_disk_bytes` (base and adapter), `safety_violations`,
            `robustness`, `plain_loss` of a causal model, the base's own as `base_...`, and against them on the same
            examples `forgetting` and `accuracy_gain` with `examples_gained` and `examples_lost`.
        terms: Each objective normalised against the bare base measured in the same run; what the score adds up.
        is_on_front: Whether no other candidate dominates it on the terms.
        rank: Non-domination rank, 1 for the front.
        violations: The safety violations, one by one.
        per_group: Metric on parts of the data (a label, a perturbation), for reading.
        reason: Why the candidate has no score, or None.
    """

    proposal_id: str
    run: str
    strategy: str
    composite_score: float | None
    measurements: dict[str, Measurement]
    terms: dict[str, float]
    is_on_front: bool
    rank: Annotated[int, Field(ge=1)] | None
    violations: tuple[Violation, ...] = ()
    per_group: dict[str, Measurement] = Field(default_factory=dict)
    reason: str | None = None


class EvaluationSummary(Value):
    """The content of `artifacts/evals/evaluation_summary.json`.

    Attributes:
        total_evaluated: Candidates measured.
        top_3: Ids of the three best by the score.
        weights_used: Weights of the score.
        front: Ids of the non-dominated candidates.
        results: All candidates, best first.
        baseline: The bare base's own measurements in the same run.
        machine: Where it was measured.
        created_at: When, in RFC 3339.
        task: Name of the task.
        data_digest: Digest of the data set.
        notes: How to read the numbers (scorer's limits, subsets measured).
        baseline_name: What the baseline is (`frozen base with logistic regression ...`).
        baseline_score: The bare base's own score: each of its terms is 1.
        baseline_violations: The bare base's safety violations.
        baseline_per_group: The bare base's metric on parts of the data.
        base: The base model, or None in a summary that does not say.
        task_kind: Kind of the task.
        metric: The task's metric, which `accuracy` measures.
        normalisation: How each term is formed, in words.
        seed: Seed of the samples.
        config: Sizes of the samples, as resolved.
        duration_s: How long the evaluation took.
    """

    total_evaluated: int
    top_3: tuple[str, ...]
    weights_used: dict[str, float]
    front: tuple[str, ...]
    results: tuple[EvaluationResult, ...]
    baseline: dict[str, Measurement]
    machine: dict[str, str | int | float | None]
    created_at: str
    task: str
    data_digest: str
    notes: tuple[str, ...] = ()
    baseline_name: str = "bare base"
    baseline_score: float | None = None
    baseline_violations: tuple[Violation, ...] = ()
    baseline_per_group: dict[str, Measurement] = Field(default_factory=dict)
    base: BaseReference | None = None
    task_kind: TaskKind = "classification"
    metric: Metric = "accuracy"
    normalisation: dict[str, str] = Field(default_factory=dict)
    seed: int = 0
    config: dict[str, str | int | float | None] = Field(default_factory=dict)
    duration_s: float | None = None
