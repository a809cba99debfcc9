"""A gated feed-forward network cut into experts of its own units, as a tuner of PEFT's kind."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final, final

import torch
from peft import PeftConfig
from peft.mapping import (
    PEFT_TYPE_TO_CONFIG_MAPPING,
    PEFT_TYPE_TO_PREFIX_MAPPING,
    PEFT_TYPE_TO_TUNER_MAPPING,
)
from peft.tuners.tuners_utils import BaseTuner, BaseTunerLayer
from torch import nn
from torch.nn.functional import linear
from transformers.activations import ACT2FN

from legion.neuro_architecture.adapters.correction import active, drawn, settle
from legion.neuro_architecture.adapters.partition import partition
from legion.neuro_architecture.adapters.routing import RoutingTrace

__all__ = ["SPLIT_LINEARS", "SPLIT_TYPE", "SplitConfig", "SplitExperts", "SplitLayer", "SplitModel"]

SPLIT_TYPE: Final = "LEGION_SPLIT"
# The linears of a gated feed-forward network as every Llama-like family calls them, in the order of the forward pass.
SPLIT_LINEARS: Final = ("gate_proj", "up_proj", "down_proj")
_PREFIX: Final = "split_"


@dataclass
class SplitConfig(PeftConfig):
    """What PEFT stores of a split feed-forward network.

    Attributes:
        hidden_size: Width of the residual stream.
        intermediate_size: Units that are dealt out.
        num_experts: Experts of equal size.
        top_k: Experts a token is sent to.
        rank: Rank of the correction.
        alpha: Its scale is alpha / rank.
        load_balancing: Whether the auxiliary loss is added while training.
        load_balancing_coefficient: Its weight.
        split: `contiguous` or `clusters`.
        activation: As transformers spells it.
        target_modules: Regular expression of the wrapped modules' paths.
        exclude_modules: PEFT's own field; unused here.
        modules_to_save: The task head's modules.
    """

    hidden_size: int = 0
    intermediate_size: int = 0
    num_experts: int = 4
    top_k: int = 4
    rank: int = 8
    alpha: float = 16.0
    load_balancing: bool = True
    load_balancing_coefficient: float = 0.01
    split: str = "clusters"
    activation: str = "silu"
    target_modules: list[str] | str | None = None
    exclude_modules: list[str] | str | None = None
    modules_to_save: list[str] | None = None

    def __post_init__(self) -> None:
        super().__post_init__()
        self.peft_type = SPLIT_TYPE


@final
class SplitExperts(nn.Module):
    """What is trained of a split network: y = W_down' (w * f(W_gate' x) * (W_up' x)), W' = W + (alpha / rank) B A.

    w scales each hidden unit by its expert's weight, top_k p_e / (sum of the top_k largest p) with p = softmax(W_r x),
    or 0 where e is not among them; it is computed as top_k softmax over the top_k largest logits, which is the same
    number and exactly 1 where all are equal.

    Tensors: `router` [num_experts, D], zero at the start where all experts are kept (so that the fresh network is the
    dense one) and random where some are left out (so that experts part); `gate_lora_a` [rank, D], `gate_lora_b`
    [I, rank], `up_lora_a`, `up_lora_b` likewise, `down_lora_a` [rank, I], `down_lora_b` [D, rank], every b zero at the
    start. The buffer `assignment` [I] is no parameter and is saved: each unit's expert, as a number from 0.

    Args:
        config: Sizes.
        gate: The base's gate projection, [I, D]; its rows decide the clusters.
    """

    assignment: torch.Tensor

    def __init__(self, config: SplitConfig, gate: torch.Tensor) -> None:
        super().__init__()
        width, inner, rank = config.hidden_size, config.intermediate_size, config.rank
        self.top_k = config.top_k
        self.scale = config.alpha / rank
        self.register_buffer("assignment", partition(gate, config.num_experts, config.split))
        is_sparse = config.top_k < config.num_experts
        self.router = (
            drawn(config.num_experts, width, fan_in=width)
            if is_sparse
            else nn.Parameter(torch.zeros(config.num_experts, width))
        )
        self.gate_lora_a = drawn(rank, width, fan_in=width)
        self.gate_lora_b = nn.Parameter(torch.zeros(inner, rank))
        self.up_lora_a = drawn(rank, width, fan_in=width)
        self.up_lora_b = nn.Parameter(torch.zeros(inner, rank))
        self.down_lora_a = drawn(rank, inner, fan_in=inner)
        self.down_lora_b = nn.Parameter(torch.zeros(width, rank))
        self.activation = ACT2FN[config.activation]

    def forward(self, x_BTD: torch.Tensor, base: nn.Module) -> tuple[torch.Tensor, torch.Tensor]:
        """The network's output and the router's logits [..., num_experts]."""
        gate, up, down = (base.get_submodule(name) for name in SPLIT_LINEARS)
        logits_BTE = linear(x_BTD, self.router)
        gated_BTI = gate(x_BTD) + self._corrected(x_BTD, self.gate_lora_a, self.gate_lora_b)
        risen_BTI = up(x_BTD) + self._corrected(x_BTD, self.up_lora_a, self.up_lora_b)
        weight_BTI = self._weight(logits_BTE).to(x_BTD.dtype)[..., self.assignment.long()]
        hidden_BTI = self.activation(gated_BTI) * risen_BTI * weight_BTI
        y_BTD = down(hidden_BTI) + self._corrected(hidden_BTI, self.down_lora_a, self.down_lora_b)
        return y_BTD, logits_BTE

    def _corrected(self, x: torch.Tensor, a: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
        return linear(linear(x, a), b) * self.scale

    def _weight(self, logits_BTE: torch.Tensor) -> torch.Tensor:
        top = logits_BTE.float().topk(self.top_k, dim=-1)
        return torch.zeros_like(logits_BTE, dtype=torch.float32).scatter(
            -1, top.indices, self.top_k * top.values.softmax(-1)
        )


@final
class SplitLayer(nn.Module, BaseTunerLayer):
    """A gated feed-forward network and the experts it is cut into."""

    adapter_layer_names = ("split_adapter",)

    def __init__(
        self, base_layer: nn.Module, adapter_name: str, config: SplitConfig, path: str, trace: RoutingTrace
    ) -> None:
        nn.Module.__init__(self)
        self.base_layer = base_layer
        self.path = path
        self.trace = trace
        self.split_adapter = nn.ModuleDict()
        self.merged_adapters: list[str] = []
        self._disable_adapters = False
        self._active_adapter: str | list[str] = adapter_name
        self.add(adapter_name, config)

    def add(self, adapter_name: str, config: SplitConfig) -> None:
        """Cuts the base layer afresh under `adapter_name`."""
        gate = self.base_layer.get_submodule(SPLIT_LINEARS[0])
        self.split_adapter[adapter_name] = settle(SplitExperts(config, gate.get_parameter("weight")), self.base_layer)
        BaseTunerLayer.set_adapter(self, self._active_adapter, inference_mode=config.inference_mode)

    def forward(self, *inputs: Any, **named: Any) -> Any:
        experts = active(self, self.split_adapter)
        if not experts:
            return self.base_layer(*inputs, **named)
        y_BTD, logits_BTE = experts[-1](*inputs, self.base_layer, **named)
        self.trace.note(self.path, logits_BTE)
        return y_BTD


@final
class SplitModel(BaseTuner):
    """Wraps the targeted feed-forward networks of a model in `SplitLayer` and traces what their routers do."""

    prefix = _PREFIX
    tuner_layer_cls = SplitLayer
    target_module_mapping: dict[str, list[str]] = {}  # noqa: RUF012 - PEFT's own class attribute; never written

    def _pre_injection_hook(self, model: nn.Module, *_: Any) -> None:
        self.trace = RoutingTrace()
        self.trace_handle = model.register_forward_pre_hook(self.trace.begin, with_kwargs=True)

    def _create_and_replace(
        self,
        peft_config: SplitConfig,
        adapter_name: str,
        target: nn.Module,
        target_name: str,
        parent: nn.Module,
        current_key: str,
        **_: Any,
    ) -> None:
        if isinstance(target, SplitLayer):
            target.add(adapter_name, peft_config)
        else:
            setattr(parent, target_name, SplitLayer(target, adapter_name, peft_config, current_key, self.trace))

    def _replace_module(self, parent: nn.Module, child_name: str, new_module: nn.Module, _: nn.Module) -> None:
        """PEFT's own copies `weight` over, which a feed-forward network does not have."""
        setattr(parent, child_name, new_module)

    def unload(self) -> nn.Module:
        """The base model, dense again and without the hook that traces routers."""
        self.trace_handle.remove()
        model: nn.Module = super().unload()
        return model


PEFT_TYPE_TO_CONFIG_MAPPING[SPLIT_TYPE] = SplitConfig
PEFT_TYPE_TO_TUNER_MAPPING[SPLIT_TYPE] = SplitModel
PEFT_TYPE_TO_PREFIX_MAPPING[SPLIT_TYPE] = _PREFIX
