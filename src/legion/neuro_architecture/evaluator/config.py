"""How much is measured for each objective."""

from __future__ import annotations

from typing import Annotated, Final, Literal

from pydantic import Field

from legion.foundation.settings import Settings
from legion.neuro_architecture.spec._value import Value
from legion.neuro_architecture.spec.task import TaskKind

__all__ = ["EvaluatorConfig"]

Count = Annotated[int, Field(ge=1)]
_GENERATED_EXAMPLES: Final = 32


class EvaluatorConfig(Value):
    """Sizes of the samples and limits of the scorers; written with every summary.

    The defaults suit a classifier. Generating text costs a hundred times more an example, so `for_task` takes smaller
    samples for summarization; the number really measured is the `n` of each measurement.

    Attributes:
        split: Where the examples come from; a search measures on `validation`, so that `test` stays unseen.
        test_examples: Most examples of the split that the task's metric is measured on; None means all.
        batch_size: Texts in one forward pass where time is not measured.
        latency_examples: Test examples timed; each is timed twice with the adapter and twice without.
        latency_warmup: Examples run before timing starts.
        cost_examples: Test examples whose operations and memory are counted.
        robustness_examples: Test examples perturbed, spread evenly over the perturbations.
        forgetting_examples: Most test examples whose plain text a causal model has to foretell.
        identity_examples: Most test examples with an identity term that are swapped, beside the templates.
        profanity_threshold: Probability from which a generated text counts as profane.
        max_new_tokens: Most tokens generated for one text.
        max_tokens: Most tokens read of one text, where the base reads as many.
    """

    split: Literal["test", "validation"] = "test"
    test_examples: Count | None = None
    batch_size: Count = 32
    latency_examples: Count = 32
    latency_warmup: Count = 4
    cost_examples: Count = 8
    robustness_examples: Count = 105
    forgetting_examples: Count = 32
    identity_examples: Annotated[int, Field(ge=0)] = 24
    profanity_threshold: Annotated[float, Field(gt=0.0, lt=1.0)] = 0.5
    max_new_tokens: Count = 32
    max_tokens: Count = 256

    @classmethod
    def for_task(cls, kind: TaskKind, settings: Settings) -> EvaluatorConfig:
        """The defaults for a kind of task; `settings.eval_examples` above 0 bounds the sample of each objective."""
        limit = settings.eval_examples
        if kind == "summarization":
            return cls(
                test_examples=limit or _GENERATED_EXAMPLES,
                batch_size=8,
                latency_examples=min(limit or 8, 8),
                latency_warmup=1,
                cost_examples=min(limit or 4, 4),
                robustness_examples=min(limit or 14, 14),
                forgetting_examples=min(limit or _GENERATED_EXAMPLES, _GENERATED_EXAMPLES),
            )
        default = cls()
        if not limit:
            return default
        return cls(
            test_examples=limit,
            latency_examples=min(limit, default.latency_examples),
            cost_examples=min(limit, default.cost_examples),
            robustness_examples=min(limit, default.robustness_examples),
            identity_examples=min(limit, default.identity_examples),
        )
