"""How well the analytic cost model predicts: expected against measured batch-1 latency, and whether it ranks alike.

    python benchmarks/cost_model.py [--base minilm-l6] [--task classification] [--n 12] [--rounds 80] [--out FILE]

Every proposal is built and run unmerged, interleaved with the bare base and with each other, so that a busy moment
hits all of them alike, and on the same base weights in memory, so that only the adapters tell them apart. Lower
quartiles are compared and written to `benchmarks/results/cost-model-<base>.json`. Kendall's tau-b says how alike the
two orders are: 1 is the same order.
"""

from __future__ import annotations

import argparse
import random
import statistics
import tempfile
import time
from dataclasses import replace
from itertools import combinations
from pathlib import Path
from typing import Any

import torch

from legion.foundation.clock import SystemClock, rfc3339
from legion.foundation.files import write_json
from legion.foundation.machine import available_cores, describe_machine
from legion.foundation.settings import Settings
from legion.neuro_architecture.adapters import build_adapter
from legion.neuro_architecture.data.base_models import resolve_base
from legion.neuro_architecture.generator import ArchitectureGenerator
from legion.neuro_architecture.space import calibrate
from legion.neuro_architecture.spec.task import TaskSpec, embedded_task

RESULTS = Path(__file__).parent / "results"


def main() -> None:
    """Proposes, measures, compares, prints."""
    options = _options()
    settings = replace(Settings.load(), device="cpu")
    torch.set_num_threads(settings.threads or available_cores())
    calibration = calibrate(settings)
    with tempfile.TemporaryDirectory() as scratch:
        generator = ArchitectureGenerator(options.seed, settings=replace(settings, workspace=Path(scratch)))
        proposals = generator.generate(options.task, options.n, base=options.base)
    length = proposals[0].estimate.sequence_length
    base = resolve_base(options.base or embedded_task(options.task).base, settings)
    labels = ("a", "b") if options.task == "classification" else ()
    spec = TaskSpec(name=options.task, kind=options.task, labels=labels)
    original = base.load(spec)
    models = {"base": original} | {
        proposal.id: build_adapter(proposal.architecture).apply(_sharing(original, base.load(spec))).eval()
        for proposal in proposals
    }
    measured = _measure(models, length, options.rounds)
    expected = {"base": proposals[0].estimate.expected_base_latency_ms}
    expected |= {proposal.id: proposal.expected_latency_ms for proposal in proposals}
    rows = [
        {
            "name": name,
            "expected_ms": round(expected[name], 2),
            "measured_ms": round(measured[name], 2),
            "ratio": round(expected[name] / measured[name], 2),
        }
        for name in sorted(models, key=lambda name: measured[name])
    ]
    adapters = [proposal.id for proposal in proposals]
    report = {
        "base": base.reference.name,
        "tokens": length,
        "rounds": options.rounds,
        "threads": torch.get_num_threads(),
        "kendall_tau_b": round(
            _kendall([expected[name] for name in adapters], [measured[name] for name in adapters]), 3
        ),
        "median_absolute_error": round(statistics.median(abs(row["ratio"] - 1.0) for row in rows), 3),
        "rows": rows,
        "measured_at": rfc3339(SystemClock().now()),
        "machine": describe_machine(),
        "calibration": calibration.to_dict(),
    }
    write_json(options.out or RESULTS / f"cost-model-{base.reference.name}.json", report)
    for row in rows:
        print(f"{row['name']:24} expected {row['expected_ms']:8.2f} ms  measured {row['measured_ms']:8.2f} ms")
    print(f"Kendall tau-b {report['kendall_tau_b']}, median absolute error {report['median_absolute_error']:.1%}")


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--base", default=None)
    parser.add_argument("--task", default="classification", choices=["classification", "summarization"])
    parser.add_argument("--n", type=int, default=12)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--rounds", type=int, default=80)
    parser.add_argument("--out", type=Path, default=None)
    return parser.parse_args()


def _sharing(original: Any, model: Any) -> Any:
    """`model`, its weights being those of `original` in memory."""
    weights = dict(original.named_parameters())
    for name, parameter in model.named_parameters():
        parameter.data = weights[name].data
    return model


def _measure(models: dict[str, Any], length: int, rounds: int) -> dict[str, float]:
    """Typical milliseconds of each model over one example of `length` tokens; the order is shuffled each round."""
    draw = random.Random(0)
    ids = torch.tensor([[draw.randrange(1000, 5000) for _ in range(length)]])
    batch = {"input_ids": ids, "attention_mask": torch.ones_like(ids)}
    times: dict[str, list[float]] = {name: [] for name in models}
    with torch.inference_mode():
        for turn in range(rounds + 2):
            for name in draw.sample(sorted(models), len(models)):
                started = time.perf_counter()
                models[name](**batch)
                if turn >= 2:
                    times[name].append(1e3 * (time.perf_counter() - started))
    return {name: statistics.quantiles(values, n=4)[0] for name, values in times.items()}


def _kendall(x: list[float], y: list[float]) -> float:
    """Kendall's tau-b: concordant less discordant pairs, over what ties leave of them."""
    signs = [(_sign(a - b), _sign(c - d)) for (a, c), (b, d) in combinations(zip(x, y, strict=True), 2)]
    untied_x, untied_y = (sum(abs(pair[side]) for pair in signs) for side in (0, 1))
    return sum(a * b for a, b in signs) / (untied_x * untied_y) ** 0.5


def _sign(value: float) -> int:
    return (value > 0) - (value < 0)


if __name__ == "__main__":
    main()
