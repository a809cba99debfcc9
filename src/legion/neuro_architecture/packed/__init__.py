"""Floor 2: K adapters over one frozen base in one process: shared blocks, stacked corrections, cached prefixes."""

from legion.neuro_architecture.packed.dispatch import Dispatch
from legion.neuro_architecture.packed.group import StepOutcome
from legion.neuro_architecture.packed.inputs import Inputs
from legion.neuro_architecture.packed.member import Member
from legion.neuro_architecture.packed.pool import Pool, PoolReport

__all__ = ["Dispatch", "Inputs", "Member", "Pool", "PoolReport", "StepOutcome"]
