"""Writes what MLflow 3.17 writes, without MLflow: the tables and the files that an import reads, by their names."""

from __future__ import annotations

import json
import math
import sqlite3
from pathlib import Path
from typing import Any

import numpy
import yaml
from safetensors.numpy import save_file

RUNS = {"a" * 32: "first", "b" * 32: "second", "c" * 32: "third"}
PEFT = {
    "peft_type": "LORA",
    "r": 4,
    "lora_alpha": 8,
    "lora_dropout": 0.1,
    "target_modules": ["q_proj", "v_proj"],
    "base_model_name_or_path": "tiny",
    "task_type": "CAUSAL_LM",
    "bias": "none",
    "modules_to_save": None,
    "init_lora_weights": True,
}
PARAMS: dict[str, dict[str, str]] = {
    "a" * 32: {"r": "8", "lora_alpha": "16", "lora_dropout": "0.05", "target_modules": "['q_proj', 'v_proj']"},
    "b" * 32: {"epochs": "3"},
    "c" * 32: {"C": "1.0"},
}
METRICS: dict[str, dict[str, list[float]]] = {
    "a" * 32: {"accuracy": [0.5, 0.9], "loss": [0.1, float("nan")], "huge": [float("inf")]},
    "b" * 32: {"accuracy": [0.7], "val/f1": [0.6]},
    "c" * 32: {},
}
DESCRIPTION = "An adapter: with a colon\nand lines " + "long " * 40 + 'and "quotes" # and more'

SCHEMA = """
CREATE TABLE registered_models (name TEXT, creation_time BIGINT, last_updated_time BIGINT, description TEXT,
  workspace TEXT);
CREATE TABLE registered_model_tags (key TEXT, value TEXT, name TEXT, workspace TEXT);
CREATE TABLE model_versions (name TEXT, version INTEGER, creation_time BIGINT, description TEXT, current_stage TEXT,
  source TEXT, run_id TEXT, status TEXT, storage_location TEXT, workspace TEXT);
CREATE TABLE model_version_tags (key TEXT, value TEXT, name TEXT, version INTEGER, workspace TEXT);
CREATE TABLE registered_model_aliases (alias TEXT, version INTEGER, name TEXT, workspace TEXT);
CREATE TABLE runs (run_uuid TEXT, name TEXT, status TEXT, lifecycle_stage TEXT, start_time BIGINT, end_time BIGINT,
  artifact_uri TEXT, experiment_id INTEGER);
CREATE TABLE params (key TEXT, value TEXT, run_uuid TEXT);
CREATE TABLE metrics (key TEXT, value FLOAT, timestamp BIGINT, run_uuid TEXT, step BIGINT, is_nan BOOLEAN);
CREATE TABLE tags (key TEXT, value TEXT, run_uuid TEXT);
CREATE TABLE logged_models (model_id TEXT, experiment_id INTEGER, artifact_location TEXT);
"""


def versions(root: Path) -> list[dict[str, Any]]:
    """Four versions of three models."""
    runs = root / "artifacts"
    return [
        {"name": "adapter", "version": 1, "stage": "Archived", "run": "a" * 32, "source": f"runs:/{'a' * 32}/model"},
        {
            "name": "adapter",
            "version": 2,
            "stage": "Production",
            "run": "b" * 32,
            "source": f"{runs}/{'b' * 32}/artifacts/model",
        },
        {"name": "logged", "version": 1, "stage": "None", "run": "b" * 32, "source": "models:/m-12ab"},
        {
            "name": 'weird name, "quoted" #x',
            "version": 1,
            "stage": "None",
            "run": "c" * 32,
            "source": "s3://u:p@b/model",
        },
    ]


def write_adapter(folder: Path, config: dict[str, Any] = PEFT) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    save_file({"lora_A": numpy.ones((2, 2), numpy.float32)}, folder / "adapter_model.safetensors")
    (folder / "adapter_config.json").write_text(json.dumps(config))


def write_artifacts(root: Path) -> None:
    write_adapter(root / "artifacts" / ("b" * 32) / "artifacts" / "model")
    logged = root / "artifacts" / "models" / "m-12ab" / "artifacts"
    write_adapter(logged / "artifacts" / "adapter", PEFT | {"r": 2})
    (logged / "MLmodel").write_text("flavors: {}\n")
    (logged / "python_model.pkl").write_bytes(b"\x80\x04N.")


