"""What is trained: lists of adapters with their recipes, drawn from fixed seeds; trial i is the same in every list."""

from __future__ import annotations

import random
from dataclasses import dataclass, replace
from typing import Final, Literal

from legion.neuro_architecture.spec.architecture import (
    AdapterArchitecture,
    AnyArchitecture,
    LoRAArchitecture,
    MoEArchitecture,
)
from legion.neuro_architecture.spec.proposal import TrainingRecipe

__all__ = ["Trial", "Workload", "all_layers", "headline", "mixed", "upper_third"]

MINILM_LAYERS: Final = 6
SMOLLM2_LAYERS: Final = 30
_BATCH: Final = 16
_CAUSAL_BATCH: Final = 4
_RANKS: Final = (4, 8, 16, 32)
_BERT_TARGETS: Final = (
    ("all-linear",),
    ("query", "value"),
    ("query", "key", "value"),
    ("query", "key", "value", "intermediate.dense"),
)
_LLAMA_TARGETS: Final = (("all-linear",), ("q_proj", "v_proj"))
_BOTTLENECKS: Final = (8, 16, 32, 64)
_NON_LINEARITIES: Final = ("relu", "gelu", "silu")
_LOWEST_RATE: Final = 1e-4
_RATES: Final = 30.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Trial:
    """One adapter and how it is trained."""

    architecture: AnyArchitecture
    recipe: TrainingRecipe


@dataclass(frozen=True, slots=True, kw_only=True)
class Workload:
    """What every system is given alike.

    Attributes:
        base: Name of the embedded base model.
        data: Name of the prepared data set.
        trials: The adapters.
        steps_per_epoch: Steps in which every training example is seen once.
        epochs: How often each is seen.
        batch_size: Examples in a step.
        num_validation: Examples of the one validation at the end.
        validation_batch_size: Examples in one of its forward passes.
        max_tokens: Where a text is cut.
    """

    base: str
    data: Literal["classification", "task_small"]
    trials: tuple[Trial, ...]
    steps_per_epoch: int
    epochs: int = 1
    batch_size: int = _BATCH
    num_validation: int = 64
    validation_batch_size: int = 32
    max_tokens: int = 256

    @property
    def steps(self) -> int:
        return self.steps_per_epoch * self.epochs

    @property
    def num_train(self) -> int:
        return self.steps_per_epoch * self.batch_size

    def scaled(self, *, share: float = 1.0, steps: int | None = None, validation: int | None = None) -> Workload:
        """The same with a share of the adapters, `steps` steps an epoch, or other numbers of validation examples."""
        return replace(
            self,
            trials=self.trials[: max(1, round(share * len(self.trials)))],
            steps_per_epoch=steps or self.steps_per_epoch,
            num_validation=validation or self.num_validation,
        )

    def every(self, stride: int) -> Workload:
        """The same with every `stride`-th adapter, beginning with the first."""
        return replace(self, trials=self.trials[::stride])

    def only(self, index: int) -> Workload:
        """The same with one adapter."""
        return replace(self, trials=(self.trials[index],))


def mixed(count: int, steps: int) -> Workload:
    """LoRA, bottleneck and MoE in turn on MiniLM; each family reaches up from every layer: 0 to 5, 1 to 5, ... 5."""
    return _minilm([_any_family(index, index // 3 % MINILM_LAYERS) for index in range(count)], steps)


def all_layers(count: int, steps: int) -> Workload:
    """LoRA of ranks 4 to 32 on all six layers of MiniLM: every second one on all linears, the others on some."""
    trials = []
    for index in range(count):
        targets = _BERT_TARGETS[0 if index % 2 == 0 else 1 + index // 2 % 3]
        rank = _RANKS[index // 4 % len(_RANKS)]
        lora = LoRAArchitecture(rank=rank, alpha=2.0 * rank, target_modules=targets)
        trials.append(Trial(architecture=lora, recipe=_recipe(index, _BATCH)))
    return _minilm(trials, steps)


def upper_third(count: int, steps: int) -> Workload:
    """The three families in turn on layers 4 and 5 of MiniLM, three epochs."""
    workload = _minilm([_any_family(index, MINILM_LAYERS - 2) for index in range(count)], steps)
    return replace(workload, epochs=3)


def headline(count: int, steps: int) -> Workload:
    """The three families in turn on SmolLM2, their lowest layers evenly spread over all 30; headlines of news."""
    last = SMOLLM2_LAYERS - 1
    starts = [round(index * last / max(1, count - 1)) for index in range(count)]
    trials = [_any_family(index, start, is_causal=True) for index, start in enumerate(starts)]
    return Workload(
        base="smollm2-135m",
        data="task_small",
        trials=tuple(trials),
        steps_per_epoch=steps,
        batch_size=_CAUSAL_BATCH,
        num_validation=8,
        validation_batch_size=4,
        max_tokens=128,
    )


def _minilm(trials: list[Trial], steps: int) -> Workload:
    return Workload(base="minilm-l6", data="classification", trials=tuple(trials), steps_per_epoch=steps)


def _any_family(index: int, start: int, *, is_causal: bool = False) -> Trial:
    draw = random.Random(f"population/{index}")
    layers = tuple(range(start, SMOLLM2_LAYERS if is_causal else MINILM_LAYERS))
    architecture: AnyArchitecture
    match index % 3:
        case 0:
            rank = draw.choice(_RANKS)
            targets = draw.choice(_LLAMA_TARGETS if is_causal else _BERT_TARGETS)
            architecture = LoRAArchitecture(rank=rank, alpha=2.0 * rank, target_modules=targets, layers=layers)
        case 1:
            architecture = AdapterArchitecture(
                bottleneck_size=draw.choice(_BOTTLENECKS),
                non_linearity=draw.choice(_NON_LINEARITIES),
                placement=draw.choice(("par", "seq")),
                layers=layers,
            )
        case _:
            architecture = MoEArchitecture(
                num_experts=draw.choice((2, 4, 8)),
                top_k=draw.choice((1, 2)),
                bottleneck_size=draw.choice(_BOTTLENECKS[:2]),
                non_linearity=draw.choice(_NON_LINEARITIES),
                layers=layers,
            )
    return Trial(architecture=architecture, recipe=_recipe(index, _CAUSAL_BATCH if is_causal else _BATCH))


def _recipe(index: int, batch_size: int) -> TrainingRecipe:
    """AdamW with a rate of the trial's own, log-uniform from 1e-4 to 3e-3, and decay, warm-up and clip of all."""
    rate = _LOWEST_RATE * _RATES ** random.Random(f"population/rate/{index}").random()
    return TrainingRecipe(learning_rate=float(f"{rate:.3g}"), batch_size=batch_size)
