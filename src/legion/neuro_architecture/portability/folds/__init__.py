"""How each form is made: a trained adapter and its base become one stock checkpoint that computes the same."""

from legion.neuro_architecture.portability.folds.extra_layers import fold_extra_layers
from legion.neuro_architecture.portability.folds.merged import fold_merged
from legion.neuro_architecture.portability.folds.mixtral import fold_mixtral
from legion.neuro_architecture.portability.folds.qwen2_moe import fold_qwen2_moe
from legion.neuro_architecture.portability.folds.wider_ffn import fold_wider_ffn

__all__ = ["fold_extra_layers", "fold_merged", "fold_mixtral", "fold_qwen2_moe", "fold_wider_ffn"]
