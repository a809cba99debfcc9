"""A registry of a million snapshots through its public face: filling, finding, proving and checking it.

    python -m benchmarks.registry.million [--size 1000000] [--folder DIR] [--out FILE]

Snapshots of about half a kilobyte (a LoRA spelled out, two metrics, provenance, two tags) are registered by
`register_all`. At a tenth of the size and at the whole, lookups by digest are timed, `--lookups` of them twice: at the
second time they are warm, and the registry remembers where each stands (`first_lookup_` is the first time); then
queries for two tags, inclusion proofs (first touch of their tiles among them) and one full check. Wall time of one
thread, the medians and 99th percentiles beside them; where another program shares the core, the 99th percentile
measures that program. So the thread's own processor time is given too (`_cpu_`), and what a plain loop of the
interpreter, which takes about as long as a lookup, takes right after (`control_`): for a person, no `must` is judged by
them. JSON on stdout, or in `--out`. Exit code 1 where a must is missed.
"""

from __future__ import annotations

import argparse
import itertools
import os
import random
import resource
import shutil
import sys
import tempfile
import time
from array import array
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Final

from legion.foundation.canonical import canonical_json
from legion.foundation.clock import SystemClock, rfc3339
from legion.foundation.files import write_json
from legion.foundation.machine import describe_machine
from legion.foundation.revision import describe_revision
from legion.neuro_architecture.registry import ArchitectureRegistry
from legion.neuro_architecture.registry.drafts import SnapshotDraft

MUST: Final = {
    "lookup_p99_ms": 0.1,
    "two_tags_p99_ms": 20.0,
    "inclusion_proof_p99_ms": 2.0,
    "check_s": 15.0,
    "lookup_growth": 1.5,
}
_DIGEST_BYTES: Final = 32
_TASKS: Final = ("classification", "summarization", "tagging", "retrieval")
_STAGES: Final = 50
_CAMPAIGNS: Final = 997
_CONTROL: Final = 2_000


def draft(number: int) -> SnapshotDraft:
    """The snapshot with this number; no two are equal."""
    return SnapshotDraft(
        version=f"{number // 10_000}.{number % 10_000}",
        config={"strategy": "LoRA", "rank": 1 + number % 64, "alpha": 1 + number % 33, "layers": [number % 24]},
        metrics={
            "accuracy": (number * 7919 % 1_000_003) / 1_000_003,
            "latency_ms": 5 + number * 104_729 % 10_007 / 997,
        },
        provenance={"task": _TASKS[number % 4], "base": "minilm-l6", "number": number},
        tags=[f"stage/{number % _STAGES}", f"campaign/{number * 31 % _CAMPAIGNS}"],
    )


def measure(folder: Path, options: argparse.Namespace) -> dict[str, Any]:
    """Every figure of one registry."""
    draw = random.Random(options.seed)
    registry = ArchitectureRegistry(folder / "registry", keys=folder / "keys")
    digests = bytearray()
    early = options.size // 10
    figures = _fill(registry, digests, 0, early, "early_")
    figures |= _lookups(registry, digests, draw, options.lookups, "early_lookup")
    figures |= _fill(registry, digests, early, options.size, "")
    figures |= _lookups(registry, digests, draw, options.lookups, "lookup")
    figures["lookup_growth"] = figures["lookup_median_ms"] / figures["early_lookup_median_ms"]
    figures["lookup_cpu_growth"] = figures["lookup_cpu_ms"] / figures["early_lookup_cpu_ms"]
    figures |= _spread("control", [lambda: sum(range(_CONTROL))] * options.lookups)
    figures |= _queries(registry, draw, options.queries)
    figures |= _proofs(registry, digests, draw, options.proofs)
    wall, processor, report = _timed(registry.verify)
    assert report.problems == [], report.problems[:3]
    assert report.num_entries == options.size
    figures |= {"check_s": wall, "check_cpu_s": processor}
    figures["entry_bytes"] = sum(
        path.stat().st_size for path in (folder / "registry" / "segments").glob("*.seg")
    ) // max(1, options.size)
    figures["size_mb"] = sum(path.stat().st_size for path in folder.rglob("*") if path.is_file()) / 1e6
    figures["peak_rss_mb"] = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    return figures


def _timed(work: Callable[[], Any]) -> tuple[float, float, Any]:
    """Wall seconds, processor seconds, and what the work gives."""
    start, begun = time.perf_counter(), time.process_time()
    result = work()
    return time.perf_counter() - start, time.process_time() - begun, result


