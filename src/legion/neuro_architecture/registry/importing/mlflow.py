"""MLflow's model registry, read without MLflow: from its SQLite database or its `mlruns` folder.

A version becomes a draft where it names an adapter: by PEFT's `adapter_config.json` among its artefacts, or by the
parameters that its run logged. Its metrics come in as claimed, with step and time; of each series only the last point.
"""

from __future__ import annotations

import math
import os
import re
import stat
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final
from urllib.parse import unquote, urlsplit

from legion.foundation.errors import InvalidValueError, LegionError
from legion.neuro_architecture.registry.importing.draft import Collector, ImportReport
from legion.neuro_architecture.registry.importing.lora_words import config_of_params, config_of_peft
from legion.neuro_architecture.registry.importing.mlflow_files import FileStore
from legion.neuro_architecture.registry.importing.mlflow_sqlite import SqliteStore
from legion.neuro_architecture.registry.importing.mlflow_values import (
    MlflowModel,
    MlflowRun,
    MlflowStore,
    MlflowVersion,
)
from legion.neuro_architecture.registry.plain_json import parse_plain_json
from legion.neuro_architecture.registry.regular import open_regular

__all__ = ["read_mlflow"]

_CONFIG: Final = "adapter_config.json"
_WEIGHTS: Final = "adapter_model.safetensors"
_MOST_FILES: Final = 10_000
_RUNS: Final = re.compile(r"runs:/+([A-Za-z0-9_-]+)(?:/(.*))?")
_LOGGED: Final = re.compile(r"models:/+(m-[A-Za-z0-9_-]+)(?:/(.*))?")
_PROXIED: Final = re.compile(r"mlflow-artifacts:(?://[^/]*)?/+(.*)")
_STAGES: Final = ("staging", "production", "archived")
_DELETED: Final = "Deleted_Internal"
_MAX_CONFIG_BYTES: Final = 1 << 20
_NOTE: Final = "claimed by the run in MLflow; not measured here"


def read_mlflow(location: Path | str, *, artifacts: Path | None = None, model: str | None = None) -> ImportReport:
    """Drafts of the model versions in a store of MLflow, by model and version.

    Args:
        location: The database (`mlflow.db`, `sqlite:///mlflow.db`), the `mlruns` folder, or a folder with either.
        artifacts: Where a tracking server kept its artefacts (`mlflow-artifacts:/`), where it kept any.
        model: Only this model; its aliases cannot meet those of others then.

    Raises:
        InvalidValueError: there is no such store.
    """
    store = _open(location)
    try:
        collector = Collector(str(location))
        models = store.models(collector.skip)
        if model is not None:
            models = [found for found in models if found.name == model]
            if not models:
                raise InvalidValueError(f"no model {model!r} is in {location}")
        shared = Counter(alias for found in models for version in found.versions for alias in version.aliases)
        for found in models:
            if not found.versions:
                collector.skip(f"model {found.name!r}", "it has no versions")
            for version in found.versions:
                _Version(store, found, version, collector, artifacts, shared).take()
        return collector.report()
    finally:
        store.close()


def _open(location: Path | str) -> MlflowStore:
    text = str(location)
    path = (
        Path(text.removeprefix("sqlite:///")) if text.startswith("sqlite:///") else Path(text.removeprefix("file://"))
    )
    if path.is_dir():
        inside = next((path / name for name in ("mlflow.db", "mlruns") if (path / name).exists()), None)
        if (path / "models").is_dir() or inside is None:
            return FileStore(path)
        path = inside
    if path.is_dir():
        return FileStore(path)
    try:
        return SqliteStore(path)
    except (OSError, LegionError) as error:
        if isinstance(error, InvalidValueError):
            raise
        raise InvalidValueError(f"there is no store of MLflow at {location}", cause=str(error)) from error


