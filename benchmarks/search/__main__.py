"""Compares searches on the table: `python -m benchmarks.search`.

    python -m benchmarks.search [--seeds 20] [--budget 24]

Every arm is given the same cost, in full trainings of the mean candidate: once of training alone, once with its looks,
one at the end of each trial among them. The arms' fronts are measured with moocore. Writes `search-tabular.json` and
`.md` beside the table. Regret is the share of the table's own hypervolume that a front lacks. Exit code 1 where a bound
is not reached.
"""

from __future__ import annotations

import argparse
import statistics
import sys
from pathlib import Path
from typing import Any, Final

import numpy as np
from benchmarks.search.ground import BATCH, FACTOR, FULL, LOOKS, RESULTS, RUNGS, unpack
from benchmarks.search.simulated import ARMS, Table

from legion.foundation.clock import SystemClock, rfc3339
from legion.foundation.files import write_json, write_text
from legion.foundation.machine import describe_machine
from legion.foundation.revision import describe_revision
from legion.foundation.settings import Settings
from legion.neuro_architecture.scheduler import measure_fidelity

_MUSTS: Final = {
    "random search": 0.5,
    "Optuna TPE within LoRA": 0.8,
    "Syne Tune MO-ASHA": 0.8,
    "Syne Tune MO-ASHA, told expected accuracy": 0.8,
}
# How costs are counted, and whether looks are among them.
_COSTS: Final = {"training alone": False, "looks included": True}
_TAU_MUSTS: Final = {LOOKS[0]: 0.5, LOOKS[1]: 0.7}


def main() -> int:
    """Runs all arms with all seeds and says who found what."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, default=20)
    parser.add_argument("--budget", type=float, default=24.0)
    parser.add_argument("--table", type=Path, default=RESULTS / "search-table.json")
    parser.add_argument("--out", type=Path, default=RESULTS)
    arguments = parser.parse_args()
    checks = [arguments.budget / 4, arguments.budget / 2, arguments.budget]
    parts = {}
    for counted, counts_looks in _COSTS.items():
        table = Table(arguments.table, Settings.load(), counts_looks=counts_looks)
        regrets: dict[str, list[list[float]]] = {}
        for name, arm in ARMS.items():
            regrets[name] = [_regrets(table, arm, seed, checks) for seed in range(arguments.seeds)]
            mean = statistics.fmean(row[-1] for row in regrets[name])
            print(f"{counted}: {name}: {mean:.4f}", file=sys.stderr)
        parts[counted] = _part(regrets)
    report = _report(table, parts, checks, arguments.seeds)
    write_json(arguments.out / "search-tabular.json", report)
    text = _markdown(report)
    write_text(arguments.out / "search-tabular.md", text)
    print(text)
    comparisons = [item for part in report["by_cost"].values() for item in part["comparisons"]]
    return 0 if all(item["is_met"] for item in (*comparisons, *report["fidelity"])) else 1


def _regrets(table: Table, arm: Any, seed: int, checks: list[float]) -> list[float]:
    """The share of the table's hypervolume that the front lacks once each cost is spent."""
    events = list(arm(table, seed, checks[-1]))
    found = []
    for check in checks:
        front = [event.losses for event in events if event.cost <= check]
        found.append(1.0 - table.volume(front) / table.best_volume)
    return found


def _part(regrets: dict[str, list[list[float]]]) -> dict[str, Any]:
    """Every arm's regrets under one way of counting, and what ours has of the others'."""
    mine = [row[-1] for row in regrets["ours"]]
    comparisons = []
    for name, must in _MUSTS.items():
        others = [row[-1] for row in regrets[name]]
        ratio = statistics.fmean(mine) / max(statistics.fmean(others), 1e-12)
        comparisons.append(
            {"against": name, "ratio": ratio, "must": must, "is_met": ratio <= must, **_spread(mine, others)}
        )
    regret = {
        name: {
            "mean": [statistics.fmean(column) for column in zip(*rows, strict=True)],
            "low": [float(np.percentile(column, 25)) for column in zip(*rows, strict=True)],
            "high": [float(np.percentile(column, 75)) for column in zip(*rows, strict=True)],
        }
        for name, rows in regrets.items()
    }
    return {"regret": regret, "comparisons": comparisons}


def _report(table: Table, parts: dict[str, Any], checks: list[float], seeds: int) -> dict[str, Any]:
    return {
        "command": "python -m benchmarks.search",
        "written_at": rfc3339(SystemClock().now()),
        "machine": describe_machine(),
        "revision": describe_revision(Path(__file__).parent),
        "candidates": len(table.rows),
        "full_steps": FULL,
        "rungs": list(RUNGS),
        "factor": FACTOR,
        "batch": BATCH,
        "seeds": seeds,
        "costs": checks,
        "table_hypervolume": table.best_volume,
        "by_cost": parts,
        "fidelity": _fidelity(table),
    }


