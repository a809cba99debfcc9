"""Which machine a number was measured on."""

from __future__ import annotations

import functools
import os
import platform
from pathlib import Path
from typing import Final

__all__ = ["available_cores", "cpu_features", "describe_machine", "memory_bytes"]

_FEATURES: Final = ("avx2", "avx512f", "avx512_bf16", "amx_bf16", "amx_int8")


def describe_machine() -> dict[str, str | int | float | None]:
    """Processor, cores this process may use, memory, system and Python: plain values for a record."""
    return {
        "cpu": _cpu_name(),
        "cores": available_cores(),
        "memory_gib": round(memory_bytes() / 2**30, 1),
        "cpu_features": " ".join(cpu_features()),
        "system": f"{platform.system()} {platform.release()} {platform.machine()}",
        "python": platform.python_version(),
    }


def available_cores() -> int:
    """Cores this process may run on, which may be fewer than the machine has."""
    if hasattr(os, "sched_getaffinity"):  # Linux only
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def memory_bytes() -> int:
    """Physical memory."""
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")


def cpu_features() -> tuple[str, ...]:
    """Vector extensions that matter for training, of those the system names."""
    present = set(_cpuinfo("flags").split())
    return tuple(name for name in _FEATURES if name in present)


def _cpu_name() -> str:
    return _cpuinfo("model name") or platform.processor() or "unknown"


@functools.cache
def _cpuinfo(key: str) -> str:
    path = Path("/proc/cpuinfo")
    if not path.is_file():
        return ""
    for line in path.read_text(encoding="utf-8", errors="replace").splitlines():
        name, _, value = line.partition(":")
        if name.strip() == key:
            return value.strip()
    return ""
