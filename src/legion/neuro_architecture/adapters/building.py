"""From an architecture to what applies it."""

from __future__ import annotations

from typing import Any, Protocol

from peft import PeftModel

from legion.neuro_architecture.adapters.combined_adapter import CombinedAdapter
from legion.neuro_architecture.adapters.peft_adapter import PeftAdapter
from legion.neuro_architecture.adapters.split_network import SplitAdapter
from legion.neuro_architecture.adapters.strategies import BottleneckAdapter, LoRAAdapter, MoEAdapter
from legion.neuro_architecture.adapters.virtual_tokens_adapter import VirtualTokensAdapter
from legion.neuro_architecture.spec.architecture import (
    AdapterArchitecture,
    AnyArchitecture,
    CombinedArchitecture,
    LoRAArchitecture,
    MoEArchitecture,
    PeftArchitecture,
    SplitArchitecture,
    VirtualTokensArchitecture,
)

__all__ = ["Adapter", "build_adapter"]


class Adapter(Protocol):
    """What every strategy's class offers."""

    @property
    def architecture(self) -> AnyArchitecture:
        """What it is."""
        ...

    def apply(self, model: Any, *, seed: int = 0) -> PeftModel:
        """Adapts `model` in place, freezes its base and returns it as a `PeftModel`."""
        ...


def build_adapter(architecture: AnyArchitecture) -> Adapter:
    """The adapter of an architecture."""
    fields = architecture.model_dump()
    strategy = fields.pop("strategy")
    built: Adapter
    match architecture:
        case LoRAArchitecture():
            built = LoRAAdapter(**fields)
        case AdapterArchitecture():
            built = BottleneckAdapter(**fields)
        case MoEArchitecture():
            built = MoEAdapter(**fields)
        case SplitArchitecture():
            built = SplitAdapter(strategy, **fields)
        case PeftArchitecture():
            built = PeftAdapter(strategy, **fields)
        case VirtualTokensArchitecture():
            built = VirtualTokensAdapter(strategy, **fields)
        case CombinedArchitecture():
            built = CombinedAdapter(**fields)
    return built