def _spread(mine: list[float], others: list[float]) -> dict[str, float]:
    """A 95 % interval of the ratio of means, by the bootstrap over seeds."""
    draws = np.random.default_rng(0).integers(0, len(mine), (2000, len(mine)))
    ratios = np.asarray(mine)[draws].mean(axis=1) / np.maximum(np.asarray(others)[draws].mean(axis=1), 1e-12)
    return {"low": float(np.percentile(ratios, 2.5)), "high": float(np.percentile(ratios, 97.5))}


def _fidelity(table: Table) -> list[dict[str, Any]]:
    rows = list(table.rows.values())
    looks = {steps: [_look(row, steps) for row in rows] for steps in (*LOOKS, FULL)}
    full = {
        "expected accuracy": [-_expected_accuracy(look) for look in looks[FULL]],
        "accuracy": [-look["accuracy"] for look in looks[FULL]],
    }
    cheap = {f"{steps} steps": [-_expected_accuracy(look) for look in looks[steps]] for steps in LOOKS}
    cheap["gradient energy at the start"] = [-row["gradient_energy"] for row in rows]
    musts = {f"{steps} steps": must for steps, must in _TAU_MUSTS.items()}
    found = [
        _fidelity_row(
            name, f"{dear} after {FULL}", values, ranks, musts.get(name) if dear == "expected accuracy" else None
        )
        for dear, ranks in full.items()
        for name, values in cheap.items()
    ]
    found.append(_fidelity_row(f"expected accuracy after {FULL}", f"accuracy after {FULL}", *full.values(), None))
    return found


def _fidelity_row(cheap: str, dear: str, values: list[float], ranks: list[float], must: float | None) -> dict[str, Any]:
    each = measure_fidelity(cheap, dear, list(zip(values, ranks, strict=True)))
    return {
        "cheap": cheap,
        "dear": dear,
        "tau": each.tau,
        "low": each.low,
        "high": each.high,
        "recall_top_tenth": each.recall_top_tenth,
        "must": must,
        "is_met": must is None or (each.tau is not None and each.tau >= must),
    }


def _expected_accuracy(look: dict[str, Any]) -> float:
    """What stands for the accuracy at a rung."""
    return float(np.exp(-np.asarray(unpack(look["losses"]))).mean())


def _look(row: dict[str, Any], steps: int) -> dict[str, Any]:
    return next(look for look in row["looks"] if look["steps"] == steps)


def _markdown(report: dict[str, Any]) -> str:
    machine = report["machine"]
    costs = report["costs"]
    lines = [
        "# Searches on the table",
        "",
        (
            f"`{report['command']}`, {report['written_at'][:10]}, {machine.get('cpu', '')}, "
            f"{machine.get('cores', '')} cores: "
            f"{report['candidates']} candidates trained to {report['full_steps']} steps; halving looks after "
            f"{', '.join(map(str, report['rungs']))} steps, ours proposes {report['batch']} at a time and lets one in "
            f"{report['factor']:g} go on; {report['seeds']} seeds."
        ),
    ]
    for counted, part in report["by_cost"].items():
        lines += [
            "",
            f"Share of the table's hypervolume that a front lacks (mean; quartiles), by full trainings, {counted}.",
            "",
            "| search | " + " | ".join(f"{cost:g}" for cost in costs) + " |",
            "|---|" + "---:|" * len(costs),
        ]
        for name, row in part["regret"].items():
            cells = [
                f"{mean:.3f} ({low:.3f} to {high:.3f})"
                for mean, low, high in zip(row["mean"], row["low"], row["high"], strict=True)
            ]
            lines.append(f"| {name} | " + " | ".join(cells) + " |")
        lines += ["", f"| ours over, {counted} | ratio of regrets (95 %) | must | |", "|---|---:|---:|---|"]
        for item in part["comparisons"]:
            lines.append(
                f"| {item['against']} | {item['ratio']:.2f} ({item['low']:.2f} to {item['high']:.2f}) | {item['must']} "
                f"| {'met' if item['is_met'] else 'not met'} |"
            )
    lines += [
        "",
        "| cheap look | full rank by | Kendall tau | recall of the best tenth | must | |",
        "|---|---|---:|---:|---:|---|",
    ]
    for item in report["fidelity"]:
        shown = "–" if item["tau"] is None else f"{item['tau']:.2f} ({item['low']:.2f} to {item['high']:.2f})"
        must = "–" if item["must"] is None else f"{item['must']}"
        met = "" if must == "–" else "met" if item["is_met"] else "not met"
        recall = "–" if item["recall_top_tenth"] is None else f"{item['recall_top_tenth']:.2f}"
        lines.append(f"| {item['cheap']} | {item['dear']} | {shown} | {recall} | {must} | {met} |")
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    sys.exit(main())