def sqlite_store(root: Path) -> Path:
    write_artifacts(root)
    connection = sqlite3.connect(root / "mlflow.db")
    connection.executescript(SCHEMA)
    insert = connection.execute
    for name in dict.fromkeys(row["name"] for row in versions(root)):
        text = DESCRIPTION if name == "adapter" else None
        insert("INSERT INTO registered_models VALUES (?, 1, 1, ?, 'default')", (name, text))
    for row in versions(root):
        insert(
            "INSERT INTO model_versions VALUES (?, ?, 1000, NULL, ?, ?, ?, 'READY', ?, 'default')",
            (row["name"], row["version"], row["stage"], row["source"], row["run"], row["source"]),
        )
    insert("INSERT INTO registered_model_tags VALUES ('team', 'x', 'adapter', 'default')")
    insert("INSERT INTO model_version_tags VALUES ('task', 'classification', 'adapter', 1, 'default')")
    insert("INSERT INTO registered_model_aliases VALUES ('champion', 2, 'adapter', 'default')")
    location = str(root / "artifacts" / "models" / "m-12ab" / "artifacts")
    insert("INSERT INTO logged_models VALUES ('m-12ab', 1, ?)", (location,))
    for run, name in RUNS.items():
        uri = f"{root}/artifacts/{run}/artifacts"
        insert("INSERT INTO runs VALUES (?, ?, 'FINISHED', 'active', 1, 2, ?, 1)", (run, name, uri))
        insert("INSERT INTO tags VALUES ('mlflow.source.git.commit', 'abc', ?)", (run,))
        for key, value in PARAMS[run].items():
            insert("INSERT INTO params VALUES (?, ?, ?)", (key, value, run))
        for key, points in METRICS[run].items():
            for step, value in enumerate(points):
                is_nan = math.isnan(value)
                stored = 0.0 if is_nan else min(value, 1.7976931348623157e308)
                insert("INSERT INTO metrics VALUES (?, ?, ?, ?, ?, ?)", (key, stored, 100 + step, run, step, is_nan))
    connection.commit()
    connection.close()
    return root / "mlflow.db"


def _write(path: Path, content: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(content)


def _meta(path: Path, value: dict[str, Any]) -> None:
    _write(path, yaml.safe_dump(value, default_flow_style=False, allow_unicode=True))


def file_store(root: Path) -> Path:
    write_artifacts(root)
    mlruns = root / "mlruns"
    for run, name in RUNS.items():
        folder = mlruns / "1" / run
        uri = f"file://{root}/artifacts/{run}/artifacts"
        facts = {
            "artifact_uri": uri,
            "run_id": run,
            "run_name": name,
            "status": 3,
            "lifecycle_stage": "active",
            "tags": [],
        }
        _meta(folder / "meta.yaml", facts)
        _write(folder / "tags" / "mlflow.source.git.commit", "abc")
        for key, value in PARAMS[run].items():
            _write(folder / "params" / key, value)
        for key, points in METRICS[run].items():
            lines = [f"{100 + step} {value} {step}" for step, value in enumerate(points)]
            lines += [f"{line} m-12ab" for line in lines[:1]]  # as of a logged model
            _write(folder / "metrics" / key, "\n".join(lines) + "\n")
    location = str(root / "artifacts" / "models" / "m-12ab" / "artifacts")
    _meta(mlruns / "1" / "models" / "m-12ab" / "meta.yaml", {"model_id": "m-12ab", "artifact_location": location})
    for row in versions(root):
        folder = mlruns / "models" / row["name"]
        is_first = row["name"] == "adapter"
        aliases = {"champion": "2"} if is_first else {}
        facts = {"name": row["name"], "description": DESCRIPTION if is_first else None, "workspace": "default"}
        _meta(folder / "meta.yaml", facts | {"aliases": aliases})
        for alias, number in aliases.items():
            _write(folder / "aliases" / alias, number)
        if is_first:
            _write(folder / "tags" / "team", "x")
        facts = {"name": row["name"], "version": row["version"], "current_stage": row["stage"], "source": row["source"]}
        facts |= {"run_id": row["run"], "status": "READY", "storage_location": row["source"], "user_id": None}
        _meta(
            folder / f"version-{row['version']}" / "meta.yaml",
            facts | {"creation_timestamp": 1000, "workspace": "default"},
        )
    _write(mlruns / "models" / "adapter" / "version-1" / "tags" / "task", "classification")
    return mlruns
