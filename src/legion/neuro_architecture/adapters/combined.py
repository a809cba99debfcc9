"""A LoRA below and a bottleneck above as one tuner of PEFT's kind, in one config and one file of weights."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Final, final

from peft import LoraConfig, LoraModel, PeftConfig
from peft.mapping import (
    PEFT_TYPE_TO_CONFIG_MAPPING,
    PEFT_TYPE_TO_PREFIX_MAPPING,
    PEFT_TYPE_TO_TUNER_MAPPING,
)
from peft.tuners.tuners_utils import BaseTuner, BaseTunerLayer
from torch import nn

from legion.neuro_architecture.adapters.bottleneck import BottleneckConfig, BottleneckLayer

__all__ = ["COMBINED_TYPE", "CombinedConfig", "CombinedModel"]

COMBINED_TYPE: Final = "LEGION_COMBINED"


@dataclass
class CombinedConfig(PeftConfig):
    """What PEFT stores of a combination.

    Attributes:
        lora: Fields of the lower blocks' `LoraConfig`.
        bottleneck: Fields of the upper blocks' `BottleneckConfig`.
        target_modules: Regular expression of the paths that the bottleneck wraps; the LoRA's is among its fields.
        exclude_modules: PEFT's own field; unused here.
        modules_to_save: The task head's modules.
    """

    lora: dict[str, Any] = field(default_factory=dict)
    bottleneck: dict[str, Any] = field(default_factory=dict)
    target_modules: list[str] | str | None = None
    exclude_modules: list[str] | str | None = None
    modules_to_save: list[str] | None = None

    def __post_init__(self) -> None:
        super().__post_init__()
        self.peft_type = COMBINED_TYPE


@final
class CombinedModel(BaseTuner):
    """PEFT's own LoRA layers below, `BottleneckLayer` above; both are switched, saved and removed as one."""

    prefix = "bottleneck_"
    tuner_layer_cls = BaseTunerLayer
    target_module_mapping: dict[str, list[str]] = {}  # noqa: RUF012 - PEFT's own class attribute; never written

    def _pre_injection_hook(self, model: nn.Module, config: CombinedConfig, adapter_name: str) -> None:
        """Puts the LoRA in before PEFT looks for what the bottleneck wraps, which lies in other blocks."""
        below = LoraModel(model, LoraConfig(**config.lora, inference_mode=config.inference_mode), adapter_name)
        self.targeted_module_names.extend(below.targeted_module_names)
        del model.peft_config  # which `LoraModel` leaves; there is one config, and PEFT sets it at the end

    def _create_and_replace(
        self,
        peft_config: CombinedConfig,
        adapter_name: str,
        target: nn.Module,
        target_name: str,
        parent: nn.Module,
        **_: Any,
    ) -> None:
        config = BottleneckConfig(**peft_config.bottleneck, inference_mode=peft_config.inference_mode)
        if isinstance(target, BottleneckLayer):
            target.add(adapter_name, config)
        else:
            setattr(parent, target_name, BottleneckLayer(target, adapter_name, config))

    def _replace_module(self, parent: nn.Module, child_name: str, new_module: nn.Module, _: nn.Module) -> None:
        """PEFT's own copies `weight` over, which a feed-forward network does not have."""
        setattr(parent, child_name, new_module)


PEFT_TYPE_TO_CONFIG_MAPPING[COMBINED_TYPE] = CombinedConfig
PEFT_TYPE_TO_TUNER_MAPPING[COMBINED_TYPE] = CombinedModel
PEFT_TYPE_TO_PREFIX_MAPPING[COMBINED_TYPE] = CombinedModel.prefix
