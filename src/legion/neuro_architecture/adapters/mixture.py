"""The mixture of bottleneck experts beside a frozen feed-forward network, as a tuner of PEFT's kind."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final, final

from peft import PeftConfig
from peft.mapping import (
    PEFT_TYPE_TO_CONFIG_MAPPING,
    PEFT_TYPE_TO_PREFIX_MAPPING,
    PEFT_TYPE_TO_TUNER_MAPPING,
)
from peft.tuners.tuners_utils import BaseTuner, BaseTunerLayer
from torch import nn

from legion.neuro_architecture.adapters.correction import active, correct, settle
from legion.neuro_architecture.adapters.experts import ExpertMixture
from legion.neuro_architecture.adapters.random_experts import RandomMixture
from legion.neuro_architecture.adapters.routing import RoutingTrace

__all__ = ["MIXTURE_TYPE", "MixtureConfig", "MixtureLayer", "MixtureModel"]

MIXTURE_TYPE: Final = "LEGION_MOE"
_PREFIX: Final = "mixture_"


@dataclass
class MixtureConfig(PeftConfig):
    """What PEFT stores of a mixture of experts.

    Attributes:
        hidden_size: Width of the residual stream.
        num_experts: Experts in each wrapped feed-forward network.
        top_k: Experts a token is sent to.
        load_balancing: Whether the auxiliary loss is added while training.
        load_balancing_coefficient: Its weight.
        bottleneck_size: Inner width of one expert.
        activation: As transformers spells it (`gelu_new`).
        style: How the wrapped module takes the correction (`FfnSite.style`).
        is_gated: Gated experts without biases.
        routing: `learned` or `random`.
        target_modules: Regular expression of the wrapped modules' paths.
        exclude_modules: PEFT's own field; unused here.
        modules_to_save: The task head's modules.
    """

    hidden_size: int = 0
    num_experts: int = 8
    top_k: int = 2
    load_balancing: bool = True
    load_balancing_coefficient: float = 0.01
    bottleneck_size: int = 16
    activation: str = "gelu"
    style: str = "output"
    is_gated: bool = False
    routing: str = "learned"
    target_modules: list[str] | str | None = None
    exclude_modules: list[str] | str | None = None
    modules_to_save: list[str] | None = None

    def __post_init__(self) -> None:
        super().__post_init__()
        self.peft_type = MIXTURE_TYPE


@final
class MixtureLayer(nn.Module, BaseTunerLayer):
    """A feed-forward network with its mixture of experts."""

    adapter_layer_names = ("mixture_adapter",)

    def __init__(
        self, base_layer: nn.Module, adapter_name: str, config: MixtureConfig, path: str, trace: RoutingTrace
    ) -> None:
        nn.Module.__init__(self)
        self.base_layer = base_layer
        self.config = config
        self.path = path
        self.trace = trace
        self.mixture_adapter = nn.ModuleDict()
        self.merged_adapters: list[str] = []
        self._disable_adapters = False
        self._active_adapter: str | list[str] = adapter_name
        self.add(adapter_name, config)

    def add(self, adapter_name: str, config: MixtureConfig) -> None:
        """Puts a fresh mixture beside the base layer under `adapter_name`."""
        self.mixture_adapter[adapter_name] = settle(_fresh(config), self.base_layer)
        BaseTunerLayer.set_adapter(self, self._active_adapter, inference_mode=config.inference_mode)

    def forward(self, *inputs: Any, **named: Any) -> Any:
        mixtures = active(self, self.mixture_adapter)
        output = correct(self.base_layer, mixtures, inputs, named, style=self.config.style, placement="par")
        for mixture in mixtures:
            if isinstance(mixture, ExpertMixture):
                self.trace.note(self.path, mixture.take_logits())
        return output


@final
class MixtureModel(BaseTuner):
    """Wraps the targeted feed-forward networks of a model in `MixtureLayer` and traces what their routers do."""

    prefix = _PREFIX
    tuner_layer_cls = MixtureLayer
    target_module_mapping: dict[str, list[str]] = {}  # noqa: RUF012 - PEFT's own class attribute; never written

    def _pre_injection_hook(self, model: nn.Module, *_: Any) -> None:
        self.trace = RoutingTrace()
        self.trace_handle = model.register_forward_pre_hook(self.trace.begin, with_kwargs=True)

    def _create_and_replace(
        self,
        peft_config: MixtureConfig,
        adapter_name: str,
        target: nn.Module,
        target_name: str,
        parent: nn.Module,
        current_key: str,
        **_: Any,
    ) -> None:
        if isinstance(target, MixtureLayer):
            target.add(adapter_name, peft_config)
        else:
            layer = MixtureLayer(target, adapter_name, peft_config, current_key, self.trace)
            setattr(parent, target_name, layer)

    def _replace_module(self, parent: nn.Module, child_name: str, new_module: nn.Module, _: nn.Module) -> None:
        """PEFT's own copies `weight` over, which a feed-forward network does not have."""
        setattr(parent, child_name, new_module)

    def unload(self) -> nn.Module:
        """The base model without the mixtures and without the hook that traces them."""
        self.trace_handle.remove()
        model: nn.Module = super().unload()
        return model


def _fresh(config: MixtureConfig) -> ExpertMixture | RandomMixture:
    width, inner = config.hidden_size, config.bottleneck_size
    if config.routing == "random":
        return RandomMixture(width, inner, config.activation, num_experts=config.num_experts, is_gated=config.is_gated)
    return ExpertMixture(
        width,
        inner,
        config.activation,
        num_experts=config.num_experts,
        top_k=config.top_k,
        is_gated=config.is_gated,
    )


PEFT_TYPE_TO_CONFIG_MAPPING[MIXTURE_TYPE] = MixtureConfig
PEFT_TYPE_TO_TUNER_MAPPING[MIXTURE_TYPE] = MixtureModel
PEFT_TYPE_TO_PREFIX_MAPPING[MIXTURE_TYPE] = _PREFIX
