"""What this machine does in a second, measured once and kept beside the embedded assets."""

from __future__ import annotations

import math
import statistics
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Annotated, Any, Final

from pydantic import Field

from legion.foundation.errors import UsageError, WorldError
from legion.foundation.files import exclusive_lock, read_json, write_json
from legion.foundation.machine import available_cores, describe_machine
from legion.foundation.settings import Settings
from legion.neuro_architecture.spec._value import Value

if TYPE_CHECKING:
    import torch

__all__ = ["Calibration", "calibrate"]

FILE_NAME: Final = "calibration.json"
_WIDTH: Final = 1024
# More weights than a processor's caches hold, so that each product reads its own from memory, as a model's does.
_NUM_WEIGHTS: Final = 16
_ROWS: Final = (32, 128)
_ELEMENTS: Final = (32, 1536)
_MOST_REPEATS: Final = 40
_FEWEST_REPEATS: Final = 12
_SECONDS_EACH: Final = 0.15  # enough on a quiet machine for most repeats, and a bound on a busy one

Positive = Annotated[float, Field(gt=0.0)]


class Calibration(Value):
    """Rates of one machine at the shapes of batch 1, the fastest of repeated runs.

    Attributes:
        machine: Processor and cores, or the accelerator's name.
        device: `cpu` or `cuda`.
        torch_version: The torch that was measured.
        threads: Threads that torch used.
        matmul_flops_per_s: Operations of fp32 products of a few dozen rows, beyond the reading of their weights.
        memory_bytes_per_s: Weights read by products of one row.
        elements_per_s: Numbers that GELU passes over.
        kernel_overhead_s: Time of one dispatched kernel that has nothing to compute, the module around it included.
    """

    machine: str
    device: str
    torch_version: str
    threads: int
    matmul_flops_per_s: Positive
    memory_bytes_per_s: Positive
    elements_per_s: Positive
    kernel_overhead_s: Positive

    @property
    def key(self) -> str:
        """What the rates hold for."""
        return _key(self.machine, self.device, self.torch_version, self.threads)


def _key(machine: str, device: str, torch_version: str, threads: int) -> str:
    return f"{machine} | {device} | torch {torch_version} | {threads} threads"


def calibrate(settings: Settings) -> Calibration:
    """This machine's rates: read from `calibration.json` in the home folder, or measured in about a second and kept.

    Raises:
        UsageError: the file is damaged.
        WorldError: CUDA is asked for and absent, or the file cannot be written.
    """
    import torch

    device = _device(settings)
    machine = torch.cuda.get_device_name() if device == "cuda" else _processor()
    threads = settings.threads or available_cores()
    key = _key(machine, device, torch.__version__, threads)
    path = settings.home / FILE_NAME
    with exclusive_lock(path.with_suffix(".lock")):
        known = _read(settings)
        if key not in known:
            rates = _measure(device, threads)
            known[key] = Calibration(
                machine=machine, device=device, torch_version=torch.__version__, threads=threads, **rates
            )
            write_json(path, {name: calibration.to_dict() for name, calibration in sorted(known.items())})
    return known[key]


def _device(settings: Settings) -> str:
    import torch

    has_cuda = torch.cuda.is_available()
    if settings.device == "cuda" and not has_cuda:
        raise WorldError("device is cuda, but torch sees none", hint="set LEGION_DEVICE=cpu or auto")
    return "cuda" if has_cuda and settings.device != "cpu" else "cpu"


def _processor() -> str:
    machine = describe_machine()
    return f"{machine['cpu']}, {machine['cores']} cores"


def _read(settings: Settings) -> dict[str, Calibration]:
    path = settings.home / FILE_NAME
    if not path.is_file():
        return {}
    hint = f"delete {path}; the machine is measured again in a second"
    try:
        content = read_json(path)
        if not isinstance(content, dict):
            raise UsageError(f"{path} holds no object")
        return {name: Calibration.parse(item, what=f"{path}: {name}") for name, item in content.items()}
    except UsageError as error:
        raise UsageError(error.message, cause=error.cause, hint=hint) from error


