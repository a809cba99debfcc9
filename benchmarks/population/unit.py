"""One system, one row, one repeat, in a process of its own: `python -m benchmarks.population.unit REQUEST RESULT`.

Imports come first and are not counted for anyone; every system finds the same modules loaded. What is timed begins
with reading the data and ends with the last adapter saved. CPU time is that of all threads and of ended children. The
peak of resident memory is the kernel's own mark since the imports; that of anonymous memory is sampled.
"""

from __future__ import annotations

import importlib
import json
import os
import sys
import threading
import time
import warnings
from pathlib import Path
from typing import Any, Final, final

__all__ = ["main"]

_STATUS: Final = Path("/proc/self/status")
_CLEAR: Final = Path("/proc/self/clear_refs")
_EVERY_S: Final = 0.05
# What the systems load only when they need it.
_LATE: Final = (
    "accelerate",
    "optuna.samplers._tpe.sampler",
    "peft",
    "safetensors.torch",
    "torch._dynamo",
    "transformers.models.auto.modeling_auto",
    "transformers.models.auto.tokenization_auto",
    "transformers.models.bert.modeling_bert",
    "transformers.models.bert.tokenization_bert",
    "transformers.models.llama.modeling_llama",
    "transformers.trainer",
    "benchmarks.population.baselines",
    "benchmarks.population.ours",
)


def main() -> int:
    """Runs the requested work and writes what it took."""
    request = json.loads(Path(sys.argv[1]).read_text(encoding="utf-8"))
    warnings.simplefilter("ignore")
    for name in _LATE:
        importlib.import_module(name)
    from benchmarks.population.harness import Request

    result = _measure(Request(**request))
    Path(sys.argv[2]).write_text(json.dumps(result, default=str), encoding="utf-8")
    return 0


def _measure(request: Any) -> dict[str, Any]:
    from benchmarks.population.places import make_place

    arm, folder = request.arm_of_row(), Path(request.folder)
    if request.threads:
        import torch

        torch.set_num_threads(request.threads)
    place = make_place(folder, arm.workload, threads=request.threads, home=Path(request.home))
    module, _, function = arm.prepare.partition(":")
    work = getattr(importlib.import_module(module), function)(arm.workload, place)
    known = set(sys.modules)
    with _Memory() as memory:
        began, cpu_before = time.perf_counter(), _cpu_s()
        outcome = work()
        wall_s, cpu_s = time.perf_counter() - began, _cpu_s() - cpu_before
    return {
        "wall_s": round(wall_s, 3),
        "cpu_s": round(cpu_s, 3),
        **memory.found(),
        "mean_accuracy": _mean(outcome.accuracies),
        "mean_loss": _mean(outcome.losses),
        "num_trials": len(outcome.losses),
        "trial_s": [round(seconds, 3) for seconds in outcome.trial_s],
        "late_imports": len(set(sys.modules) - known),
        "record": outcome.record,
    }


def _mean(values: list[float]) -> float | None:
    return round(sum(values) / len(values), 5) if values else None


def _cpu_s() -> float:
    return sum(os.times()[:4])


@final
class _Memory:
    """Peaks of memory between entry and exit, in MB; nothing where the system does not tell."""

    def __enter__(self) -> _Memory:
        self._can_clear = self._clear()
        self._before = _status("VmRSS")
        self._anon = _status("RssAnon") or 0.0
        self._ended = threading.Event()
        self._sampler = threading.Thread(target=self._sample, daemon=True)
        self._sampler.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ended.set()
        self._sampler.join()
        self._peak = _status("VmHWM") if self._can_clear else None

    def found(self) -> dict[str, float | None]:
        return {
            "peak_rss_mb": self._peak,
            "peak_anon_mb": self._anon or None,
            "rss_after_imports_mb": self._before,
        }

    def _clear(self) -> bool:
        try:
            _CLEAR.write_text("5")
        except OSError:
            return False
        return True

    def _sample(self) -> None:
        while not self._ended.wait(_EVERY_S):
            self._anon = max(self._anon, _status("RssAnon") or 0.0)


def _status(key: str) -> float | None:
    """A line of the process's status, in MB."""
    if not _STATUS.is_file():
        return None
    for line in _STATUS.read_text(encoding="ascii", errors="replace").splitlines():
        if line.startswith(f"{key}:"):
            return round(int(line.split()[1]) * 1024 / 1e6, 1)
    return None


if __name__ == "__main__":
    sys.exit(main())
