"""Registrations a second in MLflow's SQLite store, one by one and durable, for comparison with ours.

    python -m benchmarks.registry.mlflow_store --python MLFLOW_ENVIRONMENT/bin/python --count 200

MLflow is no dependency of the project: the work is done by another interpreter that has it, in a folder that is gone
afterwards. Two figures, each from a client in the same process as the store, without a server in between (MLflow's
fastest way):

- `version`: one `create_model_version` with two tags, of a model that stands: the least that MLflow calls registered.
- `whole`: what one of our registrations holds: a run with parameters and metrics, then the version with its tags.

SQLite's journal and `synchronous` stay as MLflow sets them up; the figures are printed with them.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

_WORK = """
import json, logging, sqlite3, sys, time
from importlib.metadata import version
from mlflow import MlflowClient
from mlflow.entities import Metric, Param

logging.disable(logging.WARNING)
folder, count = sys.argv[1], int(sys.argv[2])
client = MlflowClient(tracking_uri=f"sqlite:///{folder}/mlflow.db", registry_uri=f"sqlite:///{folder}/mlflow.db")
experiment = client.create_experiment("benchmark", artifact_location=f"file://{folder}/artifacts")
client.create_registered_model("adapter")
source = f"file://{folder}/artifacts/adapter"


def register_version(number):
    client.create_model_version("adapter", source, tags={"task": "classification", "number": str(number)})


def register_whole(number):
    run = client.create_run(experiment).info.run_id
    now = int(time.time() * 1000)
    metrics = [Metric("accuracy", number / 1e6, now, 0), Metric("latency_ms", 10.0, now, 0)]
    client.log_batch(run, metrics=metrics, params=[Param("r", "8"), Param("lora_alpha", "16")])
    client.create_model_version("adapter", source, run, tags={"task": "classification", "number": str(number)})
    client.set_terminated(run)


def measure(register):
    for number in range(3):
        register(number)
    times = []
    for number in range(count):
        start = time.perf_counter()
        register(number)
        times.append(time.perf_counter() - start)
    times.sort()
    return {
        "registrations_per_s": count / sum(times),
        "median_ms": 1e3 * times[count // 2],
        "p99_ms": 1e3 * times[min(count - 1, count * 99 // 100)],
    }


figures = {"version": measure(register_version), "whole": measure(register_whole)}
database = sqlite3.connect(f"{folder}/mlflow.db")
figures |= {
    "count": count,
    "mlflow": version("mlflow"),
    "sqlite": sqlite3.sqlite_version,
    "journal_mode": database.execute("PRAGMA journal_mode").fetchone()[0],
    "synchronous": database.execute("PRAGMA synchronous").fetchone()[0],
    "versions_in_store": database.execute("SELECT count(*) FROM model_versions").fetchone()[0],
}
print(json.dumps(figures))
"""


def measure(python: Path, count: int) -> dict[str, Any]:
    """The figures, measured by an interpreter that has MLflow."""
    environment = os.environ | {"MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false", "MLFLOW_DISABLE_TELEMETRY": "true"}
    with tempfile.TemporaryDirectory(prefix="mlflow-benchmark-") as folder:
        command = [str(python), "-c", _WORK, folder, str(count)]
        done = subprocess.run(command, env=environment, cwd=folder, check=True, stdout=subprocess.PIPE, text=True)
    figures: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return figures


def main() -> None:
    """Prints the figures as JSON."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--python", type=Path, required=True, help="an interpreter with mlflow 3.17")
    parser.add_argument("--count", type=int, default=200, help="registrations of each kind")
    arguments = parser.parse_args()
    if arguments.count < 1:
        sys.exit("error: --count is at least 1")
    print(json.dumps(measure(arguments.python, arguments.count), indent=2))


if __name__ == "__main__":
    main()
