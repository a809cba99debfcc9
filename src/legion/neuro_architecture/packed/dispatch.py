"""How a pool computes on this machine: chosen by a measurement of a second or two, kept, and overridable."""

from __future__ import annotations

import concurrent.futures
import math
import time
from collections.abc import Callable
from typing import Annotated, Any, Final, Literal, get_args

import torch
from pydantic import Field
from torch import Tensor, nn

from legion.foundation.errors import UsageError
from legion.foundation.files import exclusive_lock, read_json, write_json
from legion.foundation.machine import available_cores, cpu_features, describe_machine
from legion.foundation.settings import Settings
from legion.neuro_architecture.packed.attention import Kernel, attend, heads
from legion.neuro_architecture.spec._value import Value

__all__ = ["Dispatch", "Precision", "choose_dispatch"]

# float64 is no choice of speed: two ways of computing the same thing part by less in it, so tests compare in it.
Precision = Literal["float32", "bfloat16", "float64"]
Count = Annotated[int, Field(ge=1)]

FILE_NAME: Final = "dispatch.json"
_MEASURED: Final = frozenset({"kernel", "precision", "workers", "group_blocks"})
# Without these a processor computes bf16 products by way of fp32, about ten times slower than fp32 itself.
_BF16_FEATURES: Final = frozenset({"amx_bf16", "avx512_bf16"})
_BF16_MARGIN: Final = 1.2
# Shapes of a small encoder's block on short texts.
_BATCH: Final = 16
_LENGTH: Final = 32
_WIDTH: Final = 384
_INNER: Final = 1536
_HEAD: Final = 32
_MEMBERS: Final = (1, 2, 4, 8)
_SECONDS_EACH: Final = 0.1
_MOST_REPEATS: Final = 20
_FEWEST_REPEATS: Final = 3
# An accelerator takes as many members as its memory holds: small products cost it launches, not operations.
_ACCELERATOR_BLOCKS: Final = 4096
# A block of a group is some hundred launches, a member's pass through it the arithmetic of about ten of them.
_ACCELERATOR_OVERHEAD: Final = 8.0
_ACCELERATOR_MULTIPLE: Final = 16


class Dispatch(Value):
    """The choices of one machine.

    Attributes:
        kernel: How attention is computed.
        precision: Of the frozen base and the activations; adapters and their updates stay in fp32.
        workers: Groups that run side by side, each on one thread.
        group_blocks: Most blocks that a group's members pass through together, counted over its members: with 6, one
            member that begins at the first of six blocks, or six that begin at the last.
        group_overhead: What one more group costs at each block that it passes, in members: groups that begin at
            different places are merged where that is cheaper. 0 merges none.
        length_multiple: Batches are padded to multiples of so many tokens, so that their shapes repeat.
        graphs: Whether a step is recorded once for each shape of batch and replayed; on CUDA.
        reason: Where the choices come from, with what was measured.
    """

    kernel: Kernel = "eager"
    precision: Precision = "float32"
    workers: Count = 1
    group_blocks: Count = 8
    group_overhead: Annotated[float, Field(ge=0.0)] = 0.0
    length_multiple: Count = 1
    graphs: bool = False
    reason: str = "defaults"


def choose_dispatch(settings: Settings, device: torch.device) -> Dispatch:
    """What the settings say; what they leave open as measured on this machine, from `dispatch.json` in the home folder
    or measured now and kept there.

    Raises:
        UsageError: the file is damaged, or graphs are asked for without CUDA.
        WorldError: it cannot be written.
    """
    named: dict[str, Any] = {}
    if settings.attention != "auto":
        named["kernel"] = settings.attention
    if settings.precision != "auto":
        named["precision"] = settings.precision
    if settings.workers:
        named["workers"] = settings.workers
    if settings.group_blocks:
        named["group_blocks"] = settings.group_blocks
    if device.type == "cpu" and named.keys() == _MEASURED:
        return Dispatch(**named, reason="settings")
    if settings.graphs != "auto":
        named["graphs"] = _takes_graphs(settings, device)
    measured = _measured(settings, device)
    if not named:
        return measured
    reason = f"settings ({', '.join(sorted(named))}); {measured.reason}"
    return Dispatch.parse(measured.to_dict() | named | {"reason": reason}, what="settings")


def _takes_graphs(settings: Settings, device: torch.device) -> bool:
    if settings.graphs == "on" and device.type != "cuda":
        raise UsageError(
            f"graphs are recorded on CUDA, and training runs on {device.type}", hint="set LEGION_GRAPHS=auto"
        )
    return settings.graphs == "on"


def _measured(settings: Settings, device: torch.device) -> Dispatch:
    threads = settings.threads or available_cores()
    machine = torch.cuda.get_device_name(device) if device.type == "cuda" else _processor()
    key = f"{machine} | {device.type} | torch {torch.__version__} | {threads} threads"
    path = settings.home / FILE_NAME
    with exclusive_lock(path.with_suffix(".lock")):
        known = read_json(path) if path.is_file() else {}
        if not isinstance(known, dict):
            raise UsageError(f"{path} holds no object", hint=f"delete {path}; the machine is measured again")
        if key not in known:
            found = _on_accelerator(device) if device.type == "cuda" else _on_processor(threads)
            write_json(path, known | {key: found.to_dict()})
            return found
        return Dispatch.parse(known[key], what=f"{path}: {key}")


