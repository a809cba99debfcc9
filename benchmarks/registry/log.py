"""What the registry's transparency log costs: a durable commit, opening, reading, proving and checking it.

    python benchmarks/registry/log.py [--entries 1000000] [--batch 1000] [--folder DIR] [--out FILE]

Entries of `--bytes` random bytes are appended in commits of `--batch`, and `--singles` commits of one entry after them.
A second object follows the first as it appends. Then the log is opened anew (page cache warm), without the offsets of
its last segment, read at random (first touch of each tile, then warm), proven at random, and checked whole.
Wall seconds, milliseconds and microseconds on one thread; medians with the 99th percentile beside them. The names with
`cpu` are the thread's CPU time, which says what the wall would be where nothing else runs. JSON on stdout, or in
`--out`. Exit code 1 where a `must` is not met.
"""

from __future__ import annotations

import argparse
import random
import resource
import shutil
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

from legion.foundation.canonical import canonical_json
from legion.foundation.clock import SystemClock, rfc3339
from legion.foundation.files import write_json
from legion.foundation.machine import describe_machine
from legion.foundation.revision import describe_revision
from legion.neuro_architecture.registry.translog import TransparencyLog

MUST: Final = {"check_s": 15.0, "inclusion_proof_p99_ms": 2.0, "open_s": 1.0}  # of 1,000,000 entries of 500 bytes
BLOCK_ENTRIES: Final = 1000


