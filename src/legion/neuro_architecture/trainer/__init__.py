"""Floor 3: really trains a proposal for a while, as a proxy for the full training. Exact to resume, bit for bit."""

from legion.neuro_architecture.trainer.config import TrainerConfig
from legion.neuro_architecture.trainer.trainer import ProxyTrainer

__all__ = ["ProxyTrainer", "TrainerConfig"]