def _processor() -> str:
    machine = describe_machine()
    return f"{machine['cpu']}, {machine['cores']} cores, {machine['cpu_features']}"


def _on_processor(threads: int) -> Dispatch:
    before = torch.get_num_threads()
    try:
        torch.set_num_threads(1)
        with torch.random.fork_rng(devices=[]):
            kernels: dict[str, float] = {kernel: _attention_s(kernel) for kernel in get_args(Kernel)}
            sizes = {members: _block_s(members, torch.float32) / members for members in _MEMBERS}
            is_fast = bool(_BF16_FEATURES.intersection(cpu_features()))
            half_s = _block_s(1, torch.bfloat16) if is_fast else math.inf
            side_s = _side_by_side_s(threads) if threads > 1 else math.inf
            torch.set_num_threads(threads)
            inside_s = _block_s(1, torch.float32) * threads
    finally:
        torch.set_num_threads(before)
    kernel: Kernel = "eager" if kernels["eager"] <= kernels["sdpa"] else "sdpa"
    best = min(sizes, key=lambda members: sizes[members])
    is_half = half_s * _BF16_MARGIN < sizes[1]
    said = [
        f"attention eager {_ms(kernels['eager'])}, sdpa {_ms(kernels['sdpa'])}",
        "a block of 1, 2, 4, 8 members " + ", ".join(_ms(sizes[members]) for members in _MEMBERS) + " each",
        f"bfloat16 {_ms(half_s)}" if is_fast else "bfloat16 not fast on this processor",
    ]
    if threads > 1:
        said.append(
            f"{threads} groups side by side {_ms(side_s)}, one after another on {threads} threads {_ms(inside_s)}"
        )
    return Dispatch(
        kernel=kernel,
        precision="bfloat16" if is_half else "float32",
        workers=threads if side_s <= inside_s else 1,
        group_blocks=max(8, 2 * best),
        reason="measured: " + "; ".join(said),
    )


def _on_accelerator(device: torch.device) -> Dispatch:
    has_half = torch.cuda.is_bf16_supported()
    return Dispatch(
        kernel="sdpa",
        precision="bfloat16" if has_half else "float32",
        workers=1,
        group_blocks=_ACCELERATOR_BLOCKS,
        group_overhead=_ACCELERATOR_OVERHEAD,
        length_multiple=_ACCELERATOR_MULTIPLE,
        graphs=True,
        reason=f"{torch.cuda.get_device_name(device)}: as many members as fit, steps recorded; not measured",
    )


def _ms(seconds: float) -> str:
    return f"{seconds * 1e3:.2f} ms"


def _attention_s(kernel: Kernel) -> float:
    x = torch.ones(4, _BATCH, _LENGTH, _WIDTH, requires_grad=True)
    bias = torch.zeros(_BATCH, 1, 1, _LENGTH)

    def work() -> None:
        split = heads(x, _HEAD)
        attend(split, split, split, bias, scale=_HEAD**-0.5, kernel=kernel).sum().backward()

    return _fastest_s(work)


def _block_s(members: int, dtype: torch.dtype) -> float:
    """Forward and backward of a frozen feed-forward network for several members."""
    rise, fall = _network(dtype)
    x = torch.ones(members, _BATCH, _LENGTH, _WIDTH, dtype=dtype, requires_grad=True)
    return _fastest_s(lambda: _pass(rise, fall, x))


def _side_by_side_s(workers: int) -> float:
    """As many groups of one member as there are workers, each on its own thread."""
    rise, fall = _network(torch.float32)
    inputs = [torch.ones(1, _BATCH, _LENGTH, _WIDTH, requires_grad=True) for _ in range(workers)]

    def alone(x: Tensor) -> None:
        torch.set_num_threads(1)
        _pass(rise, fall, x)

    with concurrent.futures.ThreadPoolExecutor(workers) as pool:
        return _fastest_s(lambda: list(pool.map(alone, inputs)))


def _network(dtype: torch.dtype) -> tuple[nn.Linear, nn.Linear]:
    rise, fall = nn.Linear(_WIDTH, _INNER, dtype=dtype), nn.Linear(_INNER, _WIDTH, dtype=dtype)
    return rise.requires_grad_(requires_grad=False), fall.requires_grad_(requires_grad=False)


def _pass(rise: nn.Linear, fall: nn.Linear, x: Tensor) -> None:
    fall(nn.functional.gelu(rise(x))).sum().backward()


def _fastest_s(work: Callable[[], Any]) -> float:
    """The fastest of a call's repeats after one that warms up: other work on the machine only ever adds to a time."""
    work()
    times: list[float] = []
    while len(times) < _FEWEST_REPEATS or (len(times) < _MOST_REPEATS and sum(times) < _SECONDS_EACH):
        began_s = time.perf_counter()
        work()
        times.append(time.perf_counter() - began_s)
    return min(times)
