"""Floor 2: proposals, runs, evaluations and slots as files that survive a kill. Loads no torch."""

from legion.neuro_architecture.records.proposals import ProposalStore
from legion.neuro_architecture.records.runs import RunFolder, find_metrics_files
from legion.neuro_architecture.records.slots import SlotStore

__all__ = ["ProposalStore", "RunFolder", "SlotStore", "find_metrics_files"]
