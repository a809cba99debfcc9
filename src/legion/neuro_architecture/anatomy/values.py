"""A transformer's parts by name and width; plain values without tensors."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from legion.neuro_architecture.spec.architecture import NonLinearity

__all__ = ["FfnSite", "LayerAnatomy", "LinearSite", "ModelAnatomy"]


@dataclass(frozen=True, slots=True, kw_only=True)
class LinearSite:
    """One linear layer inside a block.

    Attributes:
        path: Dotted path from the model's root.
        name: Last part of the path, unless two linears of a block share it (`attention.output.dense`,
            `output.dense`): target_modules may name either the short or the block-relative form.
        in_features: Width of its input.
        out_features: Width of its output.
        is_transposed: True where the weight is stored [in, out] (GPT-2's Conv1D).
        has_bias: Whether it adds a bias.
    """

    path: str
    name: str
    in_features: int
    out_features: int
    is_transposed: bool = False
    has_bias: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class FfnSite:
    """The module that a bottleneck or a mixture wraps.

    Attributes:
        path: Dotted path from the model's root.
        style: `output`: y = module(x), the correction of x (`par`) or of y (`seq`) is added to y;
            `residual`: y = module(h, x) adds its second argument x to its output before a norm, so the correction of
            x is added to x.
    """

    path: str
    style: Literal["output", "residual"]


@dataclass(frozen=True, slots=True, kw_only=True)
class LayerAnatomy:
    """One transformer block.

    Attributes:
        index: Position from 0.
        path: Dotted path from the model's root.
        linears: Its linear layers.
        par: Where a parallel bottleneck or a mixture sits.
        seq: Where a sequential bottleneck sits.
    """

    index: int
    path: str
    linears: tuple[LinearSite, ...]
    par: FfnSite
    seq: FfnSite

    @property
    def ffn_linears(self) -> tuple[LinearSite, ...]:
        """The linear layers of its feed-forward network in order, the one that writes its output last."""
        is_split = self.par.style == "residual"
        roots = (f"{self.path}.intermediate.", f"{self.path}.output.") if is_split else (f"{self.par.path}.",)
        return tuple(linear for linear in self.linears if linear.path.startswith(roots))


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelAnatomy:
    """A transformer as the search space, the adapters and the cost model see it.

    Attributes:
        model_type: As the model's config spells it.
        hidden_size: Width of the residual stream.
        intermediate_size: Inner width of the feed-forward networks.
        num_attention_heads: Query heads.
        vocab_size: Rows of the token embedding.
        non_linearity: The base's own activation, as the nearest of ours.
        is_ffn_gated: Whether the base's feed-forward networks are gated.
        is_causal: Whether the model predicts next tokens (has a language-model head).
        layers: The blocks in order.
        head_modules: Names of the untrained task head's top modules (`classifier`, `score`); they are trained and
            saved with the adapter. Empty for a causal model.
        num_parameters: Weights of the whole model.
        head_parameters: Weights of `head_modules`, for as many labels as the model was built with.
        final_norm_parameters: Weights of the norm that stands behind the last block (its bias among them), or 0 where
            there is none because each block ends in a norm of its own (BERT).
    """

    model_type: str
    hidden_size: int
    intermediate_size: int
    num_attention_heads: int
    vocab_size: int
    non_linearity: NonLinearity
    is_ffn_gated: bool
    is_causal: bool
    layers: tuple[LayerAnatomy, ...]
    head_modules: tuple[str, ...]
    num_parameters: int
    head_parameters: int = 0
    final_norm_parameters: int = 0

    @property
    def num_layers(self) -> int:
        return len(self.layers)

    @property
    def linear_names(self) -> tuple[str, ...]:
        """Every name that target_modules may use, in the order of the first block."""
        return tuple(dict.fromkeys(linear.name for layer in self.layers for linear in layer.linears))
