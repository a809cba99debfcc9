"""Floor 4: LEGION Core, the slots that agents call. What answers is what the manifest says, and the answer says so."""

from legion.core.answer import Answer
from legion.core.legion_core import LegionCore

__all__ = ["Answer", "LegionCore"]
