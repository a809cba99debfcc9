"""A bottleneck as units of a feed-forward network, in the layout that the base stores its own."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final, final

import torch
from torch.nn.functional import pad

from legion.neuro_architecture.adapters.bottleneck import Bottleneck
from legion.neuro_architecture.adapters.experts import ExpertMixture
from legion.neuro_architecture.adapters.random_experts import RandomMixture, average_experts
from legion.neuro_architecture.anatomy import LayerAnatomy, LinearSite
from legion.neuro_architecture.portability.trained import TrainedForm

__all__ = [
    "BLOCK",
    "FfnNames",
    "Units",
    "ffn_names",
    "mixture_at",
    "padding_to_block",
    "place",
    "units_at",
    "widen_columns",
    "widen_rows",
]

# Kernels and quantised formats work on blocks of 32 (ggml's Q8_0); silent units fill up to a multiple of it.
BLOCK: Final = 32


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class FfnNames:
    """The linears of one block's feed-forward network.

    Attributes:
        gate: f's own projection in a gated network, else None.
        up: Into the inner width.
        down: Back to the residual stream.
    """

    gate: LinearSite | None
    up: LinearSite
    down: LinearSite


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class Units:
    """W_down f(W_up x + b_up) + b_down, or W_down (f(W_gate x + b_gate) * (W_up x + b_up)) + b_down.

    Attributes:
        gate: [m, D], in the gated layout.
        gate_bias: [m].
        up: [m, D].
        up_bias: [m].
        down: [D, m].
        down_bias: [D].
    """

    gate: torch.Tensor | None
    gate_bias: torch.Tensor | None
    up: torch.Tensor
    up_bias: torch.Tensor | None
    down: torch.Tensor
    down_bias: torch.Tensor | None

    @property
    def has_biases(self) -> bool:
        return self.up_bias is not None or self.gate_bias is not None or self.down_bias is not None

    def gated(self) -> Units:
        """The same units in the gated layout: a plain unit f(w x + b) is f(w x + b) * (0 x + 1)."""
        if self.gate is not None:
            return self
        return Units(
            gate=self.up,
            gate_bias=self.up_bias,
            up=torch.zeros_like(self.up),
            up_bias=self.up.new_ones(self.up.shape[0]),
            down=self.down,
            down_bias=self.down_bias,
        )


def ffn_names(layer: LayerAnatomy) -> FfnNames:
    """The linears of the block's feed-forward network; a gated one's first is its gate in every family we fold."""
    is_split = layer.par.style == "residual"
    roots = (f"{layer.path}.intermediate.", f"{layer.path}.output.") if is_split else (f"{layer.par.path}.",)
    linears = [linear for linear in layer.linears if linear.path.startswith(roots)]
    if len(linears) == 3:
        gate, up, down = linears
        return FfnNames(gate=gate, up=up, down=down)
    up, down = linears
    return FfnNames(gate=None, up=up, down=down)


def units_at(trained: TrainedForm, path: str) -> Units | None:
    """The units that the adapter adds at `path`: a bottleneck's, or the average of randomly routed experts'."""
    bottleneck = trained.correction(path, "bottleneck_adapter")
    if isinstance(bottleneck, Bottleneck):
        names = ("gate", "up", "up_bias", "down", "down_bias")
        return _units({name: getattr(bottleneck, name) for name in names})
    mixture = trained.correction(path, "mixture_adapter")
    if isinstance(mixture, RandomMixture):
        return _units(average_experts(mixture))
    return None


def _units(tensors: Mapping[str, torch.Tensor | None]) -> Units:
    """The parts of one bottleneck; the gated form has no biases."""
    own = {name: weight.detach() for name, weight in tensors.items() if weight is not None}
    return Units(
        gate=own.get("gate"),
        gate_bias=None,
        up=own["up"],
        up_bias=own.get("up_bias"),
        down=own["down"],
        down_bias=own.get("down_bias"),
    )


def mixture_at(trained: TrainedForm, path: str) -> ExpertMixture | None:
    """The mixture at `path`, or None."""
    module = trained.correction(path, "mixture_adapter")
    return module if isinstance(module, ExpertMixture) else None


def padding_to_block(width: int) -> int:
    """Silent units that make `width` a multiple of `BLOCK`."""
    return -width % BLOCK


def place(weight: torch.Tensor, site: LinearSite) -> torch.Tensor:
    """A weight [out, in] as the base stores it at `site`."""
    return weight.T if site.is_transposed else weight


def widen_rows(weight: torch.Tensor, extra: int) -> torch.Tensor:
    """`weight` [m, D] or [m] with `extra` rows of zeros below."""
    return pad(weight, (0, 0, 0, extra)) if weight.dim() == 2 else pad(weight, (0, extra))


def widen_columns(weight: torch.Tensor, extra: int) -> torch.Tensor:
    """`weight` [D, m] with `extra` columns of zeros to the right."""
    return pad(weight, (0, extra))
