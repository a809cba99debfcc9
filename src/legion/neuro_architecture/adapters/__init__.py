"""Floor 2: every strategy's adapter on a frozen transformer, applied, removed and stored.

Importing this package registers the bottleneck, the mixture, the split network and the combination with PEFT, so that
`PeftModel` treats them as its own.
"""

from legion.neuro_architecture.adapters.attachment import remove_adapter, trainable_parameters
from legion.neuro_architecture.adapters.balancing import auxiliary_loss, expert_usage
from legion.neuro_architecture.adapters.building import Adapter, build_adapter
from legion.neuro_architecture.adapters.combined_adapter import CombinedAdapter
from legion.neuro_architecture.adapters.loading import load_adapter
from legion.neuro_architecture.adapters.peft_adapter import PeftAdapter
from legion.neuro_architecture.adapters.random_experts import RandomMixture, average_experts
from legion.neuro_architecture.adapters.routing import ExpertUsage
from legion.neuro_architecture.adapters.saving import AdapterRecord, save_adapter
from legion.neuro_architecture.adapters.split_network import SplitAdapter
from legion.neuro_architecture.adapters.strategies import BottleneckAdapter, LoRAAdapter, MoEAdapter
from legion.neuro_architecture.adapters.virtual_tokens_adapter import VirtualTokensAdapter

__all__ = [
    "Adapter",
    "AdapterRecord",
    "BottleneckAdapter",
    "CombinedAdapter",
    "ExpertUsage",
    "LoRAAdapter",
    "MoEAdapter",
    "PeftAdapter",
    "RandomMixture",
    "SplitAdapter",
    "VirtualTokensAdapter",
    "auxiliary_loss",
    "average_experts",
    "build_adapter",
    "expert_usage",
    "load_adapter",
    "remove_adapter",
    "save_adapter",
    "trainable_parameters",
]
