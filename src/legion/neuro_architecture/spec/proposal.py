"""A candidate adapter architecture with what is known of it before training."""

from __future__ import annotations

from typing import Annotated, Any, Final, Literal

from pydantic import Field

from legion.foundation.canonical import digest_json
from legion.neuro_architecture.spec._value import Value
from legion.neuro_architecture.spec.architecture import AnyArchitecture, Architecture
from legion.neuro_architecture.spec.semantics import semantic_hash
from legion.neuro_architecture.spec.task import TaskKind

__all__ = [
    "ArchitectureProposal",
    "BaseReference",
    "CostEstimate",
    "RiskAssessment",
    "RiskFactor",
    "Schedule",
    "TrainingRecipe",
]

Share = Annotated[float, Field(ge=0.0, le=1.0)]
Schedule = Literal["linear", "cosine"]

# Fields that came after the first release: at their defaults they are no part of a candidate's name.
_LATER_FIELDS: Final = {"schedule": "linear"}
_LATER_ARCHITECTURE_FIELDS: Final = frozenset({"use_rslora", "use_dora", "rank_pattern", "alpha_pattern", "routing"})


class BaseReference(Value):
    """Which base model a record speaks of.

    Attributes:
        name: Embedded name, folder or hub id, as it was asked for.
        digest: sha256 over the weight files (`sha256:...`).
        model_type: Family as the model's own config spells it (`bert`, `llama`, `gpt2`).
    """

    name: str
    digest: str
    model_type: str


class TrainingRecipe(Value):
    """The hyperparameters a proposal is trained with.

    Attributes:
        learning_rate: Peak of the schedule (linear warm-up, then decay to zero).
        batch_size: Examples in a step.
        weight_decay: AdamW's decoupled decay.
        warmup_share: Share of the steps spent warming up.
        max_gradient_norm: Gradients are scaled down to this norm.
        schedule: How the rate decays: `linear`, or `cosine`, which stays high for longer.
    """

    learning_rate: Annotated[float, Field(gt=0.0)] = 1e-3
    batch_size: Annotated[int, Field(ge=1)] = 16
    weight_decay: Annotated[float, Field(ge=0.0)] = 0.01
    warmup_share: Share = 0.06
    max_gradient_norm: Annotated[float, Field(gt=0.0)] = 1.0
    schedule: Schedule = "linear"

    def to_identity(self) -> dict[str, Any]:
        """The fields that name a candidate: what came later only where it is not at its default."""
        return {key: value for key, value in self.to_dict().items() if _LATER_FIELDS.get(key) != value}


class CostEstimate(Value):
    """What the analytic cost model expects; nothing here was measured on the adapter itself.

    Attributes:
        trainable_parameters: Weights of the adapter and of the task's head; exact, counted from module shapes.
        adapter_size_bytes: Their size in fp32.
        expected_flops: Floating-point operations of one forward pass over one example of `sequence_length` tokens.
        expected_base_flops: The same without the adapter.
        expected_latency_ms: Batch-1 forward pass, from the operations and this machine's calibration.
        sequence_length: Tokens the estimates assume.
        expected_base_latency_ms: The latency without the adapter, or None where it was not estimated.
    """

    trainable_parameters: int
    adapter_size_bytes: int
    expected_flops: float
    expected_base_flops: float
    expected_latency_ms: float
    sequence_length: int
    expected_base_latency_ms: float | None = None


class RiskFactor(Value):
    """One reason to be careful.

    Attributes:
        name: Short name of the reason.
        share: How strongly it applies here, 0 to 1.
        weight: Its share of the score.
        explanation: One sentence with the numbers behind `share`.
    """

    name: str
    share: Share
    weight: Share
    explanation: str


class RiskAssessment(Value):
    """Risk of shipping a proposal, 0 to 1: the weighted sum of its factors."""

    score: Share
    factors: tuple[RiskFactor, ...]


class ArchitectureProposal(Value):
    """A candidate, content-addressed: equal proposals have equal ids.

    Attributes:
        id: `<strategy>-<12 hex>`, from the digest of everything that decides what is trained.
        task: Name the candidate was proposed for.
        task_kind: Kind of the task.
        base: Base model it fits.
        architecture: The adapter.
        training: The recipe.
        estimate: The analytic cost model's word.
        risk: The risk assessment; its score is `risk_score`.
        seed: Seed of the generator that proposed it.
    """

    id: str
    task: str
    task_kind: TaskKind
    base: BaseReference
    architecture: Architecture
    training: TrainingRecipe
    estimate: CostEstimate
    risk: RiskAssessment
    seed: int

    @property
    def strategy(self) -> str:
        return self.architecture.strategy

    @property
    def semantic_hash(self) -> str:
        return semantic_hash(self.architecture)

    @property
    def trainable_parameters(self) -> int:
        return self.estimate.trainable_parameters

    @property
    def expected_flops(self) -> float:
        return self.estimate.expected_flops

    @property
    def expected_latency_ms(self) -> float:
        return self.estimate.expected_latency_ms

    @property
    def risk_score(self) -> float:
        return self.risk.score

    @staticmethod
    def id_of(task: str, base: BaseReference, architecture: Architecture, training: TrainingRecipe) -> str:
        """The content name of a candidate; neither seed nor machine is part of it.

        The architecture's part is how it is spelled, not `semantic_hash`: an id once given stays.
        """
        content = {
            "task": task,
            "base": base.digest,
            "architecture": _spelling(architecture),
            "training": training.to_identity(),
        }
        return f"{architecture.strategy.lower()}-{digest_json(content).removeprefix('sha256:')[:12]}"


def _spelling(architecture: AnyArchitecture) -> str:
    """16 hex digits of the config, without what is unsaid or came later and stands at its default."""
    defaults = type(architecture).model_construct().model_dump(mode="json")
    content = {
        key: value
        for key, value in architecture.to_dict().items()
        if value is not None and not (key in _LATER_ARCHITECTURE_FIELDS and value == defaults.get(key))
    }
    return digest_json(content).removeprefix("sha256:")[:16]
