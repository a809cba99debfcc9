"""Floor 3: proposes adapter architectures for a task and a base model, and stores them; walks a study's space."""

from legion.neuro_architecture.generator.choice import GENERATORS, build_generator
from legion.neuro_architecture.generator.generator import ArchitectureGenerator
from legion.neuro_architecture.generator.protocol import PointGenerator

__all__ = ["GENERATORS", "ArchitectureGenerator", "PointGenerator", "build_generator"]
