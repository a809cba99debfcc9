"""Device, threads and torch's random state for the time of one training; all are put back afterwards."""

from __future__ import annotations

import contextlib
import functools
import platform
import sys
from collections.abc import Iterator
from importlib.metadata import version
from typing import Any, Final

import torch

from legion import __version__
from legion.foundation.errors import WorldError
from legion.foundation.machine import available_cores, describe_machine
from legion.foundation.settings import Settings

__all__ = ["choose_device", "describe_place", "library_versions", "torch_environment"]

_LIBRARIES: Final = ("torch", "transformers", "peft", "tokenizers", "safetensors")


def choose_device(name: str) -> torch.device:
    """`auto` takes CUDA where there is one.

    Raises:
        WorldError: `cuda` was asked for and torch finds none.
    """
    has_cuda = torch.cuda.is_available()
    if name == "cuda" and not has_cuda:
        raise WorldError("no CUDA device", cause=f"torch {torch.__version__} finds none", hint="set LEGION_DEVICE=auto")
    if name != "cpu" and has_cuda:
        return torch.device("cuda", torch.cuda.current_device())
    return torch.device("cpu")


@contextlib.contextmanager
def torch_environment(settings: Settings) -> Iterator[torch.device]:
    """Sets the number of threads, forks the random state and yields the device."""
    device = choose_device(settings.device)
    threads = torch.get_num_threads()
    torch.set_num_threads(settings.threads or available_cores())
    try:
        with torch.random.fork_rng(devices=[device] if device.type == "cuda" else []):
            yield device
    finally:
        torch.set_num_threads(threads)


def describe_place(device: torch.device) -> dict[str, Any]:
    """The machine, with threads and device in use."""
    name = torch.cuda.get_device_name(device) if device.type == "cuda" else None
    return describe_machine() | {"threads": torch.get_num_threads(), "device": device.type, "accelerator": name}


def library_versions() -> dict[str, str]:
    """Versions of everything that the numbers may depend on; looked up once, as they cannot change in a process."""
    return dict(_versions())


@functools.cache
def _versions() -> dict[str, str]:
    return {
        "legion": __version__,
        "python": platform.python_version(),
        "implementation": sys.implementation.name,
        **{name: version(name) for name in _LIBRARIES},
    }
