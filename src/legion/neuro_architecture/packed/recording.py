"""Steps recorded once for each shape of batch and replayed: thousands of kernels for one launch (CUDA graphs)."""

from __future__ import annotations

import logging
import warnings
from collections.abc import Callable, Mapping
from typing import Any, final

import torch
from torch import Tensor

__all__ = ["Recorder", "Studio"]

log = logging.getLogger(__name__)

# A step as a function of tensors alone; the same kernels on the same addresses whenever their shapes are the same.
Work = Callable[[Mapping[str, Tensor]], Tensor]
_Shape = tuple[tuple[str, tuple[int, ...], torch.dtype], ...]


@final
class Studio:
    """The stream and the memory that all recordings of a pool share: they run one after another.

    Args:
        device: A CUDA device.
    """

    def __init__(self, device: torch.device) -> None:
        self.stream = torch.cuda.Stream(device)
        self.memory = torch.cuda.graph_pool_handle()


@final
class Recorder:
    """Runs one group's steps. The first of a shape runs as it is; the second is recorded, and replayed from then on, so
    that a shape seen once costs nothing more. What is recorded must neither draw numbers nor wait for the device. A
    step that does wait, as a member's own layer may, is refused by the device when it is recorded; then none is.

    Args:
        studio: The pool's.
    """

    def __init__(self, studio: Studio) -> None:
        self._studio = studio
        self._seen: set[_Shape] = set()
        self._tapes: dict[_Shape, _Tape] = {}
        self._is_refused = False

    @property
    def num_recorded(self) -> int:
        """Shapes that are replayed by now."""
        return len(self._tapes)

    def run(self, work: Work, given: Mapping[str, Tensor]) -> Tensor:
        """What `work` gives for these tensors."""
        shape = tuple((name, tuple(tensor.shape), tensor.dtype) for name, tensor in given.items())
        stream, current = self._studio.stream, torch.cuda.current_stream()
        stream.wait_stream(current)
        with torch.cuda.stream(stream):
            if shape in self._seen and shape not in self._tapes and not self._is_refused:
                self._record(shape, work, given)
            tape = self._tapes.get(shape)
            found = work(given) if tape is None else tape.play(given)
            self._seen.add(shape)
        current.wait_stream(stream)
        return found

    def _record(self, shape: _Shape, work: Work, given: Mapping[str, Tensor]) -> None:
        try:
            with warnings.catch_warnings():
                warnings.filterwarnings("ignore", message="The CUDA Graph is empty")  # of one that was refused at once
                self._tapes[shape] = _Tape(self._studio, work, given)
        except RuntimeError as error:
            self._is_refused = True
            log.warning("steps cannot be recorded and run as they are: %s", str(error).splitlines()[0])


@final
class _Tape:
    """The kernels of one step, on tensors of their own."""

    def __init__(self, studio: Studio, work: Work, given: Mapping[str, Tensor]) -> None:
        self._held = {name: tensor.clone() for name, tensor in given.items()}
        self._graph: Any = torch.cuda.CUDAGraph()
        with torch.cuda.graph(self._graph, pool=studio.memory, stream=studio.stream):
            self._found = work(self._held)

    def play(self, given: Mapping[str, Tensor]) -> Tensor:
        for name, tensor in given.items():
            self._held[name].copy_(tensor)
        self._graph.replay()
        return self._found.clone()
