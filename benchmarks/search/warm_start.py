"""What a study of another domain is worth: Amazon reviews after movie reviews, against Amazon reviews alone.

    python -m benchmarks.search.warm_start [--trials 24] [--seeds 3] [--steps 54] [--jobs 1] [--workspace DIR]

For each seed one study on sentences of movie reviews, of twice the trials, then two of the same budget on sentences of
Amazon reviews: `cold` in a workspace of its own, `warm` beside the study on movies. Both are judged on the same
validation examples, against the reference point that the first of them fixed, by moocore. What is compared is the cost
at which `warm` has the hypervolume that `cold` ends with, as a share of the cost at which `cold` has it: operations of
training, and seconds. Where `warm` never has it the share is absent. What both have at half of that cost is there too.
Both domains are ratings of one study of its readers.

Studies go on where they were stopped. Run after `make assets`; the seconds mean something on an otherwise idle machine
and with one job, the operations always.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
from concurrent.futures import ProcessPoolExecutor
from dataclasses import replace
from functools import partial
from itertools import repeat
from multiprocessing import get_context
from pathlib import Path
from typing import Any, Final

import moocore
import numpy as np
import torch
from benchmarks.search.ground import OBJECTIVES, RESULTS

from legion.cli.progress import TerminalProgress
from legion.foundation.clock import SystemClock, rfc3339
from legion.foundation.files import write_json, write_text
from legion.foundation.machine import describe_machine
from legion.foundation.revision import describe_revision
from legion.foundation.rng import RandomStream
from legion.foundation.settings import Settings
from legion.neuro_architecture.data.assets import AssetStore
from legion.neuro_architecture.data.datasets import read_data, rows_digest
from legion.neuro_architecture.data.prepare import prepare_data, split_by_group
from legion.neuro_architecture.data.sources import rated_sentences
from legion.neuro_architecture.data.task_files import TASK_FILE, write_task
from legion.neuro_architecture.study import Search, StudyRecipe, parse_budget
from legion.neuro_architecture.study.front import end_values
from legion.neuro_architecture.study.state import StudyState

MUST: Final = 0.5
_AMAZON: Final = "amazonReviewSnippets.tsv"
_BATCH: Final = 6
_OPTIONS: Final = ("trials", "seeds", "steps", "base", "jobs")


def main() -> int:
    """Runs what is missing; 0 where every seed reached it and the median share is at most a half."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--trials", type=int, default=24)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--steps", type=int, default=54)
    parser.add_argument("--base", default="minilm-l6", help="a folder to use in place of the embedded base model")
    parser.add_argument("--jobs", type=int, default=1, help="seeds side by side")
    parser.add_argument("--workspace", type=Path, default=None)
    parser.add_argument("--out", type=Path, default=RESULTS / "search-warm-start.json")
    arguments = parser.parse_args()
    outer = Settings.load(workspace=arguments.workspace)
    seeds = range(arguments.seeds)
    if arguments.jobs > 1:
        with ProcessPoolExecutor(arguments.jobs, mp_context=get_context("spawn")) as pool:
            rows = list(pool.map(_seed, repeat(outer), seeds, repeat(arguments)))
    else:
        rows = [_seed(outer, seed, arguments) for seed in seeds]
    report = _report(rows) | {"options": {name: getattr(arguments, name) for name in _OPTIONS}}
    write_json(arguments.out, report)
    print(json.dumps(report["shares"], indent=2))
    return 0 if report["is_met"] else 1


def _seed(outer: Settings, seed: int, arguments: argparse.Namespace) -> dict[str, Any]:
    places = {
        name: replace(outer, workspace=outer.workspace / "warm-start" / f"seed-{seed}" / name)
        for name in ("cold", "warm")
    }
    for settings in places.values():
        settings.workspace.mkdir(parents=True, exist_ok=True)
        prepare_data(settings, ["classification"])
        _write_amazon(settings)
    ours = partial(_run, seed=seed, arguments=arguments)
    ours(places["warm"], "movies", "data/classification", num_trials=2 * arguments.trials, is_warm=False)
    cold = ours(places["cold"], "amazon", "data/amazon", num_trials=arguments.trials, is_warm=False)
    warm = ours(places["warm"], "amazon", "data/amazon", num_trials=arguments.trials, is_warm=True)
    return {"seed": seed, "cold": _course(cold, cold), "warm": _course(warm, cold), "earlier": _earlier(warm)}


