"""Latency of the trained model and memory of the process."""

from __future__ import annotations

import resource
import statistics
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

import psutil
import torch
from torch import Tensor

from legion.foundation.clock import Clock
from legion.neuro_architecture.packed.precision import halved_products
from legion.neuro_architecture.spec.measurement import Measurement

__all__ = ["free_memory", "measure_gpu_memory", "measure_latency", "measure_peak_memory", "reset_peaks"]

_MB: Final = 1e6
_STATUS: Final = Path("/proc/self/status")
_CLEAR: Final = Path("/proc/self/clear_refs")


@torch.no_grad()
def measure_latency(
    model: Any, batches: Sequence[dict[str, Tensor]], device: torch.device, *, num_warmup: int, clock: Clock
) -> Measurement:
    """Median time of a forward pass over each of `batches` (one example each), after `num_warmup` untimed passes."""
    model.eval()
    inputs = [{name: item.to(device) for name, item in batch.items() if name != "labels"} for batch in batches]
    times_ms = []
    with halved_products(model.dtype, device):
        for index in range(num_warmup):
            model(**inputs[index % len(inputs)])
        for batch in inputs:
            _synchronize(device)
            began_s = clock.monotonic_s()
            model(**batch)
            _synchronize(device)
            times_ms.append((clock.monotonic_s() - began_s) * 1e3)
    return Measurement.measured(statistics.median(times_ms), "ms", n=len(times_ms))


def _synchronize(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def reset_peaks(device: torch.device) -> bool:
    """Starts the high-water marks anew; False where the system cannot, and the process's own mark stays.

    Linux forgets a process's peak when 5 is written to its `clear_refs` (man 5 proc).
    """
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
    if not sys.platform.startswith("linux"):
        return False
    try:
        _CLEAR.write_text("5")
    except OSError:
        return False
    return True


def measure_peak_memory() -> Measurement:
    """High-water mark of the process's resident memory, since `reset_peaks` where that works."""
    if sys.platform.startswith("linux"):
        for line in _STATUS.read_text(encoding="ascii", errors="replace").splitlines():
            if line.startswith("VmHWM:"):
                return Measurement.measured(int(line.split()[1]) * 1024 / _MB, "MB")
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return Measurement.measured(peak * (1 if sys.platform == "darwin" else 1024) / _MB, "MB")


def measure_gpu_memory(device: torch.device) -> Measurement:
    """Most memory that torch held on the accelerator since `reset_peaks`."""
    if device.type != "cuda":
        return Measurement.absent("MB", "trained on the CPU")
    return Measurement.measured(torch.cuda.max_memory_allocated(device) / _MB, "MB")


def free_memory(device: torch.device) -> int:
    """Bytes that may still be taken: on the accelerator, or of the machine's memory."""
    if device.type == "cuda":
        return int(torch.cuda.mem_get_info(device)[0])
    return int(psutil.virtual_memory().available)
