"""Trains the table: 210 candidates to their full budget, each looked at on the way.

    python -m benchmarks.search.table [--places 16] [--minutes N] [--workspace DIR]

Run from the repository's root after `make assets` and `legion data prepare`. Trials are kept in the workspace (the
current folder by default), so a run that was stopped goes on where it was. The table goes to
`benchmarks/results/search-table.json`: what every later comparison reads, and anyone can build again.
"""

from __future__ import annotations

import argparse
import sys
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

from benchmarks.search.ground import FULL, LOOKS, OBJECTIVES, RESULTS, pack, table_space

from legion.cli.progress import TerminalProgress
from legion.foundation.canonical import digest_json
from legion.foundation.clock import SystemClock, rfc3339
from legion.foundation.files import write_json
from legion.foundation.machine import describe_machine
from legion.foundation.settings import Settings
from legion.neuro_architecture.data.datasets import read_data
from legion.neuro_architecture.records import ProposalStore, RunFolder
from legion.neuro_architecture.spec.training import TrialState
from legion.neuro_architecture.study.ladder import gradient_energy
from legion.neuro_architecture.trainer import PopulationTrainer, TrainerConfig

VALIDATION_EXAMPLES = 512


def main() -> int:
    """Trains what is missing, then writes the table of all that is there; 0 where it is whole."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--places", type=int, default=16)
    parser.add_argument("--minutes", type=float, default=None, help="begin no wave after that")
    parser.add_argument("--workspace", type=Path, default=None)
    parser.add_argument("--out", type=Path, default=RESULTS / "search-table.json")
    arguments = parser.parse_args()
    outer = Settings.load(workspace=arguments.workspace)
    data = (outer.workspace / "data" / "classification").resolve()
    settings = replace(outer, workspace=outer.workspace / "studies" / "table")
    study, space, points = table_space(outer)
    store = ProposalStore(settings)
    names = []
    for point in points:
        proposal = study.proposal(*space.candidate(point))
        store.save(proposal)
        names.append(proposal.id)
    _train(names, settings, data, arguments.places, arguments.minutes)
    rows = [
        row
        for row in (_row(name, point, study, space, settings) for name, point in zip(names, points, strict=True))
        if row
    ]
    write_json(
        arguments.out,
        {
            "command": "python -m benchmarks.search.table",
            "written_at": rfc3339(SystemClock().now()),
            "machine": describe_machine(),
            "base": study.problem.base.to_dict(),
            "data_digest": read_data(data).digest,
            "objectives": list(OBJECTIVES),
            "rungs": [*LOOKS, FULL],
            "validation_examples": VALIDATION_EXAMPLES,
            "size": len(points),
            "points_digest": digest_json([list(point) for point in points]),
            "rows": rows,
        },
    )
    print(f"{len(rows)} of {len(points)} candidates are in {arguments.out}")
    return 0 if len(rows) == len(points) else 1


def _train(names: list[str], settings: Settings, data: Path, places: int, minutes: float | None) -> None:
    config = TrainerConfig.for_task("classification").model_copy(
        update={"num_validations": 1, "latency_examples": 0, "validation_examples": VALIDATION_EXAMPLES}
    )
    trainer = PopulationTrainer(settings=settings, seed=0, config=config, progress=TerminalProgress())
    began_s = time.monotonic()
    with trainer.open(data, FULL, kind="classification") as session:
        for start in range(0, len(names), places):
            if minutes is not None and time.monotonic() - began_s > 60.0 * minutes:
                break
            wave = names[start : start + places]
            session.add(wave)
            session.announce(
                f"candidates {start} to {start + len(wave) - 1} of {len(names)}", (start + len(wave)) * FULL
            )
            for rung in LOOKS:
                session.advance(wave, rung)
            session.finish(wave)


def _row(name: str, point: Any, study: Any, space: Any, settings: Settings) -> dict[str, Any] | None:
    run = RunFolder.of(settings, name)
    if not run.metrics_path.is_file():
        return None
    metrics, _ = run.read_metrics()
    architecture, recipe = space.candidate(point)
    if metrics.state is TrialState.FAILED:
        return {"id": name, "point": list(point), "traits": space.traits(point), "failed": metrics.reason}
    if metrics.state is not TrialState.COMPLETED:
        return None
    standings = [run.read_standing(rung) for rung in (*LOOKS, FULL)]
    return {
        "id": name,
        "point": list(point),
        "traits": space.traits(point),
        "predicted": study.predicted(architecture),
        "batch_size": recipe.batch_size,
        "gradient_energy": gradient_energy(run),
        "looks": [
            {
                "steps": standing.step,
                "loss": standing.loss,
                "accuracy": standing.accuracy,
                "seconds": standing.seconds,
                "losses": pack(standing.losses),
            }
            for standing in standings
            if standing is not None
        ],
    }


if __name__ == "__main__":
    sys.exit(main())
