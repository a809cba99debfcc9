"""The bare base: what it answers without any adapter, remembered from one run to the next."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, final

import numpy as np
import torch

from legion.foundation.progress import Progress
from legion.foundation.settings import Settings
from legion.neuro_architecture.data.base_models import BaseModel
from legion.neuro_architecture.data.datasets import DataSet
from legion.neuro_architecture.data.encoding import TaskEncoder
from legion.neuro_architecture.evaluator.config import EvaluatorConfig
from legion.neuro_architecture.evaluator.inference import Answer, Answerer
from legion.neuro_architecture.evaluator.memory import BaselineKey, BaselineMemory
from legion.neuro_architecture.evaluator.probe import FrozenProbe, encoder_features

__all__ = ["BareBase"]


@final
class BareBase:
    """Answers as the base does without an adapter.

    Classification: the frozen probe, fitted on the whole training split. Summarization: what the base itself writes.

    Args:
        base: The base model.
        data: The data set.
        encoder: The task's encoding of texts.
        config: Batch size and limits.
        settings: Says where answers are remembered.
        device: Where the base runs.
        writer: The bare causal model; only asked for summarization.
        progress: Told of the probe's fitting, which is the long part.
    """

    def __init__(
        self,
        *,
        base: BaseModel,
        data: DataSet,
        encoder: TaskEncoder,
        config: EvaluatorConfig,
        settings: Settings,
        device: torch.device,
        writer: Answerer | None,
        progress: Progress,
    ) -> None:
        self._base = base
        self._data = data
        self._encoder = encoder
        self._config = config
        self._device = device
        self._writer = writer
        self._progress = progress
        key = BaselineKey(
            base_digest=base.reference.digest,
            data_digest=data.digest,
            max_tokens=config.max_tokens,
            max_new_tokens=config.max_new_tokens,
            device=device.type,
        )
        self._memory = BaselineMemory(settings, key)

    @property
    def name(self) -> str:
        """What the baseline is, for a reader."""
        if self._writer is not None:
            return "bare base, greedy generation"
        return "frozen base with logistic regression on mean-pooled features"

    def answer(self, texts: Sequence[str]) -> tuple[list[Answer], int]:
        """One answer for each text, and how many of the distinct texts were remembered from an earlier run."""
        distinct = list(dict.fromkeys(texts))
        unknown = [text for text in distinct if self._memory.recall(text) is None]
        if unknown:
            answers = self._writer.answer(unknown) if self._writer is not None else self._probe_answers(unknown)
            self._memory.learn(unknown, answers)
            self._memory.save()
        known = {text: answer for text in distinct if (answer := self._memory.recall(text)) is not None}
        return [known[text] for text in texts], len(distinct) - len(unknown)

    def _probe_answers(self, texts: Sequence[str]) -> list[Answer]:
        model = self._base.load_encoder().to(self._device).eval()
        labels = self._data.spec.labels
        if self._memory.fitted is None:
            train = self._data.train
            self._progress.start("baseline: features of the training split", len(train))
            features = self._features(model, [example.text for example in train], self._progress.advance)
            self._progress.finish()
            self._memory.fitted = FrozenProbe.fit(features, [example.target for example in train], labels).to_dict()
        probe = FrozenProbe.from_dict(self._memory.fitted, labels)
        return [tuple(row) for row in probe.probabilities(self._features(model, texts)).tolist()]

    def _features(
        self, model: Any, texts: Sequence[str], report: Callable[[int], None] = lambda _done: None
    ) -> np.ndarray:
        return encoder_features(model, self._encoder, texts, batch_size=self._config.batch_size, report=report)
