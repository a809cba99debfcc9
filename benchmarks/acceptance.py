"""The heavy acceptance run: quickstart within its bounds, and summarization end to end.

    make acceptance                                  both
    python benchmarks/acceptance.py quickstart       one of them

Each part works in an empty workspace with the embedded assets and writes `benchmarks/results/acceptance-<part>.json`
with machine and date. Bounds: quickstart at most 3 minutes and 4 GB on 2 cores, at least 12 proposals over three
strategies, and a winner 2 points of test accuracy above the frozen base with logistic regression.
"""

from __future__ import annotations

import json
import resource
import shutil
import subprocess
import sys
import tempfile
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from legion.foundation.files import write_json
from legion.foundation.machine import describe_machine
from legion.foundation.revision import describe_revision
from legion.foundation.settings import Settings

RESULTS = Path(__file__).parent / "results"
LEGION = [sys.executable, "-m", "legion.cli"]


def run(folder: Path, *arguments: str) -> Any:
    """Runs a command with its progress shown and gives its JSON result."""
    print("$ legion", *arguments, flush=True)
    done = subprocess.run(
        [*LEGION, *arguments, "--format", "json"], cwd=folder, stdout=subprocess.PIPE, text=True, check=True
    )
    return json.loads(done.stdout)


def quickstart(folder: Path) -> dict[str, Any]:
    """The main job, timed from outside as a whole process, data already prepared."""
    shutil.rmtree(Settings.load().home / "baselines", ignore_errors=True)  # a first run measures the base itself
    run(folder, "data", "prepare", "classification")
    began = time.perf_counter()
    found = run(folder, "quickstart")
    took_s = time.perf_counter() - began
    peak_gb = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss * 1024 / 1e9
    summary = found["summary"]
    winner = next(row for row in summary["results"] if row["proposal_id"] in found["finalists"])
    accuracy, base = winner["measurements"]["accuracy"]["value"], summary["baseline"]["accuracy"]["value"]
    strategies = {name.partition("-")[0] for name in found["proposals"]}
    return {
        "took_s": round(took_s, 1),
        "peak_memory_gb": round(peak_gb, 2),
        "proposals": len(found["proposals"]),
        "strategies": sorted(strategies),
        "front": len(summary["front"]),
        "final_steps": found["final_steps"],
        "population": found["population"],
        "winner": winner["proposal_id"],
        "accuracy": accuracy,
        "baseline_accuracy": base,
        "gain_points": round(100 * (accuracy - base), 2),
        "gain": winner["measurements"].get("accuracy_gain"),
        "reverted_exactly": found["manifest_before"] == found["manifest_after_revert"],
        "is_within_bounds": took_s <= 180
        and peak_gb <= 4
        and len(found["proposals"]) >= 12
        and len(strategies) == 3
        and accuracy >= base + 0.02,
    }


def summarization(folder: Path) -> dict[str, Any]:
    """Three proposals for headlines on smollm2-135m, shortly trained, ROUGE-L before and after."""
    run(folder, "data", "prepare", "task_small")
    proposals = run(folder, "generate", "--task", "summarization", "--n", "3")
    for proposal in proposals:
        run(folder, "train", "--proposal", proposal["id"], "--data", "data/task_small/", "--steps", "16")
    summary = run(folder, "evaluate", "--runs", "artifacts/proxy_runs/*", "--examples", "16")
    run(folder, "integrate", "--top", "1", "--approve", "acceptance")
    text = "A new bridge over the river was opened on Monday after four years of work. It cost 40 million pounds."
    answer = run(folder, "ask", "summarization", text)
    run(folder, "patch", "revert")
    return {
        "rouge_l_before": summary["baseline"]["accuracy"],
        "rouge_l_after": {row["proposal_id"]: row["measurements"].get("accuracy") for row in summary["results"]},
        "latency_ratio": {row["proposal_id"]: row["measurements"].get("latency_ratio") for row in summary["results"]},
        "violations": {row["proposal_id"]: row["measurements"].get("safety_violations") for row in summary["results"]},
        "answer": answer["text"],
        "is_within_bounds": any(
            (row["measurements"]["accuracy"]["value"] or 0) > summary["baseline"]["accuracy"]["value"]
            for row in summary["results"]
        ),
    }


PARTS = {"quickstart": quickstart, "summarization": summarization}


def main(names: list[str]) -> int:
    """Runs the parts; 0 when all are within their bounds."""
    is_good = True
    for name in names or list(PARTS):
        with tempfile.TemporaryDirectory(prefix=f"legion-{name}-") as folder:
            result = PARTS[name](Path(folder))
        result |= {
            "command": f"python benchmarks/acceptance.py {name}",
            "date": datetime.now(UTC).date().isoformat(),
            "machine": describe_machine(),
            "code": describe_revision(Path(__file__).parent),
        }
        write_json(RESULTS / f"acceptance-{name}.json", result)
        print(json.dumps(result, indent=2), flush=True)
        is_good &= result["is_within_bounds"]
    return 0 if is_good else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
