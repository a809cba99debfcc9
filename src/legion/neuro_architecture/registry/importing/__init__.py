"""Snapshots from elsewhere: the prototype's JSON files, this project's first registry, MLflow.

Every importer gives drafts and says what it left out and why; it writes nothing. What others call a measurement is
kept under `metrics["claimed"]`: we did not measure it.
"""

from legion.neuro_architecture.registry.importing.draft import Draft, ImportReport, Skipped
from legion.neuro_architecture.registry.importing.mlflow import read_mlflow
from legion.neuro_architecture.registry.importing.prototype import read_prototype
from legion.neuro_architecture.registry.importing.records import read_records

__all__ = ["Draft", "ImportReport", "Skipped", "read_mlflow", "read_prototype", "read_records"]
