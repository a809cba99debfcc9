"""Floor 3: proposes adapter architectures for a task and a base model, and stores them."""

from legion.neuro_architecture.generator.generator import ArchitectureGenerator

__all__ = ["ArchitectureGenerator"]
