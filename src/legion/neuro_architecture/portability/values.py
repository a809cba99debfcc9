"""What portability speaks of: targets, the form an adapter takes there, and how exactly."""

from __future__ import annotations

from typing import Annotated, Final, Literal, get_args

from pydantic import Field

from legion.neuro_architecture.spec._value import Value

__all__ = ["TARGETS", "Form", "PortabilityPlan", "Target", "Verdict"]

Target = Literal["peft", "transformers", "vllm", "llama.cpp", "ollama"]
Verdict = Literal["exact", "bounded", "impossible"]
Form = Literal["peft-adapter", "canonical-lora", "merged", "wider-ffn", "extra-layers", "qwen2-moe", "mixtral"]

TARGETS: Final[tuple[Target, ...]] = get_args(Target)


class PortabilityPlan(Value):
    """What becomes of an adapter at a target, said before any training.

    Attributes:
        target: Who is to serve it.
        verdict: `exact` (equal up to the rounding of fp32), `bounded` (by `bound`), or `impossible`.
        form: The stock form it takes; None where that is impossible.
        bound: For `bounded`, by how much log-probabilities may differ, where that is known before training; None where
            only the trained weights can tell: then the artefact's record states the error of each weight.
        reason: One sentence: why it is exact, what bounds it, or what stands in the way.
        remedy: What would make it portable, or None.
    """

    target: Target
    verdict: Verdict
    form: Form | None
    bound: Annotated[float, Field(ge=0.0)] | None = None
    reason: str
    remedy: str | None = None

    @property
    def is_possible(self) -> bool:
        return self.verdict != "impossible"
