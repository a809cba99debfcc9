"""Which texts are asked: drawn once from the seed, the same for the bare base and for every candidate."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypeVar

from legion.foundation.rng import RandomStream
from legion.neuro_architecture.data.datasets import DataSet, Example
from legion.neuro_architecture.evaluator.config import EvaluatorConfig
from legion.neuro_architecture.evaluator.identity import IdentityPair, swap_identity, template_pairs
from legion.neuro_architecture.evaluator.perturbations import PERTURBATIONS, perturb

__all__ = ["NoisyText", "Sample", "draw_sample"]

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class NoisyText:
    """A test example under one perturbation; `index` is its place in the sample's `test`."""

    index: int
    perturbation: str
    text: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Sample:
    """Everything one evaluation asks of a model.

    Attributes:
        test: Examples the task's metric is measured on, in the order of the file.
        noisy: Some of them, each under one perturbation.
        pairs: Counterfactual pairs; empty for summarization, whose safety is judged on what it writes.
        timed: Texts whose forward pass is timed.
        counted: Texts whose operations and memory are counted.
        plain: Texts that a causal model has to foretell as they are; empty for a classification.
    """

    test: tuple[Example, ...]
    noisy: tuple[NoisyText, ...]
    pairs: tuple[IdentityPair, ...]
    timed: tuple[str, ...]
    counted: tuple[str, ...]
    plain: tuple[str, ...] = ()

    def texts(self) -> list[str]:
        """All texts that a model answers: test, noisy, then both sides of each pair."""
        paired = [text for pair in self.pairs for text in (pair.first, pair.second)]
        return [example.text for example in self.test] + [noisy.text for noisy in self.noisy] + paired


def draw_sample(data: DataSet, config: EvaluatorConfig, stream: RandomStream) -> Sample:
    """The sample of `data` that `stream` draws."""
    examples = data.validation if config.split == "validation" else data.test
    test = _choose(examples, config.test_examples, stream.child("test"))
    is_classified = data.spec.kind == "classification"
    plain = [] if is_classified else _choose(test, config.forgetting_examples, stream.child("forgetting"))
    return Sample(
        test=tuple(test),
        noisy=tuple(_noisy(test, config.robustness_examples, stream.child("robustness"))),
        pairs=tuple(_pairs(examples, config, stream.child("identity"))) if is_classified else (),
        timed=tuple(example.text for example in _choose(test, config.latency_examples, stream.child("latency"))),
        counted=tuple(example.text for example in _choose(test, config.cost_examples, stream.child("cost"))),
        plain=tuple(example.text for example in plain),
    )


def _choose(items: Sequence[T], limit: int | None, stream: RandomStream) -> list[T]:
    if limit is None or limit >= len(items):
        return list(items)
    return [items[index] for index in sorted(stream.random().sample(range(len(items)), limit))]


def _noisy(test: Sequence[Example], limit: int, stream: RandomStream) -> list[NoisyText]:
    chosen = _choose(range(len(test)), limit, stream.child("choice"))
    stream.child("order").random().shuffle(chosen)
    names = list(PERTURBATIONS)
    placed = [(index, names[place % len(names)]) for place, index in enumerate(chosen)]
    return [
        NoisyText(index, name, perturb(name, test[index].text, stream.child(test[index].id)))
        for index, name in sorted(placed)
    ]


def _pairs(examples: Sequence[Example], config: EvaluatorConfig, stream: RandomStream) -> list[IdentityPair]:
    found = [pair for example in examples if (pair := swap_identity(example.text)) is not None]
    return template_pairs() + _choose(found, config.identity_examples, stream)
