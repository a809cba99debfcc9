"""Durable registrations a second beside MLflow's, in one run: `make registry`.

    python -m benchmarks.registry.versus_mlflow --mlflow-python ENVIRONMENT/bin/python [--repeats 5] [--out FILE]

MLflow is no dependency of the project: another interpreter has it (`pip install mlflow==3.17.0` into a virtual
environment of its own). Each repeat runs, one after the other: ours one by one, MLflow's, ours in batches; each in a
fresh store, so that a slow minute of the machine meets all. Ours is `register` with a config, two metrics and two tags,
each durable when it returns; MLflow's figure is its faster one, `version` (`mlflow_store`): a model version with two
tags, in its SQLite store, by a client in the same process. The ratio is of the medians of the repeats. JSON on stdout,
or in `--out`. Exit code 1 where a must is missed.
"""

from __future__ import annotations

import argparse
import os
import statistics
import sys
import tempfile
import time
from pathlib import Path
from typing import Any, Final

from benchmarks.registry.million import draft
from benchmarks.registry.mlflow_store import measure as measure_mlflow

from legion.foundation.canonical import canonical_json
from legion.foundation.clock import SystemClock, rfc3339
from legion.foundation.files import write_json
from legion.foundation.machine import describe_machine
from legion.foundation.revision import describe_revision
from legion.neuro_architecture.registry import ArchitectureRegistry

MUST: Final = {"one_by_one_ratio": 20.0, "batch_ratio": 60.0}
_MLFLOW: Final = "3.17"
_WARM: Final = 3


def ours_one_by_one(folder: Path, count: int) -> dict[str, float]:
    """Registrations a second, each durable before the next begins."""
    registry = ArchitectureRegistry(folder / "registry", keys=folder / "keys")
    registry.register_all(map(draft, range(_WARM)))
    drafts = [draft(number) for number in range(_WARM, _WARM + count)]
    seconds = []
    begun = time.process_time()
    for each in drafts:
        start = time.perf_counter()
        registry.register(each.version, each.config, each.metrics, each.provenance, each.tags)
        seconds.append(time.perf_counter() - start)
    assert len(registry.list_all()) == _WARM + count
    seconds.sort()
    return {
        "registrations_per_s": count / sum(seconds),
        "median_ms": seconds[count // 2] * 1e3,
        "p99_ms": seconds[count * 99 // 100] * 1e3,
        "cpu_ms": (time.process_time() - begun) / count * 1e3,
    }


def ours_in_batches(folder: Path, count: int, batch: int) -> dict[str, float]:
    """Registrations a second, each batch durable before the next begins."""
    registry = ArchitectureRegistry(folder / "registry", keys=folder / "keys")
    registry.register_all(map(draft, range(_WARM)))
    start, begun = time.perf_counter(), time.process_time()
    for first in range(_WARM, _WARM + count, batch):
        registry.register_all(map(draft, range(first, min(first + batch, _WARM + count))))
    seconds, processor = time.perf_counter() - start, time.process_time() - begun
    assert len(registry.list_all()) == _WARM + count
    return {"registrations_per_s": count / seconds, "cpu_ms": processor / count * 1e3}


def measure(options: argparse.Namespace) -> dict[str, Any]:
    """Every repeat, and the ratios of the medians."""
    repeats: list[dict[str, Any]] = []
    for number in range(options.repeats):
        with tempfile.TemporaryDirectory(prefix="versus-", dir=options.folder) as folder:
            one = ours_one_by_one(Path(folder) / "one", options.count)
            theirs = measure_mlflow(options.mlflow_python, options.count)
            batches = ours_in_batches(Path(folder) / "batches", options.batched, options.batch)
        repeats.append({"ours_one_by_one": one, "mlflow": theirs, "ours_in_batches": batches})
        print(f"repeat {number + 1} of {options.repeats}", file=sys.stderr, flush=True)
    one_by_one = statistics.median(each["ours_one_by_one"]["registrations_per_s"] for each in repeats)
    batched = statistics.median(each["ours_in_batches"]["registrations_per_s"] for each in repeats)
    version = statistics.median(each["mlflow"]["version"]["registrations_per_s"] for each in repeats)
    whole = statistics.median(each["mlflow"]["whole"]["registrations_per_s"] for each in repeats)
    return {
        "ours_one_by_one_per_s": one_by_one,
        "ours_in_batches_per_s": batched,
        "mlflow_version_per_s": version,
        "mlflow_whole_per_s": whole,
        "one_by_one_ratio": one_by_one / version,
        "batch_ratio": batched / version,
        "one_by_one_ratio_to_whole": one_by_one / whole,
        "batch_ratio_to_whole": batched / whole,
        "repeats": repeats,
    }


def main() -> int:
    """Measures, writes the figures, says whether every must is met."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--mlflow-python", type=Path, required=True, help="an interpreter with mlflow 3.17")
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--count", type=int, default=200, help="registrations one by one, of each store")
    parser.add_argument("--batched", type=int, default=10_000, help="registrations in batches")
    parser.add_argument("--batch", type=int, default=1_000, help="of each batch")
    parser.add_argument("--folder", type=Path, help="where our stores are made and deleted")
    parser.add_argument("--out", type=Path)
    options = parser.parse_args()
    load_before = os.getloadavg()[0]
    figures = measure(options)
    misses = [f"{name} is {figures[name]:.3g}, must be at least {least}" for name, least in MUST.items()
              if figures[name] < least]  # fmt: skip
    version = figures["repeats"][0]["mlflow"]["mlflow"]
    if not version.startswith(_MLFLOW):
        misses.append(f"this is MLflow {version}, the must speaks of {_MLFLOW}")
    result = {
        "at": rfc3339(SystemClock().now()),
        "machine": describe_machine(),
        "revision": describe_revision(Path(__file__).parent),
        "options": {name: getattr(options, name) for name in ("repeats", "count", "batched", "batch")},
        "load_before": load_before,
        "figures": figures,
        "must": MUST,
        "misses": misses,
    }
    if options.out:
        write_json(options.out, result)
    else:
        print(canonical_json(result).decode())
    for miss in misses:
        print(miss, file=sys.stderr)
    return 1 if misses else 0


if __name__ == "__main__":
    sys.exit(main())