def _write_amazon(settings: Settings) -> None:
    """The Amazon sentences as a task folder, made as the movies' are."""
    folder = settings.workspace / "data" / "amazon"
    if (folder / TASK_FILE).is_file():
        return
    folder.mkdir(parents=True, exist_ok=True)
    movies = read_data(settings.workspace / "data" / "classification").spec
    rows = rated_sentences(AssetStore(settings).folder("vader-ratings") / _AMAZON)
    splits = split_by_group(rows, RandomStream(0).child("data/amazon"))
    for split, examples in splits.items():
        lines = [
            {"id": row.id, "text": row.text, "label": row.target, "group": row.group or row.id} for row in examples
        ]
        write_text(folder / f"{split}.jsonl", "".join(json.dumps(line, ensure_ascii=False) + "\n" for line in lines))
    source = movies.source.replace("movie-review", "Amazon-review") if movies.source else None
    spec = movies.model_copy(
        update={"name": "amazon", "group_column": "group", "source": source, "digest": rows_digest(splits)}
    )
    write_task(folder / TASK_FILE, spec)


def _run(
    settings: Settings,
    name: str,
    data: str,
    *,
    seed: int,
    arguments: argparse.Namespace,
    num_trials: int,
    is_warm: bool,
) -> StudyState:
    rungs = [rung for rung in (4, 12, 36) if rung < arguments.steps]
    recipe = StudyRecipe.parse(
        {
            "name": name,
            "task": name,
            "data": data,
            "base": arguments.base,
            "seed": seed,
            "objectives": OBJECTIVES,
            "generator": {"batch": _BATCH},
            "scheduler": {"steps": arguments.steps, "rungs": rungs},
            "final": {"top": 0},
            "warm_start": is_warm,
        },
        what="recipe",
    )
    search = Search(settings, recipe, progress=TerminalProgress(), say=lambda line: print(line, file=sys.stderr))
    return search.run(parse_budget(f"{num_trials}trials"))


def _course(state: StudyState, ruler: StudyState) -> dict[str, Any]:
    """Hypervolume after each generation, with what it had cost by then."""
    from legion.neuro_architecture.study.criteria import Criteria

    criteria = Criteria.of(OBJECTIVES, (), {})
    reference = np.asarray(ruler.reference_point)
    scale = np.abs(reference)
    volumes = []
    for number, moment in enumerate(state.history):
        points = [
            criteria.losses(end_values(trial))
            for trial in state.trials.values()
            if trial.generation <= number and end_values(trial) and not criteria.missing(end_values(trial))
        ]
        found = moocore.hypervolume(np.asarray(points) / scale, ref=reference / scale) if points else 0.0
        volumes.append(
            {
                "hypervolume": float(found),
                "flops": moment.spent_flops,
                "seconds": moment.spent_s,
                "trials": moment.trials,
            }
        )
    return {"moments": volumes}


def _earlier(state: StudyState) -> dict[str, Any]:
    earlier = state.problem.get("warm_start") or {}
    return {
        "study": earlier.get("study"),
        "likeness": earlier.get("likeness"),
        "is_dropped": any(each.is_warm_start_dropped for each in state.generations),
    }


def _report(rows: list[dict[str, Any]]) -> dict[str, Any]:
    shares = []
    for row in rows:
        goal = row["cold"]["moments"][-1]["hypervolume"]
        reached = {name: _first(row[name]["moments"], goal) for name in ("cold", "warm")}
        share: dict[str, Any] = {"seed": row["seed"], "goal": goal}
        for measure in ("flops", "seconds"):
            there, here = reached["cold"], reached["warm"]
            share[measure] = None if there is None or here is None else round(here[measure] / there[measure], 3)
        if reached["cold"] is not None:
            share["at_half"] = {
                name: _volume_at(row[name]["moments"], reached["cold"]["flops"] / 2) for name in ("cold", "warm")
            }
        shares.append(share)
    never = float("inf")
    num_reached = sum(share["flops"] is not None for share in shares)
    middle = statistics.median(never if share["flops"] is None else share["flops"] for share in shares)
    median = None if middle == never else middle
    return {
        "command": "python -m benchmarks.search.warm_start",
        "written_at": rfc3339(SystemClock().now()),
        "machine": describe_machine(),
        "device": torch.cuda.get_device_name() if torch.cuda.is_available() else "cpu",
        "revision": describe_revision(Path(__file__).parent),
        "must": MUST,
        "median_share_of_operations": median,
        "num_reached": num_reached,
        "is_met": median is not None and num_reached == len(shares) and median <= MUST,
        "shares": shares,
        "rows": rows,
    }


def _volume_at(moments: list[dict[str, Any]], flops: float) -> float:
    """What had been reached by then."""
    return max((moment["hypervolume"] for moment in moments if moment["flops"] <= flops), default=0.0)


def _first(moments: list[dict[str, Any]], goal: float) -> dict[str, Any] | None:
    return next((moment for moment in moments if moment["hypervolume"] >= goal), None)


if __name__ == "__main__":
    sys.exit(main())
