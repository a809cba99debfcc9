"""What a model costs to run and to keep: operations, memory, bytes."""

from __future__ import annotations

import weakref
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, final

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from torch.utils.flop_counter import FlopCounterMode

from legion.foundation.errors import ModelError
from legion.neuro_architecture.evaluator.outcome import mean_with_error
from legion.neuro_architecture.spec.measurement import Measurement

__all__ = [
    "LivePeak",
    "count_flops",
    "live_peak",
    "model_bytes",
    "peak_memory_bytes",
    "running_cost",
    "weight_file_bytes",
]

_BYTES_IN_MB = 1e6


def running_cost(model: Any, batches: Sequence[dict[str, Tensor]]) -> dict[str, Measurement]:
    """`flops_per_example` and `peak_memory_mb` of a model over batches of one example each."""
    flops = [float(count_flops(model, batch)) for batch in batches]
    peaks = [peak_memory_bytes(model, batch) / _BYTES_IN_MB for batch in batches]
    return {
        "flops_per_example": mean_with_error(flops, "FLOP/example"),
        "peak_memory_mb": Measurement.measured(max(peaks), "MB", n=len(peaks)),
    }


def count_flops(model: Any, batch: dict[str, Tensor]) -> int:
    """Operations of one forward pass as torch's own counter sees them.

    Multiplications and additions of matrix products, convolutions and attention (2 m k n for a product); norms,
    activations and look-ups are not counted, which is the usual convention.
    """
    counter = FlopCounterMode(display=False)
    with torch.no_grad(), counter:
        model(**batch)
    return int(counter.get_total_flops())


def peak_memory_bytes(model: Any, batch: dict[str, Tensor]) -> int:
    """Weights and buffers, plus the most that the tensors of one forward pass hold at once.

    On CUDA the allocator's own peak; elsewhere the storages of tensors alive between operations, without what a kernel
    uses inside itself. The interpreter and libraries are not counted: they are the same for every candidate.
    """
    if model.device.type == "cuda":
        torch.cuda.synchronize()
        before = torch.cuda.memory_allocated()
        torch.cuda.reset_peak_memory_stats()
        with torch.no_grad():
            model(**batch)
        torch.cuda.synchronize()
        return model_bytes(model) + torch.cuda.max_memory_allocated() - before
    return model_bytes(model) + live_peak(lambda: model(**batch))


def live_peak(work: Callable[[], Any]) -> int:
    """Most bytes that the tensors made by `work` hold at once."""
    with torch.no_grad(), LivePeak() as peak:
        work()
    return peak.peak_bytes


@final
class LivePeak(TorchDispatchMode):
    """Counts the bytes of tensors made while it is on, from their making to their release. For one thread.

    Views share the storage of what they view and add nothing; tensors from before are not counted.
    """

    def __init__(self) -> None:
        super().__init__()
        self.peak_bytes = 0
        self._live_bytes = 0
        self._known: weakref.WeakKeyDictionary[torch.UntypedStorage, None] = weakref.WeakKeyDictionary()

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """Runs the operation and adds the storages that it made."""
        inputs = {tensor.untyped_storage().data_ptr() for tensor in _tensors((args, kwargs or {}))}
        result = func(*args, **(kwargs or {}))
        for tensor in _tensors(result):
            self._add(tensor.untyped_storage(), inputs)
        return result

    def _add(self, storage: torch.UntypedStorage, inputs: set[int]) -> None:
        if storage in self._known or storage.data_ptr() in inputs:
            return
        size = storage.nbytes()
        self._known[storage] = None
        self._live_bytes += size
        self.peak_bytes = max(self.peak_bytes, self._live_bytes)
        weakref.finalize(storage, self._release, size)

    def _release(self, size: int) -> None:
        self._live_bytes -= size


def _tensors(tree: Any) -> list[Tensor]:
    return [leaf for leaf in tree_leaves(tree) if isinstance(leaf, Tensor)]


def model_bytes(model: Any) -> int:
    """Bytes of all parameters and buffers, shared ones once."""
    storages = {
        tensor.untyped_storage().data_ptr(): tensor.untyped_storage().nbytes()
        for tensor in (*model.parameters(), *model.buffers())
    }
    return sum(storages.values())


def weight_file_bytes(folder: Path) -> int:
    """Bytes of the safetensors files in a folder.

    Raises:
        ModelError: there is none.
    """
    sizes = [path.stat().st_size for path in sorted(folder.glob("*.safetensors"))]
    if not sizes:
        raise ModelError(f"no safetensors file in {folder}")
    return sum(sizes)
