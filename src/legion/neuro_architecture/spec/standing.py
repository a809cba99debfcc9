"""How a trial stood at a rung."""

from __future__ import annotations

import math

from legion.neuro_architecture.spec._value import Value

__all__ = ["Standing"]


class Standing(Value):
    """One trial's look at the watched examples at a rung: the same examples, in the same order, for all trials.

    Attributes:
        step: Finished steps.
        loss: Mean loss, in nats.
        accuracy: Share of predictions that are right.
        losses: Loss of each prediction, in nats, to seven digits.
        hits: `1` for each right prediction, `0` for each wrong one.
        confidences: Probability of each predicted label, to four digits; empty for a causal model.
        seconds: Spent in training steps up to here.
    """

    step: int
    loss: float
    accuracy: float
    losses: tuple[float, ...]
    hits: str
    confidences: tuple[float, ...] = ()
    seconds: float

    @property
    def expected_accuracy(self) -> float:
        """Mean probability of the right answer: exp of minus each loss; of a text the geometric mean over its tokens.

        Between 0 and 1 like the accuracy that it foretells, but it moves with every prediction, not only with those
        that change sides; and unlike the mean loss it is not ruled by the few that are surely wrong.
        """
        return sum(math.exp(-loss) for loss in self.losses) / len(self.losses)

    @property
    def calibration_error(self) -> float | None:
        """Expected calibration error over ten bins of equal width (arXiv:1706.04599): the mean distance between how
        sure the predictions are and how often they are right; None where no confidence is known.
        """
        if not self.confidences:
            return None
        bins: dict[int, list[tuple[float, int]]] = {}
        for confidence, hit in zip(self.confidences, self.hits, strict=True):
            bins.setdefault(min(9, int(10 * confidence)), []).append((confidence, int(hit)))
        gaps = (abs(sum(sure for sure, _ in rows) - sum(hit for _, hit in rows)) for rows in bins.values())
        return sum(gaps) / len(self.hits)
