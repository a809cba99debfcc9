"""How a pool computes on this machine: kernel, dtype, group size, threads."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any, Literal, final

from legion.neuro_architecture.packed.attention import Kernel

__all__ = ["Dispatch", "Precision"]

Precision = Literal["float32", "bfloat16"]


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class Dispatch:
    """The choices; `measure_dispatch` makes them by a measurement.

    Attributes:
        kernel: How attention is computed.
        precision: Of the frozen base and the activations; adapters and their updates stay in fp32.
        workers: Groups that run side by side, each on one thread.
        group_blocks: Most blocks that a group's members pass through together, counted over its members: with 6, one
            member that begins at the first of six blocks, or six that begin at the last.
        reason: Where the choices come from.
    """

    kernel: Kernel = "eager"
    precision: Precision = "float32"
    workers: int = 1
    group_blocks: int = 8
    reason: str = "defaults"

    def to_dict(self) -> dict[str, Any]:
        return asdict(self)
