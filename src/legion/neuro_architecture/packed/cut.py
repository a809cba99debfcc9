"""Where a member leaves the frozen base: before its first correction, which may lie inside a block."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from enum import IntEnum
from typing import Final, final

from legion.neuro_architecture.anatomy import ModelAnatomy
from legion.neuro_architecture.spec.architecture import (
    AdapterArchitecture,
    AnyArchitecture,
    CombinedArchitecture,
    MoEArchitecture,
)

__all__ = ["Cut", "Stage", "expected_cut", "passes_below"]

# Of a block's weights about a third are attention's, two thirds the feed-forward network's.
_ATTENTION_SHARE: Final = 1 / 3


class Stage(IntEnum):
    """How far a block has run without corrections.

    The state is the stream x before the block (`ENTERED`), h behind its attention (`ATTENDED`), or h beside the
    feed-forward network's output y (`FED`).
    """

    ENTERED = 0
    ATTENDED = 1
    FED = 2


@final
@dataclass(frozen=True, slots=True, order=True)
class Cut:
    """A place in the base; all before it is the same for every member that begins here.

    Attributes:
        block: The first block that a correction changes.
        stage: How far it has run.
        is_read_only: Whether the state holds the one position that the head reads and no other.
    """

    block: int
    stage: Stage = Stage.ENTERED
    is_read_only: bool = False

    @property
    def passes(self) -> float:
        """Block passes below it."""
        return self.block + {Stage.ENTERED: 0.0, Stage.ATTENDED: _ATTENTION_SHARE, Stage.FED: 1.0}[self.stage]

    def width(self, hidden_size: int) -> int:
        """Features of the state."""
        return 2 * hidden_size if self.stage is Stage.FED else hidden_size


def expected_cut(architecture: AnyArchitecture, anatomy: ModelAnatomy) -> Cut:
    """Where an adapter's pass will begin, told before it is built; it may turn out to begin further up, never below."""
    if isinstance(architecture, CombinedArchitecture):
        return Cut(architecture.first_layer)
    block = min(getattr(architecture, "layers", None) or (0,))
    if not isinstance(architecture, AdapterArchitecture | MoEArchitecture):
        return Cut(block)
    is_routed = isinstance(architecture, MoEArchitecture) and architecture.load_balancing
    is_last = block == anatomy.num_layers - 1
    return Cut(block, Stage.FED, is_last and not is_routed and not anatomy.is_causal)


def passes_below(cuts: Iterable[Cut]) -> float:
    """Block passes of one way up that comes by all of them."""
    return max((cut.passes for cut in cuts), default=0.0)
