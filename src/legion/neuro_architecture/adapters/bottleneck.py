"""The bottleneck adapter as a tuner of PEFT's kind. Source: arXiv:1902.00751 (`seq`), arXiv:2110.04366 (`par`)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final, Literal, final

import torch
from peft import PeftConfig
from peft.mapping import (
    PEFT_TYPE_TO_CONFIG_MAPPING,
    PEFT_TYPE_TO_PREFIX_MAPPING,
    PEFT_TYPE_TO_TUNER_MAPPING,
)
from peft.tuners.tuners_utils import BaseTuner, BaseTunerLayer
from torch import nn
from transformers.activations import ACT2FN

from legion.neuro_architecture.adapters.correction import active, correct, drawn, settle
from legion.neuro_architecture.adapters.norms import BlockNorm, apply_norm

__all__ = ["BOTTLENECK_TYPE", "Bottleneck", "BottleneckConfig", "BottleneckLayer", "BottleneckModel"]

BOTTLENECK_TYPE: Final = "LEGION_BOTTLENECK"
_PREFIX: Final = "bottleneck_"


@final
class Bottleneck(nn.Module):
    """W_down f(W_up x + b_up) + b_down, or gated and without biases: W_down (f(W_gate x) * (W_up x)).

    W_down and b_down start at zero, so a fresh bottleneck corrects nothing. The parameters are its own, not those of
    inner modules: PEFT takes an adapter's name out of a tensor's name only at the last or the last but one place.

    Tensors: `up` [inner, width], `up_bias` [inner], `down` [width, inner], `down_bias` [width], or `gate`, `up` and
    `down` where gated; behind a whole block (`seq_layer`) x is normalised first, with `norm` [width] that starts at
    one and, where the family's norms have biases, `norm_bias` [width] that starts at zero.

    Args:
        width: Width of the residual stream.
        inner: Width between the projections.
        activation: f, as transformers spells it.
        is_gated: The gated form.
        dropout: Share of inner activations dropped while training.
        norm: The norm in front, or None.
    """

    def __init__(
        self,
        width: int,
        inner: int,
        activation: str,
        *,
        is_gated: bool,
        dropout: float,
        norm: BlockNorm | None = None,
    ) -> None:
        super().__init__()
        self.block_norm = norm
        self.norm = nn.Parameter(torch.ones(width)) if norm else None
        self.norm_bias = nn.Parameter(torch.zeros(width)) if norm and norm.kind == "layer" else None
        self.gate = drawn(inner, width, fan_in=width) if is_gated else None
        self.up = drawn(inner, width, fan_in=width)
        self.up_bias = None if is_gated else drawn(inner, fan_in=width)
        self.down = nn.Parameter(torch.zeros(width, inner))
        self.down_bias = None if is_gated else nn.Parameter(torch.zeros(width))
        self.activation = ACT2FN[activation]
        self.dropout = nn.Dropout(dropout)

    def forward(self, x_BTD: torch.Tensor) -> torch.Tensor:
        if self.block_norm is not None and self.norm is not None:
            x_BTD = apply_norm(x_BTD, self.norm, self.norm_bias, kind=self.block_norm.kind, eps=self.block_norm.eps)
        inner_BTM = nn.functional.linear(x_BTD, self.up, self.up_bias)
        if self.gate is None:
            inner_BTM = self.activation(inner_BTM)
        else:
            inner_BTM = self.activation(nn.functional.linear(x_BTD, self.gate)) * inner_BTM
        return nn.functional.linear(self.dropout(inner_BTM), self.down, self.down_bias)


@dataclass
class BottleneckConfig(PeftConfig):
    """What PEFT stores of a bottleneck adapter.

    Attributes:
        hidden_size: Width of the residual stream.
        bottleneck_size: Inner width.
        activation: As transformers spells it (`gelu_new`).
        placement: `par`, `seq` or `seq_layer`.
        style: How the wrapped module takes the correction (`FfnSite.style`).
        is_gated: The gated form.
        dropout: Share of inner activations dropped while training.
        norm: `rms` or `layer`, the norm in front of a `seq_layer` bottleneck; None elsewhere.
        norm_eps: Its epsilon.
        target_modules: Regular expression of the wrapped modules' paths.
        exclude_modules: PEFT's own field; unused here.
        modules_to_save: The task head's modules.
    """

    hidden_size: int = 0
    bottleneck_size: int = 64
    activation: str = "gelu"
    placement: str = "par"
    style: str = "output"
    is_gated: bool = False
    dropout: float = 0.0
    norm: Literal["rms", "layer"] | None = None
    norm_eps: float = 0.0
    target_modules: list[str] | str | None = None
    exclude_modules: list[str] | str | None = None
    modules_to_save: list[str] | None = None

    def __post_init__(self) -> None:
        super().__post_init__()
        self.peft_type = BOTTLENECK_TYPE


@final
class BottleneckLayer(nn.Module, BaseTunerLayer):
    """A feed-forward network, or a whole block (`seq_layer`), with its bottleneck.

    What is asked of it and it does not have is asked of what it wraps: models read properties of their blocks.
    """

    adapter_layer_names = ("bottleneck_adapter",)

    def __init__(self, base_layer: nn.Module, adapter_name: str, config: BottleneckConfig) -> None:
        nn.Module.__init__(self)
        self.base_layer = base_layer
        self.config = config
        self.bottleneck_adapter = nn.ModuleDict()
        self.merged_adapters: list[str] = []
        self._disable_adapters = False
        self._active_adapter: str | list[str] = adapter_name
        self.add(adapter_name, config)

    def add(self, adapter_name: str, config: BottleneckConfig) -> None:
        """Puts a fresh bottleneck beside the base layer under `adapter_name`."""
        bottleneck = Bottleneck(
            config.hidden_size,
            config.bottleneck_size,
            config.activation,
            is_gated=config.is_gated,
            dropout=config.dropout,
            norm=BlockNorm(kind=config.norm, eps=config.norm_eps) if config.norm else None,
        )
        self.bottleneck_adapter[adapter_name] = settle(bottleneck, self.base_layer)
        BaseTunerLayer.set_adapter(self, self._active_adapter, inference_mode=config.inference_mode)

    def __getattr__(self, name: str) -> Any:
        try:
            return super().__getattr__(name)
        except AttributeError:
            if name == "base_layer":
                raise
            return getattr(self.base_layer, name)

    def forward(self, *inputs: Any, **named: Any) -> Any:
        corrections = active(self, self.bottleneck_adapter)
        config = self.config
        return correct(self.base_layer, corrections, inputs, named, style=config.style, placement=config.placement)


@final
class BottleneckModel(BaseTuner):
    """Wraps the targeted feed-forward networks of a model in `BottleneckLayer`."""

    prefix = _PREFIX
    tuner_layer_cls = BottleneckLayer
    target_module_mapping: dict[str, list[str]] = {}  # noqa: RUF012 - PEFT's own class attribute; never written

    def _create_and_replace(
        self,
        peft_config: BottleneckConfig,
        adapter_name: str,
        target: nn.Module,
        target_name: str,
        parent: nn.Module,
        **_: Any,
    ) -> None:
        if isinstance(target, BottleneckLayer):
            target.add(adapter_name, peft_config)
        else:
            setattr(parent, target_name, BottleneckLayer(target, adapter_name, peft_config))

    def _replace_module(self, parent: nn.Module, child_name: str, new_module: nn.Module, _: nn.Module) -> None:
        """PEFT's own copies `weight` over, which a feed-forward network does not have."""
        setattr(parent, child_name, new_module)


PEFT_TYPE_TO_CONFIG_MAPPING[BOTTLENECK_TYPE] = BottleneckConfig
PEFT_TYPE_TO_TUNER_MAPPING[BOTTLENECK_TYPE] = BottleneckModel
PEFT_TYPE_TO_PREFIX_MAPPING[BOTTLENECK_TYPE] = _PREFIX