def _fill(registry: ArchitectureRegistry, digests: bytearray, start: int, stop: int, prefix: str) -> dict[str, float]:
    def drafts() -> Iterator[SnapshotDraft]:
        return (draft(number) for number in range(start, stop))

    def fill() -> None:
        rest = drafts()
        while batch := list(itertools.islice(rest, 5_000)):
            for snapshot in registry.register_all(batch):
                digests.extend(bytes.fromhex(snapshot.digest[7:]))
            print(f"registered {len(digests) // _DIGEST_BYTES}", file=sys.stderr, flush=True)

    wall, processor, _ = _timed(fill)
    count = max(1, stop - start)
    return {f"{prefix}registered_per_s": count / wall, f"{prefix}registered_per_cpu_s": count / processor}


def _digest(digests: bytearray, number: int) -> str:
    return "sha256:" + digests[number * _DIGEST_BYTES : (number + 1) * _DIGEST_BYTES].hex()


def _lookups(
    registry: ArchitectureRegistry, digests: bytearray, draw: random.Random, count: int, name: str
) -> dict[str, float]:
    """The same digests twice; the second time is warm."""
    keys = [_digest(digests, draw.randrange(len(digests) // _DIGEST_BYTES)) for _ in range(count)]

    def find(key: str) -> None:
        assert registry.get(key) is not None

    works = [lambda key=key: find(key) for key in keys]  # type: ignore[misc]
    return _spread(name.replace("lookup", "first_lookup"), works) | _spread(name, works)


def _queries(registry: ArchitectureRegistry, draw: random.Random, count: int) -> dict[str, float]:
    """Both tags of a snapshot, and all snapshots that have them, read."""
    sizes = array("q")

    def ask(number: int) -> None:
        found = list(registry.get_by_tags([f"stage/{number % _STAGES}", f"campaign/{number * 31 % _CAMPAIGNS}"]))
        sizes.append(len(found))

    numbers = [draw.randrange(_STAGES * _CAMPAIGNS) for _ in range(count)]
    figures = _spread("two_tags", [lambda number=number: ask(number) for number in numbers])  # type: ignore[misc]
    return figures | {"two_tags_mean_found": sum(sizes) / len(sizes)}


def _proofs(registry: ArchitectureRegistry, digests: bytearray, draw: random.Random, count: int) -> dict[str, float]:
    keys = [_digest(digests, draw.randrange(len(digests) // _DIGEST_BYTES)) for _ in range(count)]
    assert all(registry.prove(key).verify() for key in keys[:20])
    return _spread("inclusion_proof", [lambda key=key: registry.prove(key) for key in keys])  # type: ignore[misc]


def _spread(name: str, works: list[Callable[[], Any]]) -> dict[str, float]:
    """Median and 99th percentile by the wall clock, mean processor time."""
    seconds = []
    begun = time.process_time()
    for work in works:
        start = time.perf_counter()
        work()
        seconds.append(time.perf_counter() - start)
    processor = (time.process_time() - begun) / len(works)
    seconds.sort()
    return {
        f"{name}_median_ms": seconds[len(seconds) // 2] * 1e3,
        f"{name}_p99_ms": seconds[int(0.99 * (len(seconds) - 1))] * 1e3,
        f"{name}_cpu_ms": processor * 1e3,
    }


def main() -> int:
    """Measures, writes the figures, says whether every must is met."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--size", type=int, default=1_000_000, help="snapshots")
    parser.add_argument("--lookups", type=int, default=20_000)
    parser.add_argument("--queries", type=int, default=500)
    parser.add_argument("--proofs", type=int, default=3_000)
    parser.add_argument("--seed", type=int, default=7)
    parser.add_argument("--folder", type=Path, help="where it is made and deleted; a temporary folder by default")
    parser.add_argument("--out", type=Path)
    options = parser.parse_args()
    folder = Path(tempfile.mkdtemp(prefix="million-", dir=options.folder))
    load_before = os.getloadavg()[0]
    try:
        figures = measure(folder, options)
    finally:
        shutil.rmtree(folder)
    misses = [
        f"{name} is {figures[name]:.4g}, must be at most {most}" for name, most in MUST.items() if figures[name] > most
    ]
    result = {
        "at": rfc3339(SystemClock().now()),
        "machine": describe_machine(),
        "revision": describe_revision(Path(__file__).parent),
        "options": {name: getattr(options, name) for name in ("size", "lookups", "queries", "proofs", "seed")},
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
