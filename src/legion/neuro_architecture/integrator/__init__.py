"""Floor 3: turns the winners of an evaluation into patches of LEGION Core's slots. Loads no torch."""

from legion.neuro_architecture.integrator.integration import Integrator
from legion.neuro_architecture.integrator.status import Patch, PatchStatus

__all__ = ["Integrator", "Patch", "PatchStatus"]