def _measure(device: str, threads: int) -> dict[str, float]:
    """The four rates, with torch's thread count and global generators left as they were.

    One thread is measured, too, and each rate is the better one: on a quiet machine more threads are not slower, and
    on a busy one they wait for a core that another program holds.
    """
    import torch

    before = torch.get_num_threads()
    measured = []
    try:
        with torch.inference_mode(), torch.random.fork_rng(devices=[]):
            for count in sorted({1, threads}):
                torch.set_num_threads(count)
                measured.append(_rates(device))
    finally:
        torch.set_num_threads(before)
    return {
        name: (min if name == "kernel_overhead_s" else max)(rates[name] for rates in measured) for name in measured[0]
    }


def _rates(device: str) -> dict[str, float]:
    import torch

    weights = [torch.ones(_WIDTH, _WIDTH, device=device) for _ in range(_NUM_WEIGHTS)]
    reading_s = _product_s(weights, 1, device)
    return {
        "matmul_flops_per_s": _flops_per_s(weights, reading_s, device),
        "memory_bytes_per_s": 4.0 * _WIDTH**2 / reading_s,
        "elements_per_s": _elements_per_s(device),
        "kernel_overhead_s": _kernel_overhead_s(device),
    }


def _flops_per_s(weights: list[torch.Tensor], reading_s: float, device: str) -> float:
    """Geometric mean over row counts; reading the weights is taken off, but never more than half of the time."""
    rates = []
    for rows in _ROWS:
        taken_s = _product_s(weights, rows, device)
        rates.append(2.0 * rows * _WIDTH**2 / max(taken_s - reading_s, taken_s / 2))
    return math.exp(statistics.fmean(map(math.log, rates)))


def _product_s(weights: list[torch.Tensor], rows: int, device: str) -> float:
    import torch

    x = torch.ones(rows, _WIDTH, device=device)
    turn = iter(range(10**9))
    return _fastest_s(lambda: torch.nn.functional.linear(x, weights[next(turn) % len(weights)]), device)


def _elements_per_s(device: str) -> float:
    import torch

    x = torch.ones(_ELEMENTS, device=device)
    return x.numel() / _fastest_s(lambda: torch.nn.functional.gelu(x), device)


def _kernel_overhead_s(device: str) -> float:
    """A transformer too small to compute anything, its time over the kernels that torch dispatches for it."""
    import torch
    from transformers import BertConfig, BertModel

    config = BertConfig(
        vocab_size=8,
        hidden_size=8,
        num_hidden_layers=6,
        num_attention_heads=2,
        intermediate_size=8,
        max_position_embeddings=8,
        attn_implementation="eager",
    )
    model: Any = BertModel(config).eval().to(device)
    tokens = torch.ones(1, 4, dtype=torch.long, device=device)
    mask = torch.ones_like(tokens)
    kernels = _count_kernels(lambda: model(input_ids=tokens, attention_mask=mask))
    return _fastest_s(lambda: model(input_ids=tokens, attention_mask=mask), device) / kernels


def _count_kernels(work: Callable[[], Any]) -> int:
    from torch.utils._python_dispatch import TorchDispatchMode

    class Counter(TorchDispatchMode):
        count = 0

        def __torch_dispatch__(self, kernel: Any, _: Any, inputs: Any = (), named: Any = None) -> Any:
            self.count += 1
            return kernel(*inputs, **(named or {}))

    with Counter() as counter:
        work()
    return counter.count


def _fastest_s(work: Callable[[], Any], device: str) -> float:
    """The fastest of a call's repeats, after two that warm up.

    Other work on the machine only ever adds to a time, threads that wait for each other a hundredfold, and what is
    measured in a busy second is kept; so the median would remember the neighbours.
    """
    for _ in range(2):
        _timed(work, device)
    times: list[float] = []
    while len(times) < _FEWEST_REPEATS or (len(times) < _MOST_REPEATS and sum(times) < _SECONDS_EACH):
        times.append(_timed(work, device))
    return min(times)


def _timed(work: Callable[[], Any], device: str) -> float:
    import torch

    started = time.perf_counter()
    work()
    if device == "cuda":
        torch.cuda.synchronize()
    return time.perf_counter() - started
