"""Measures one population against one trial after another: `python -m benchmarks.population`.

    python -m benchmarks.population [--rows KEY ...] [--repeats 5] [--budget MINUTES] [--report]

Run it from the repository's root on an otherwise idle machine. Units go to `benchmarks/results/population-units.jsonl`
as they end, so a run that was stopped or killed goes on where it was; `--fresh` begins anew. From that file come
`population.json`, `.md`, `.svg` and `.png` beside it. Exit code 1 where a bound is not reached or not measured.

With `--steps`, `--trials` or `--validation` the figures are those of other work: name another `--out` for them.
"""

from __future__ import annotations

import argparse
import sys
from importlib.metadata import version
from pathlib import Path
from typing import Any, Final

from benchmarks.population.harness import Options, plan_of, read_lines, run_all, scheduled
from benchmarks.population.report import build_report
from benchmarks.population.rows import ROWS, find_row
from benchmarks.population.tables import render

from legion.foundation.clock import SystemClock
from legion.foundation.files import write_json, write_text

RESULTS: Final = Path(__file__).parents[1] / "results"
_LIBRARIES: Final = ("torch", "transformers", "peft", "optuna", "accelerate")


def main() -> int:
    """Runs what is missing, then reports all that is there."""
    arguments = _arguments()
    options = Options(
        rows=tuple(arguments.rows),
        repeats=arguments.repeats,
        steps=arguments.steps,
        trials=arguments.trials,
        validation=arguments.validation,
        threads=arguments.threads,
        budget_min=arguments.budget,
    )
    units = arguments.out / "population-units.jsonl"
    arguments.out.mkdir(parents=True, exist_ok=True)
    if arguments.fresh:
        units.unlink(missing_ok=True)
    if not arguments.report:
        run_all(options, units)
    report = _publish(options, units, arguments.out)
    print(render(report))
    judged = [item for row in report["rows"].values() for item in row["comparisons"] if item["must"]]
    is_whole = not any(row["absent"] for row in report["rows"].values())
    return 0 if is_whole and judged and all(item["is_met"] for item in judged) else 1


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    keys = [row.key for row in ROWS]
    parser.add_argument("--rows", nargs="+", choices=keys, default=keys, metavar="KEY", help=", ".join(keys))
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--steps", type=int, default=None, help="steps of an epoch; each row has its own")
    parser.add_argument("--trials", type=int, default=None, help="shrink every list as if 32 adapters were so many")
    parser.add_argument("--validation", type=int, default=None, help="validation examples; each row has its own number")
    parser.add_argument("--threads", type=int, default=0, help="threads of torch; 0 leaves it its default")
    parser.add_argument("--budget", type=float, default=None, metavar="MINUTES", help="begin no unit after that")
    parser.add_argument("--fresh", action="store_true", help="forget the units that are there")
    parser.add_argument("--report", action="store_true", help="measure nothing, report what is there")
    parser.add_argument("--out", type=Path, default=RESULTS)
    return parser.parse_args()


def _publish(options: Options, units: Path, out: Path) -> dict[str, Any]:
    from benchmarks.population.chart import draw

    wanted = [(request.row, request.arm, request.repeat, plan_of(request)) for request in scheduled(options)]
    lines = [line for line in read_lines(units) if (line["row"], line["arm"], line["repeat"], line["plan"]) in wanted]
    report = {
        "command": " ".join(["python -m benchmarks.population", *sys.argv[1:]]),
        "date": SystemClock().now().date().isoformat(),
        "versions": ", ".join(f"{name} {version(name)}" for name in _LIBRARIES),
        **build_report(lines, [find_row(key) for key in options.rows]),
    }
    write_json(out / "population.json", report)
    write_text(out / "population.md", render(report))
    draw(report, [out / "population.svg", out / "population.png"])
    return report


if __name__ == "__main__":
    sys.exit(main())
