"""Runs the units in their order, each in a fresh process, and appends what each took to a file at once.

Within a row, systems are interleaved A-B-C, C-B-A, A-B-C over the repeats; every row is done once before any is done
twice. A unit whose line is in the file already, for the same plan, is not run again, so a killed run goes on.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, Final

from benchmarks.population.places import write_rows
from benchmarks.population.rows import Arm, find_row

from legion.foundation.clock import SystemClock
from legion.foundation.machine import describe_machine
from legion.foundation.revision import describe_revision
from legion.foundation.settings import Settings

__all__ = ["Options", "Request", "plan_of", "read_lines", "run_all", "scheduled"]

ROOT: Final = Path(__file__).parents[2]
_FULL: Final = 32
_LAST_WORDS: Final = 400


@dataclass(frozen=True, slots=True, kw_only=True)
class Options:
    """What is run.

    Attributes:
        rows: Keys of rows.
        repeats: Repeats of each arm.
        steps: Steps an epoch, or None for each row's own.
        trials: Every list of adapters shrunk as if 32 were so many, or None.
        validation: Validation examples, or None for each row's own.
        threads: Threads of torch; 0 leaves torch's default to the baselines and the trainer's to ours.
        budget_min: No unit begins after so many minutes, or None.
    """

    rows: tuple[str, ...]
    repeats: int = 5
    steps: int | None = None
    trials: int | None = None
    validation: int | None = None
    threads: int = 0
    budget_min: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """One unit, as its process is told."""

    row: str
    arm: str
    repeat: int
    steps: int | None = None
    trials: int | None = None
    validation: int | None = None
    threads: int = 0
    folder: str = ""
    home: str = ""

    def arm_of_row(self) -> Arm:
        """The arm with its workload cut down as asked."""
        arm = find_row(self.row).arm(self.arm)
        share = 1.0 if self.trials is None else self.trials / _FULL
        workload = arm.workload.scaled(share=share, steps=self.steps, validation=self.validation)
        return replace(arm, workload=workload.every(arm.stride))


def scheduled(options: Options) -> Iterator[Request]:
    """The units in order."""
    for repeat in range(options.repeats):
        for key in options.rows:
            arms = [arm for arm in find_row(key).arms if repeat < (arm.most_repeats or options.repeats)]
            for arm in arms if repeat % 2 == 0 else reversed(arms):
                yield Request(
                    row=key,
                    arm=arm.name,
                    repeat=repeat,
                    steps=options.steps,
                    trials=options.trials,
                    validation=options.validation,
                    threads=options.threads,
                )


def plan_of(request: Request) -> dict[str, Any]:
    """What a unit's numbers depend on, besides code and machine: equal plans may be compared."""
    workload = request.arm_of_row().workload
    return {
        "num_trials": len(workload.trials),
        "steps": workload.steps,
        "epochs": workload.epochs,
        "batch_size": workload.batch_size,
        "num_train": workload.num_train,
        "num_validation": workload.num_validation,
        "max_tokens": workload.max_tokens,
        "threads": request.threads,
    }


def read_lines(path: Path) -> list[dict[str, Any]]:
    """The finished units; a last line that a kill cut short is left out."""
    lines = []
    for text in path.read_text(encoding="utf-8").splitlines() if path.is_file() else ():
        try:
            lines.append(json.loads(text))
        except json.JSONDecodeError:
            print(f"{path.name}: a line cut short is left out", file=sys.stderr)
    return lines


def run_all(options: Options, units: Path) -> None:
    """Runs what is missing in `units`, within the budget."""
    requests = list(scheduled(options))
    done = {_key(line) for line in read_lines(units) if "error" not in line}
    missing = [item for item in requests if _key(_line_of(item)) not in done]
    print(f"{len(requests) - len(missing)} of {len(requests)} units are there already", file=sys.stderr)
    began_s = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="legion-population-") as root:
        home = _shared_home(Path(root))
        for place, request in enumerate(missing):
            if options.budget_min is not None and time.monotonic() - began_s > 60 * options.budget_min:
                print(f"the budget is spent with {len(missing) - place} units left; run it again", file=sys.stderr)
                return
            line = _run(request, Path(root), home)
            with units.open("a", encoding="utf-8") as file:
                file.write(json.dumps(line, allow_nan=False) + "\n")
            told = line.get("error") or f"{line['wall_s']} s, CPU {line['cpu_s']} s"
            print(f"[{place + 1}/{len(missing)}] {request.row} {request.arm} #{request.repeat}: {told}", flush=True)


def _run(request: Request, root: Path, home: Path) -> dict[str, Any]:
    workload = request.arm_of_row().workload
    settings = replace(Settings.load(workspace=root), home=home)
    write_rows(root, workload, settings)
    folder = root / "unit"
    told = replace(request, folder=str(folder), home=str(home))
    request_path, result_path = root / "request.json", root / "result.json"
    result_path.unlink(missing_ok=True)
    request_path.write_text(json.dumps(asdict(told)), encoding="utf-8")
    command = [sys.executable, "-m", "benchmarks.population.unit", str(request_path), str(result_path)]
    done = subprocess.run(
        command, cwd=ROOT, env=_environment(request.threads), capture_output=True, text=True, check=False
    )
    line = _line_of(request) | {"at": SystemClock().now().isoformat(timespec="seconds"), **_circumstances()}
    if done.returncode == 0 and result_path.is_file():
        line |= json.loads(result_path.read_text(encoding="utf-8"))
        _keep_calibration(folder / "home", home)
    else:
        line["error"] = (done.stderr.strip() or f"ended with {done.returncode}")[-_LAST_WORDS:].replace(str(root), "…")
    shutil.rmtree(folder, ignore_errors=True)
    return line


def _environment(threads: int) -> dict[str, str]:
    quiet = {"HF_HUB_OFFLINE": "1", "TOKENIZERS_PARALLELISM": "false", "PYTHONWARNINGS": "ignore"}
    pinned = {"OMP_NUM_THREADS": str(threads), "MKL_NUM_THREADS": str(threads)} if threads else {}
    return os.environ | quiet | pinned


def _shared_home(root: Path) -> Path:
    """A home of this run with the user's assets and measured calibration, but with no cache of anything trained on."""
    theirs, home = Settings.load().home, root / "home"
    home.mkdir()
    for name in ("assets", "converted", "digests"):
        (theirs / name).mkdir(parents=True, exist_ok=True)
        (home / name).symlink_to(theirs / name)
    for path in theirs.glob("*.json"):
        shutil.copy(path, home / path.name)
    return home


def _keep_calibration(unit_home: Path, home: Path) -> None:
    """What a machine measures once for all (which kernel, which type) is kept between units, as it is for a user."""
    for path in unit_home.glob("*.json"):
        shutil.copy(path, home / path.name)


def _line_of(request: Request) -> dict[str, Any]:
    return {"row": request.row, "arm": request.arm, "repeat": request.repeat, "plan": plan_of(request)}


def _key(line: dict[str, Any]) -> tuple[Any, ...]:
    return (line["row"], line["arm"], line["repeat"], json.dumps(line["plan"], sort_keys=True))


def _circumstances() -> dict[str, Any]:
    revision = describe_revision(Path(__file__).parent)
    return {"commit": revision["commit"], "is_dirty": revision["is_dirty"], "machine": describe_machine()}
