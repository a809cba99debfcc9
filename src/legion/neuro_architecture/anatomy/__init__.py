"""Floor 2, below its neighbours: where the blocks, linear layers and feed-forward networks of a transformer are."""

from legion.neuro_architecture.anatomy.inspection import inspect_model
from legion.neuro_architecture.anatomy.values import FfnSite, LayerAnatomy, LinearSite, ModelAnatomy

__all__ = ["FfnSite", "LayerAnatomy", "LinearSite", "ModelAnatomy", "inspect_model"]
