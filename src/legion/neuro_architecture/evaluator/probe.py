"""What the bare base can do for a classification task without an adapter: a linear probe on its frozen features."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Final, final

import numpy as np
import torch
from sklearn.linear_model import LogisticRegression

from legion.foundation.errors import DataError
from legion.neuro_architecture.data.encoding import TaskEncoder
from legion.neuro_architecture.evaluator.inference import like_length_batches, on_device

__all__ = ["FrozenProbe", "encoder_features"]

_MAX_ITERATIONS: Final = 3000
_REPORT_EVERY: Final = 16  # batches


def encoder_features(
    model: Any,
    encoder: TaskEncoder,
    texts: Sequence[str],
    *,
    batch_size: int,
    report: Callable[[int], None] = lambda _done: None,
) -> np.ndarray:
    """Mean of the last hidden states over the tokens that are no padding, [texts, width], float32."""
    prompts = encoder.encode_texts(texts)
    rows: list[np.ndarray] = [np.empty(0, dtype=np.float32)] * len(texts)
    done = 0
    for number, batch in enumerate(like_length_batches([len(prompt) for prompt in prompts], batch_size)):
        inputs = on_device(encoder.collate_prompts([prompts[index] for index in batch]), model.device)
        with torch.inference_mode():
            hidden_BTD = model(**inputs).last_hidden_state
            mask_BT1 = inputs["attention_mask"].unsqueeze(-1).to(hidden_BTD.dtype)
            mean_BD = (hidden_BTD * mask_BT1).sum(1) / mask_BT1.sum(1)
        for index, row in zip(batch, mean_BD.float().cpu().numpy(), strict=True):
            rows[index] = row
        done += len(batch)
        if number % _REPORT_EVERY == 0:
            report(done)
    return np.stack(rows)


@final
@dataclass(frozen=True, slots=True)
class FrozenProbe:
    """Logistic regression on features of the frozen encoder: the baseline that an adapter has to beat.

    Attributes:
        labels: Class names in the order of the probabilities.
        coefficients: One row a label, [labels, width].
        intercepts: One a label; minus infinity for a label that the training examples lack.
    """

    labels: tuple[str, ...]
    coefficients: np.ndarray
    intercepts: np.ndarray

    @classmethod
    def fit(cls, features: np.ndarray, targets: Sequence[str], labels: Sequence[str]) -> FrozenProbe:
        """The probe of `features` [examples, width] whose labels are `targets`; scikit-learn's defaults but more steps.

        Raises:
            DataError: the targets hold one label only.
        """
        classes = np.array([tuple(labels).index(target) for target in targets])
        if len(set(classes.tolist())) < 2:
            raise DataError(
                f"every training example is labelled {targets[0]!r}",
                cause="a baseline needs two labels to tell apart",
                hint="check the training split: legion data check DIR",
            )
        regression = LogisticRegression(max_iter=_MAX_ITERATIONS).fit(features, classes)
        rows, offsets = regression.coef_, regression.intercept_
        if len(regression.classes_) == 2:  # scikit-learn keeps one row: the second class against the first
            rows, offsets = np.vstack([0.0 * rows, rows]), np.concatenate([0.0 * offsets, offsets])
        coefficients = np.zeros((len(labels), features.shape[1]))
        intercepts = np.full(len(labels), -np.inf)
        coefficients[regression.classes_], intercepts[regression.classes_] = rows, offsets
        return cls(tuple(labels), coefficients, intercepts)

    def probabilities(self, features: np.ndarray) -> np.ndarray:
        """Probability of each label, [examples, labels]."""
        logits = features @ self.coefficients.T + self.intercepts
        odds = np.exp(logits - logits.max(axis=1, keepdims=True))
        return np.asarray(odds / odds.sum(axis=1, keepdims=True))

    def to_dict(self) -> dict[str, Any]:
        """Plain values: a row for each label that was seen in training."""
        return {
            label: {"coefficients": self.coefficients[index].tolist(), "intercept": float(self.intercepts[index])}
            for index, label in enumerate(self.labels)
            if np.isfinite(self.intercepts[index])
        }

    @classmethod
    def from_dict(cls, rows: dict[str, Any], labels: Sequence[str]) -> FrozenProbe:
        """The inverse of `to_dict`."""
        width = len(next(iter(rows.values()))["coefficients"])
        return cls(
            tuple(labels),
            np.array([rows[label]["coefficients"] if label in rows else [0.0] * width for label in labels]),
            np.array([rows[label]["intercept"] if label in rows else -np.inf for label in labels]),
        )
