"""What a generator costs besides the trials: milliseconds of one ask and one tell, ours and Optuna's.

    python benchmarks/search_overhead.py [--rounds 200] [--out FILE]

Five objectives with random losses on the space of LoRA, Adapter and MoE in a model of MiniLM's widths. Each arm is told
n trials first (100, 1,000, and ours 10,000: with 512 in its window it must cost the same), the same ones in each. Then
every round asks each arm for one point and tells it of it, the arms in turn, their order turned around at every round,
so that whatever else the machine does falls on all alike. Optuna asks conditionally, as our plug-in has it: repairs,
and up to eight asks where the sampler repeats itself, are in its figure. Wall milliseconds: median and quartiles. The
last columns are the CPU's median and how often another arm of the same n takes ours. Results go to
`benchmarks/results/search-overhead.json`. Exit code 1 where a `must` is not met.
"""

from __future__ import annotations

import argparse
import gc
import os
import random
import statistics
import sys
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final, final

from legion.foundation.clock import SystemClock, rfc3339
from legion.foundation.files import write_json
from legion.foundation.machine import describe_machine
from legion.foundation.revision import describe_revision
from legion.foundation.rng import RandomStream
from legion.neuro_architecture.generator import PointGenerator, build_generator
from legion.neuro_architecture.objectives import Observation
from legion.neuro_architecture.space import Point, PointSpace
from legion.testing import paper_anatomy

RESULTS: Final = Path(__file__).parent / "results"
STRATEGIES: Final = ("LoRA", "Adapter", "MoE")
NUM_OBJECTIVES: Final = 5
ARMS: Final = (
    ("tpe", 100),
    ("optuna-tpe", 100),
    ("optuna-nsga2", 100),
    ("tpe", 1_000),
    ("optuna-tpe", 1_000),
    ("optuna-nsga2", 1_000),
    ("tpe", 10_000),
)
MUST_MS: Final = 2.0  # ours, at 1,000 trials
AIM_MS: Final = 0.5
MUST_GROWTH: Final = 1.3  # ours, 10,000 trials over 1,000


@final
@dataclass(slots=True, kw_only=True)
class Arm:
    """One generator that knows `num_told` trials, and what its rounds took."""

    name: str
    num_told: int
    generator: PointGenerator
    draw: random.Random
    wall_ms: list[float] = field(default_factory=list)
    cpu_ms: list[float] = field(default_factory=list)

    def run(self) -> None:
        """One ask and one tell."""
        losses = _losses(self.draw)
        wall_s, cpu_s = time.perf_counter(), time.process_time()
        (point,) = self.generator.propose(1)
        self.generator.tell([Observation(point=point, losses=losses)])
        self.wall_ms.append(1e3 * (time.perf_counter() - wall_s))
        self.cpu_ms.append(1e3 * (time.process_time() - cpu_s))


def main() -> int:
    """Tells, asks in turn, compares, prints."""
    options = _options()
    anatomy = paper_anatomy(
        hidden_size=384,
        intermediate_size=1536,
        num_layers=6,
        num_attention_heads=12,
        vocab_size=30_522,
        is_ffn_gated=False,
        is_causal=False,
    )
    space = PointSpace(anatomy, STRATEGIES)
    arms = [_arm(space, name, num_told) for name, num_told in ARMS]
    for each in range(options.rounds):
        gc.collect()
        for arm in arms if each % 2 == 0 else reversed(arms):
            arm.run()
    report = _report(space, arms, options.rounds)
    write_json(options.out or RESULTS / "search-overhead.json", report)
    return _print(report)


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=200)
    parser.add_argument("--out", type=Path, default=None)
    return parser.parse_args()


def _arm(space: PointSpace, name: str, num_told: int) -> Arm:
    """A generator that knows the first trials of a fixed list; one untimed round is behind it."""
    draw = RandomStream(0).child("benchmark").random()
    points: dict[Point, None] = {}
    while len(points) < num_told:
        points[space.draw(draw)] = None
    generator = build_generator(name, space, RandomStream(0).child(name))
    generator.tell([Observation(point=point, losses=_losses(draw)) for point in points])
    arm = Arm(name=name, num_told=num_told, generator=generator, draw=draw)
    arm.run()
    arm.wall_ms.clear()
    arm.cpu_ms.clear()
    return arm


def _losses(draw: random.Random) -> tuple[float, ...]:
    return tuple(draw.random() for _ in range(NUM_OBJECTIVES))


def _report(space: PointSpace, arms: list[Arm], rounds: int) -> dict[str, Any]:
    rows = [_row(arm) for arm in arms]
    ours = {row["told"]: row["wall_ms"]["median"] for row in rows if row["generator"] == "tpe"}
    for row in rows:
        row["times_ours"] = round(row["wall_ms"]["median"] / ours[row["told"]], 1)
    growth = ours[10_000] / ours[1_000]
    return {
        "objectives": NUM_OBJECTIVES,
        "strategies": STRATEGIES,
        "points": space.size,
        "rounds": rounds,
        "rows": rows,
        "must_ms": MUST_MS,
        "aim_ms": AIM_MS,
        "is_must_met": ours[1_000] <= MUST_MS,
        "is_aim_met": ours[1_000] <= AIM_MS,
        "growth": round(growth, 3),
        "must_growth": MUST_GROWTH,
        "is_must_growth_met": growth <= MUST_GROWTH,
        "measured_at": rfc3339(SystemClock().now()),
        "machine": describe_machine(),
        "load_average_at_end": [round(value, 2) for value in os.getloadavg()],
        "revision": describe_revision(Path(__file__).parent),
    }


def _row(arm: Arm) -> dict[str, Any]:
    low, median, high = statistics.quantiles(arm.wall_ms, n=4, method="inclusive")
    return {
        "generator": arm.name,
        "told": arm.num_told,
        "wall_ms": {"lower_quartile": round(low, 3), "median": round(median, 3), "upper_quartile": round(high, 3)},
        "cpu_ms": {"median": round(statistics.median(arm.cpu_ms), 3)},
    }


def _print(report: dict[str, Any]) -> int:
    """A Markdown table; 1 where a must is missed, else 0."""
    print("| generator | trials told | ask + tell, ms | quartiles, ms | CPU, ms | times ours |")
    print("|---|---:|---:|---|---:|---:|")
    for row in report["rows"]:
        wall = row["wall_ms"]
        print(
            f"| {row['generator']} | {row['told']:,} | {wall['median']:.2f} | {wall['lower_quartile']:.2f} to "
            f"{wall['upper_quartile']:.2f} | {row['cpu_ms']['median']:.2f} | {row['times_ours']:.1f} |"
        )
    grown = "met" if report["is_must_growth_met"] else "not met"
    judged = [
        f"must {report['must_ms']:g} ms {'met' if report['is_must_met'] else 'not met'}",
        f"aim {report['aim_ms']:g} ms {'met' if report['is_aim_met'] else 'not met'}",
        f"growth {report['growth']:.2f}, must {report['must_growth']:g} {grown}",
    ]
    print(f"\nOurs at 1,000 trials: {', '.join(judged)}")
    return int(not (report["is_must_met"] and report["is_must_growth_met"]))


if __name__ == "__main__":
    sys.exit(main())
