"""Floor 3: really trains proposals for a while, as proxies for the full training. Exact to resume, bit for bit."""

from legion.neuro_architecture.trainer.config import TrainerConfig
from legion.neuro_architecture.trainer.feed import watched_examples
from legion.neuro_architecture.trainer.population_trainer import PopulationReport, PopulationTrainer
from legion.neuro_architecture.trainer.rungs import Rungs
from legion.neuro_architecture.trainer.trainer import ProxyTrainer

__all__ = ["PopulationReport", "PopulationTrainer", "ProxyTrainer", "Rungs", "TrainerConfig", "watched_examples"]
