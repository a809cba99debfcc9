"""Floor 3: the immutable registry of architectures, their evidence and their files. Loads no torch."""

from legion.neuro_architecture.registry.store import ArchitectureRegistry
from legion.neuro_architecture.registry.verification import Finding, VerificationReport

__all__ = ["ArchitectureRegistry", "Finding", "VerificationReport"]
