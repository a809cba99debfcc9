"""Methods that change weights: the changed weights in the base's own architecture."""

from __future__ import annotations

import copy

from legion.neuro_architecture.portability.checkpoint import StockCheckpoint
from legion.neuro_architecture.portability.trained import TrainedForm

__all__ = ["fold_merged"]


def fold_merged(trained: TrainedForm) -> StockCheckpoint:
    """W + delta W in place of every adapted W; exact up to the rounding of one addition."""
    return StockCheckpoint(
        config=copy.deepcopy(trained.config),
        architecture=type(trained.model.get_base_model()).__name__,
        tensors=trained.merged_tensors(),
    )
