"""How fast the registry's index is: bulk apply, lookup by digest, two-tag queries, at one size or several.

    python benchmarks/registry/index.py --size 100000 --size 1000000 --out benchmarks/results/registry-index.json

Snapshots have half a kilobyte: a LoRA's config, three metrics, provenance, and three tags: one of 7 tasks, one of 2,000
rare ones drawn by Zipf's law, and `candidate` on every second. A pair of tags is drawn from a random snapshot, so no
query is empty. Each time is wall time of one call, its answer drained; all are warm. Entries are made before the clock
starts; `apply` includes taking rows out of them.
"""

from __future__ import annotations

import argparse
import json
import random
import shutil
import sys
import tempfile
import time
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import apsw

from legion.foundation.canonical import canonical_json, digest_json
from legion.foundation.files import write_json
from legion.foundation.machine import describe_machine
from legion.neuro_architecture.registry.indexing import RegistryIndex, open_index
from legion.neuro_architecture.registry.query import parse_query
from legion.neuro_architecture.spec.architecture import parse_architecture
from legion.neuro_architecture.spec.entries import AnyEntry, SnapshotEntry
from legion.neuro_architecture.spec.snapshot import ArchitectureSnapshot

BATCH = 20_000
FEW = 10_000
TASKS = ("movies", "news", "intents", "toxicity", "headlines", "contracts", "tickets")
QUERIES = (
    "accuracy > 0.82 and latency_ms < 12 and tag:movies",
    "accuracy > 0.9999",
    "task:news and accuracy > 0.999",
    "latest and revision = 1 and accuracy > 0.9999",
)


def entries_from(start: int, count: int, draw: random.Random) -> list[tuple[AnyEntry, str]]:
    """Registrations numbered from `start`, as they come out of a log: two revisions of each architecture."""
    config = json.loads(canonical_json(parse_architecture({"strategy": "LoRA", "rank": 8}).to_dict()))
    rows: list[tuple[AnyEntry, str]] = []
    for number in range(start, start + count):
        task = draw.choice(TASKS)
        rare = f"run-{min(int(draw.paretovariate(0.6)), 2000)}"
        tags = {task, rare} | ({"candidate"} if number % 2 else set())
        snapshot = ArchitectureSnapshot(
            version="4.1.0",
            semantic_hash=digest_json(number // 2)[7:23],
            revision=1 + number % 2,
            config=config,
            metrics={"accuracy": draw.random(), "latency_ms": 30 * draw.random(), "score": draw.random()},
            provenance={"task": task, "base": "minilm-l6", "commit": digest_json(number // 1000)[7:47]},
            tags=tuple(sorted(tags)),
            blobs={},
            parent=None,
            created_at=f"2026-01-01T00:00:{number // 1_000_000:02}.{number % 1_000_000:06}Z",
        )
        rows.append((SnapshotEntry(at=snapshot.created_at, snapshot=snapshot), f"{number:064x}"))
    return rows


def percentiles(times_s: list[float], scale: float) -> dict[str, float]:
    """Median, 99th percentile and worst, in units of 1/scale seconds."""
    ordered = sorted(times_s)
    picked = {"p50": 0.5, "p99": 0.99, "worst": 1.0}
    return {
        name: round(ordered[min(int(share * len(ordered)), len(ordered) - 1)] * scale, 3)
        for name, share in picked.items()
    }


def timed(calls: list[Callable[[], Any]]) -> list[float]:
    """Seconds of each call."""
    times = []
    for call in calls:
        began = time.perf_counter()
        call()
        times.append(time.perf_counter() - began)
    return times


def measure(index: RegistryIndex, size: int, draw: random.Random) -> dict[str, Any]:
    """Fills the index to `size` and asks it."""
    apply_s = apply_cpu_s = 0.0
    sample: list[ArchitectureSnapshot] = []
    start = index.position()[0]
    for first in range(start, size, BATCH):
        rows = entries_from(first, min(BATCH, size - first), draw)
        began, began_cpu = time.perf_counter(), time.process_time()
        index.apply(first, rows)
        apply_s += time.perf_counter() - began
        apply_cpu_s += time.process_time() - began_cpu
        sample += [
            row[0].snapshot for row in draw.sample(rows, min(200, len(rows))) if isinstance(row[0], SnapshotEntry)
        ]
        print(f"{first + len(rows):>9} applied", file=sys.stderr)
    digests = [snapshot.digest for snapshot in draw.choices(sample, k=2000)]
    hashes = [snapshot.semantic_hash for snapshot in draw.choices(sample, k=2000)]
    pairs = [draw.sample(snapshot.tags, 2) for snapshot in draw.choices(sample, k=300)]
    lookups = [lambda digest=digest: index.by_digest(digest) for digest in digests]
    timed(lookups)
    found = sorted(len(list(index.tagged(pair))) for pair in pairs)
    rarer = [min(len(list(index.tagged([tag]))) for tag in pair) for pair in pairs]
    few = [pair for pair, count in zip(pairs, rarer, strict=True) if count <= FEW]
    return {
        "size": size,
        "applied": size - start,
        "apply_per_s": round((size - start) / apply_s),
        "apply_per_cpu_s": round((size - start) / apply_cpu_s),
        "lookup_by_digest_us": percentiles(timed(lookups * 3), 1e6),
        "latest_by_hash_us": percentiles(timed([lambda name=name: index.latest(name) for name in hashes] * 2), 1e6),
        "position_us": percentiles(timed([index.position] * 2000), 1e6),
        "two_tags_ms": percentiles(timed([lambda pair=pair: list(index.tagged(pair)) for pair in pairs]), 1e3),
        f"two_tags_ms_where_the_rarer_has_at_most_{FEW}": {
            "pairs": len(few),
            **percentiles(timed([lambda pair=pair: list(index.tagged(pair)) for pair in few]), 1e3),
        },
        "two_tags_found": {"p50": found[len(found) // 2], "most": found[-1]},
        "queries_ms": {
            text: percentiles(timed([lambda text=text: list(index.select(parse_query(text), limit=100))] * 20), 1e3)
            for text in QUERIES
        },
    }


def main() -> None:
    """Reads the command line, measures, writes the report."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--size", type=int, action="append", help="snapshots; may be given again, growing")
    parser.add_argument("--url", help="postgresql://...; by default a SQLite file in a temporary folder")
    parser.add_argument("--out", type=Path, help="where the JSON goes; by default stdout")
    parser.add_argument("--note", default="", help="kept with the result: what else the machine was doing")
    arguments = parser.parse_args()
    draw = random.Random(0)
    folder = Path(tempfile.mkdtemp(prefix="legion-index-"))
    index = open_index(arguments.url, path=folder / "index.sqlite", origin=f"benchmark/{folder.name}")
    try:
        results = [measure(index, size, draw) for size in sorted(arguments.size or [100_000, 1_000_000])]
        path = folder / "index.sqlite"
        size_bytes = path.stat().st_size if path.is_file() else None
    finally:
        if arguments.url:
            index.refill(lambda: ())
        index.close()
        shutil.rmtree(folder)
    report = {
        "at": datetime.now(UTC).isoformat(timespec="seconds"),
        "machine": describe_machine(),
        "note": arguments.note,
        "database": "postgresql" if arguments.url else f"SQLite {apsw.sqlite_lib_version()}",
        "size_bytes": size_bytes,
        "results": results,
    }
    if arguments.out:
        write_json(arguments.out, report)
    else:
        json.dump(report, sys.stdout, indent=1)


if __name__ == "__main__":
    main()