def main() -> int:
    """Measures, writes the figures, says whether every `must` is met."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--entries", type=int, default=1_000_000)
    parser.add_argument("--bytes", type=int, default=500, help="of one entry")
    parser.add_argument("--batch", type=int, default=1000, help="entries of a commit")
    parser.add_argument("--singles", type=int, default=300, help="commits of one entry, at the end")
    parser.add_argument("--reads", type=int, default=20_000)
    parser.add_argument("--proofs", type=int, default=5_000)
    parser.add_argument("--seed", type=int, default=7)
    parser.add_argument("--folder", type=Path, help="where the log is made and deleted; a temporary folder by default")
    parser.add_argument("--out", type=Path)
    options = parser.parse_args()
    folder = Path(tempfile.mkdtemp(prefix="log-benchmark-", dir=options.folder))
    try:
        figures = measure(folder, options)
    finally:
        shutil.rmtree(folder)
    misses = [
        f"{name} is {figures[name]:.3f}, must be at most {most}" for name, most in MUST.items() if figures[name] > most
    ]
    result = {
        "at": rfc3339(SystemClock().now()),
        "machine": describe_machine(),
        "revision": describe_revision(Path(__file__).parent),
        "options": {
            name: str(value) if isinstance(value, Path) else value
            for name, value in vars(options).items()
            if name not in {"folder", "out"}
        },
        "figures": figures,
        "must": MUST,
        "misses": misses,
    }
    if options.out:
        write_json(options.out, result)
    else:
        sys.stdout.write(canonical_json(result).decode() + "\n")
    return 1 if misses else 0


def measure(folder: Path, options: argparse.Namespace) -> dict[str, Any]:
    """Every figure of one log."""
    draw = random.Random(options.seed)
    registry, keys = folder / "registry", folder / "keys"
    figures: dict[str, Any] = {}
    log = TransparencyLog(registry, keys=keys)
    figures |= fill(log, draw, options)
    figures |= follow(registry, keys, log, draw, options)
    log.close()
    figures["open_s"], figures["open_cpu_s"], log = timed_both(lambda: opened(registry, keys))
    tail = max((registry / "segments").glob("*.idx"))
    tail.rename(tail.with_suffix(".away"))
    without = timed_both(lambda: opened(registry, keys))
    figures["open_without_offsets_s"], figures["open_without_offsets_cpu_s"], _ = without
    tail.with_suffix(".away").rename(tail)
    figures |= read(log, draw, options)
    figures |= prove(log, draw, options)
    figures["read_range_us_each"] = timed(lambda: sum(1 for _ in log.read_range(0, log.size)))[0] / log.size * 1e6
    checked = timed_both(lambda: list(TransparencyLog(registry, keys=keys).check()))
    figures["check_s"], figures["check_cpu_s"], damages = checked
    assert damages == []
    figures["num_entries"] = log.size
    figures["size_mb"] = round(sum(path.stat().st_size for path in registry.rglob("*") if path.is_file()) / 1e6, 1)
    figures["peak_rss_mb"] = round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024, 1)
    return figures


def opened(registry: Path, keys: Path) -> TransparencyLog:
    """The log, opened anew."""
    log = TransparencyLog(registry, keys=keys)
    log.refresh()
    return log


def timed(work: Callable[[], Any]) -> tuple[float, Any]:
    """Wall seconds of the work, and what it gives."""
    start = time.perf_counter()
    result = work()
    return time.perf_counter() - start, result


def timed_both(work: Callable[[], Any]) -> tuple[float, float, Any]:
    """Wall seconds and CPU seconds of the work, and what it gives."""
    cpu = time.thread_time()
    wall, result = timed(work)
    return wall, time.thread_time() - cpu, result


def spread(name: str, seconds: list[float], scale: float, unit: str) -> dict[str, float]:
    """Median and 99th percentile."""
    ordered = sorted(seconds)
    return {
        f"{name}_median_{unit}": statistics.median(ordered) * scale,
        f"{name}_p99_{unit}": ordered[int(0.99 * (len(ordered) - 1))] * scale,
    }


def fill(log: TransparencyLog, draw: random.Random, options: argparse.Namespace) -> dict[str, Any]:
    """Appends everything: entries a second in batches, milliseconds of a commit of one."""
    start = time.perf_counter()
    for first in range(0, options.entries, options.batch):
        log.append([draw.randbytes(options.bytes) for _ in range(min(options.batch, options.entries - first))])
    fill_s = time.perf_counter() - start
    singles = [timed(lambda: log.append([draw.randbytes(options.bytes)]))[0] for _ in range(options.singles)]
    return {"append_batched_per_s": options.entries / fill_s} | spread("append_one", singles, 1e3, "ms")


def follow(
    registry: Path, keys: Path, log: TransparencyLog, draw: random.Random, options: argparse.Namespace
) -> dict[str, Any]:
    """What a reader pays to see one more commit, and to see that there is none."""
    reader = opened(registry, keys)
    fresh, idle = [], []
    for _ in range(200):
        log.append([draw.randbytes(options.bytes)])
        fresh.append(timed(reader.refresh)[0])
        idle.append(timed(reader.refresh)[0])
    assert reader.size == log.size
    return spread("refresh_commit", fresh, 1e6, "us") | spread("refresh_idle", idle, 1e6, "us")


def read(log: TransparencyLog, draw: random.Random, options: argparse.Namespace) -> dict[str, Any]:
    """Random reads: the first of a tile verifies it."""
    numbers = [draw.randrange(log.size) for _ in range(options.reads)]
    first = [timed(lambda number=number: log.read(number))[0] for number in numbers]  # type: ignore[misc]
    for tile in range(0, log.size, 256):
        log.read(tile)
    warm = [timed_both(lambda number=number: log.read(number))[:2] for number in numbers]  # type: ignore[misc]
    figures = spread("read_first", first, 1e6, "us") | spread("read_warm", [wall for wall, _ in warm], 1e6, "us")
    return figures | spread("read_warm_cpu", [cpu for _, cpu in warm], 1e6, "us")


def prove(log: TransparencyLog, draw: random.Random, options: argparse.Namespace) -> dict[str, Any]:
    """Random proofs, each verified outside the timed part."""
    inclusion, inclusion_cpu, consistency = [], [], []
    for _ in range(options.proofs):
        number = draw.randrange(log.size)
        wall, cpu, proof = timed_both(lambda number=number: log.inclusion_proof(number))  # type: ignore[misc]
        inclusion.append(wall)
        inclusion_cpu.append(cpu)
        assert proof.verify()
    for _ in range(options.proofs // 5):
        number = draw.randrange(1, log.size)
        wall, proof = timed(lambda number=number: log.consistency_proof(number))  # type: ignore[misc]
        consistency.append(wall)
        assert proof.verify()
    figures = spread("inclusion_proof", inclusion, 1e3, "ms") | spread("inclusion_proof_cpu", inclusion_cpu, 1e3, "ms")
    return figures | spread("consistency_proof", consistency, 1e3, "ms")


if __name__ == "__main__":
    sys.exit(main())