class _Version:
    """One version on its way to a draft."""

    def __init__(
        self,
        store: MlflowStore,
        model: MlflowModel,
        version: MlflowVersion,
        collector: Collector,
        artifacts: Path | None,
        shared: Mapping[str, int],
    ) -> None:
        self._store = store
        self._model = model
        self._version = version
        self._collector = collector
        self._artifacts = artifacts
        self._shared = shared
        self._origin = f"model {model.name!r} version {version.version}"

    def _skip(self, part: str, reason: str | LegionError) -> None:
        self._collector.skip(f"{self._origin}{part}", reason)

    def take(self) -> None:
        version = self._version
        if version.stage == _DELETED or (version.status or "READY") != "READY":
            self._skip("", f"it is not ready: stage {version.stage}, status {version.status}")
            return
        run = self._run()
        try:
            files, peft = self._files(run)
            config, assumed = self._config(run, peft)
        except (LegionError, ValueError, OSError) as error:
            self._skip("", error if isinstance(error, LegionError) else str(error))
            return
        self._collector.add(
            self._origin,
            version=f"{self._model.name}/{version.version}",
            config=config,
            metrics=self._metrics(run),
            provenance=self._provenance(run, peft, assumed),
            tags=self._tags(),
            aliases=self._aliases(),
            files=files,
        )

    def _run(self) -> MlflowRun:
        run_id = self._version.run_id
        run = self._store.run(run_id, self._collector.skip) if run_id else None
        if run is None:
            self._skip(", run", f"run {run_id} is not in the store" if run_id else "it names no run")
        return run or MlflowRun(run_id=run_id or "")

    def _config(self, run: MlflowRun, peft: dict[str, Any] | None) -> tuple[dict[str, Any], dict[str, Any]]:
        if peft is None:
            return config_of_params(run.params)
        config = config_of_peft(peft)
        try:
            logged, _ = config_of_params(run.params)
        except LegionError:
            return config, {}
        others = {word: value for word, value in logged.items() if word in config and config[word] != value}
        if others:
            self._skip(", params", f"its run logged {others}; {_CONFIG} says otherwise and counts")
        return config, {}

    def _files(self, run: MlflowRun) -> tuple[dict[str, Path], dict[str, Any] | None]:
        """The adapter's files, and what PEFT's config says."""
        folder = self._folder(run)
        if folder is None:
            return {}, None
        found = _regular_files(folder)
        places = [path.parent for path in found if path.name == _CONFIG] or [folder]
        if len(places) > 1:
            raise InvalidValueError(f"{len(places)} of its artefacts are called {_CONFIG}", cause="which one is meant?")
        files = {path.name: path for path in found if path.parent == places[0] and path.name in {_CONFIG, _WEIGHTS}}
        others = [path.relative_to(folder).as_posix() for path in found if path not in files.values()]
        if others:
            more = f" and {len(others) - 10} more" if len(others) > 10 else ""
            self._skip(", artefacts", f"not taken over: {', '.join(others[:10])}{more}")
        if _CONFIG not in files:
            return files, None
        with open_regular(files[_CONFIG]) as (file, size):
            if size > _MAX_CONFIG_BYTES:
                raise InvalidValueError(f"its {_CONFIG} has {size} bytes; at most {_MAX_CONFIG_BYTES} are read")
            peft = parse_plain_json(file.read(), f"its {_CONFIG}")
        if not isinstance(peft, dict):
            raise InvalidValueError(f"its {_CONFIG} is no object")
        return files, peft

    def _folder(self, run: MlflowRun) -> Path | None:
        """Where the artefacts lie on this machine, or None, noted, where they do not."""
        told = [place for place in (self._version.storage_location, self._version.source) if place]
        problems = [] if told else ["it names no place"]
        for place in dict.fromkeys(told):
            try:
                folder = self._resolve(place, run)
            except InvalidValueError as error:
                problems.append(error.message)
                continue
            if folder.is_dir():
                return folder
            problems.append(f"there is no {folder}")
        self._skip(", artefacts", "; ".join(problems))
        return None

    def _resolve(self, place: str, run: MlflowRun) -> Path:
        named = _RUNS.fullmatch(place)
        if named:
            of = run if named[1] == run.run_id else self._store.run(named[1], self._collector.skip)
            return self._below(of.artifact_uri if of else None, named[2], place)
        logged = _LOGGED.fullmatch(place)
        if logged:
            return self._below(self._store.logged_model_location(logged[1]), logged[2], place)
        proxied = _PROXIED.fullmatch(place)
        if proxied:
            if self._artifacts is None:
                raise InvalidValueError(f"{place} is kept by a tracking server: name its folder of artefacts")
            return _inside(self._artifacts, unquote(proxied[1]))
        parts = urlsplit(place) if "://" in place or place.startswith("file:") else None
        if parts is None:
            return Path(place)
        if parts.scheme != "file" or parts.netloc not in {"", "localhost"}:
            raise InvalidValueError(
                f"{parts.scheme}://{parts.hostname or ''}... is no folder of this machine: fetch it"
            )
        return Path(unquote(parts.path))

    def _below(self, base: str | None, inner: str | None, place: str) -> Path:
        if base is None or _RUNS.fullmatch(base) or _LOGGED.fullmatch(base):
            raise InvalidValueError(f"{place} leads nowhere in this store")
        folder = self._resolve(base, MlflowRun(run_id=""))
        return _inside(folder, inner) if inner else folder

    def _metrics(self, run: MlflowRun) -> dict[str, Any]:
        claimed = {}
        for key, metric in sorted(run.metrics.items()):
            if math.isfinite(metric.value):
                claimed[key] = {
                    "value": metric.value,
                    "step": metric.step,
                    "timestamp_ms": metric.timestamp_ms,
                    "num_points": metric.num_points,
                }
            else:
                self._skip(f", metric {key!r}", f"its last value is {metric.value}, which is no measurement")
        return {"claimed": claimed} if claimed else {}

    def _provenance(self, run: MlflowRun, peft: dict[str, Any] | None, assumed: dict[str, Any]) -> dict[str, Any]:
        version = self._version
        told: dict[str, Any] = {
            "kind": "mlflow",
            "identity": f"{version.workspace or 'default'}/{version.model}/{version.version}",
            "model": version.model,
            "version": version.version,
            "workspace": version.workspace,
            "run_id": version.run_id,
            "source": version.source,
            "stage": version.stage,
            "description": version.description,
            "created_ms": version.created_ms,
            "model_description": self._model.description,
            "model_tags": dict(self._model.tags),
            "version_tags": dict(version.tags),
            "assumed": assumed,
            "metrics": _NOTE,
        }
        provenance: dict[str, Any] = {
            "imported_from": {word: value for word, value in told.items() if value not in (None, {}, "")}
        }
        provenance |= {"run": {**run.facts, "tags": dict(run.tags)}} if run.facts or run.tags else {}
        provenance |= {"params": dict(run.params)} if run.params else {}
        commit = run.tags.get("mlflow.source.git.commit")
        provenance |= {"commit": commit} if commit else {}
        base = (peft or {}).get("base_model_name_or_path")
        return provenance | ({"base_claimed": base} if isinstance(base, str) else {})

    def _tags(self) -> list[str]:
        stage = (self._version.stage or "").lower()
        labels = [stage] if stage in _STAGES else []
        for key, value in sorted({**self._model.tags, **self._version.tags}.items()):
            if not key.startswith("mlflow."):
                labels.append(f"{key}:{value}" if value else key)
        return labels

    def _aliases(self) -> list[str]:
        own = [alias for alias in self._version.aliases if self._shared[alias] == 1]
        for alias in self._version.aliases:
            if self._shared[alias] > 1:
                self._skip(f", alias {alias!r}", "more than one model has it: import one model at a time")
        return own


def _inside(folder: Path, name: str) -> Path:
    """`folder / name` without climbing out by its words."""
    parts = [part for part in name.split("/") if part]
    if any(part in {".", ".."} or "\0" in part for part in parts) or name.startswith("/"):
        raise InvalidValueError(f"{name[:80]!r} climbs out of {folder}")
    return folder.joinpath(*parts)


def _regular_files(folder: Path) -> list[Path]:
    """Every regular file below; no link is followed.

    Raises:
        InvalidValueError: there are so many that this is no folder of one model.
    """
    found: list[Path] = []
    for place, folders, names in os.walk(folder):
        paths = [Path(place) / name for name in sorted(names)]
        found += [path for path in paths if stat.S_ISREG(path.lstat().st_mode)]
        folders.sort()
        if len(found) > _MOST_FILES:
            raise InvalidValueError(f"{folder} holds more than {_MOST_FILES} files", cause="that is not one model's")
    return found
