"""MLflow's file store: `mlruns/<experiment>/<run>/`, `mlruns/models/<name>/version-N/`, small text files."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Final, final

from legion.foundation.errors import IntegrityError, InvalidValueError
from legion.neuro_architecture.registry.importing.flat_yaml import FlatValue, parse_flat_yaml
from legion.neuro_architecture.registry.importing.mlflow_values import (
    MlflowMetric,
    MlflowModel,
    MlflowRun,
    MlflowVersion,
    Skip,
)
from legion.neuro_architecture.registry.regular import open_regular

__all__ = ["FileStore"]

_MAX_FILE_BYTES: Final = 16 << 20
_NAME: Final = re.compile(r"[A-Za-z0-9_-]{1,64}")
_VERSION: Final = re.compile(r"version-(\d{1,9})")
_RUN_FACTS: Final = ("run_name", "status", "lifecycle_stage", "user_id", "source_version", "start_time", "end_time")


@final
class FileStore:
    """An `mlruns` folder.

    Args:
        root: The folder.

    Raises:
        InvalidValueError: it has no `models` folder.
    """

    def __init__(self, root: Path) -> None:
        self._root = root
        if not (root / "models").is_dir():
            raise InvalidValueError(f"{root} is no store of MLflow with models", cause=f"there is no {root / 'models'}")

    def close(self) -> None:
        """Nothing is open between two calls."""

    def models(self, skip: Skip) -> list[MlflowModel]:
        found = []
        for folder in _folders(self._root / "models"):
            try:
                meta = _meta(folder / "meta.yaml")
            except (ValueError, OSError, IntegrityError) as error:
                skip(f"model {folder.name!r}", f"its meta.yaml cannot be read: {error}")
                continue
            found.append(
                MlflowModel(
                    name=_word(meta, "name") or folder.name,
                    workspace=_word(meta, "workspace"),
                    tags=_texts(folder / "tags", skip),
                    description=_word(meta, "description"),
                    versions=tuple(self._versions(folder, meta, skip)),
                )
            )
        return found

    def _versions(self, folder: Path, meta: dict[str, FlatValue], skip: Skip) -> Iterator[MlflowVersion]:
        aliases = _texts(folder / "aliases", skip)
        numbered = sorted(
            (int(match[1]), path) for path in _folders(folder) if (match := _VERSION.fullmatch(path.name)) is not None
        )
        for number, path in numbered:
            try:
                facts = _meta(path / "meta.yaml")
            except (ValueError, OSError, IntegrityError) as error:
                skip(f"model {folder.name!r} version {number}", f"its meta.yaml cannot be read: {error}")
                continue
            yield MlflowVersion(
                model=_word(meta, "name") or folder.name,
                version=number,
                workspace=_word(facts, "workspace"),
                source=_word(facts, "source"),
                storage_location=_word(facts, "storage_location"),
                run_id=_word(facts, "run_id"),
                stage=_word(facts, "current_stage"),
                status=_word(facts, "status"),
                description=_word(facts, "description"),
                created_ms=_whole(_word(facts, "creation_timestamp")),
                tags=_texts(path / "tags", skip),
                aliases=tuple(sorted(alias for alias, text in aliases.items() if text.strip() == str(number))),
            )

    def run(self, run_id: str, skip: Skip) -> MlflowRun | None:
        folder = self._find(run_id)
        if folder is None:
            return None
        meta: dict[str, FlatValue] = {}
        try:
            meta = _meta(folder / "meta.yaml")
        except (ValueError, OSError, IntegrityError) as error:
            skip(f"run {run_id}", f"its meta.yaml cannot be read: {error}")
        texts = {kind: _texts(folder / kind, skip) for kind in ("params", "tags", "metrics")}
        metrics = {}
        for key, text in texts["metrics"].items():
            metric = _metric(text)
            if metric is None:
                skip(f"run {run_id}, metric {key!r}", "a line of it is no point")
            else:
                metrics[key] = metric
        return MlflowRun(
            run_id=run_id,
            artifact_uri=_word(meta, "artifact_uri"),
            facts={word: value for word in _RUN_FACTS if (value := _word(meta, word))},
            params=texts["params"],
            metrics=metrics,
            tags=texts["tags"],
        )

    def _find(self, name: str, *between: str) -> Path | None:
        """The folder of a run or a logged model, in whichever experiment."""
        if not _NAME.fullmatch(name):
            return None
        places = (experiment.joinpath(*between, name) for experiment in _folders(self._root))
        return next((place for place in places if place.is_dir() and not place.is_symlink()), None)

    def logged_model_location(self, model_id: str) -> str | None:
        folder = self._find(model_id, "models")
        if folder is None:
            return None
        try:
            return _word(_meta(folder / "meta.yaml"), "artifact_location") or str(folder / "artifacts")
        except (ValueError, OSError, IntegrityError):
            return str(folder / "artifacts")


def _folders(folder: Path) -> list[Path]:
    return sorted(path for path in folder.iterdir() if path.is_dir() and not path.is_symlink())


def _read(path: Path) -> str:
    with open_regular(path) as (file, size):
        if size > _MAX_FILE_BYTES:
            raise ValueError(f"it has {size} bytes; at most {_MAX_FILE_BYTES} are read")
        return file.read().decode("utf-8")


def _meta(path: Path) -> dict[str, FlatValue]:
    return parse_flat_yaml(_read(path))


def _texts(folder: Path, skip: Skip) -> dict[str, str]:
    """File name to text; MLflow's keys may hold `/`, which makes folders."""
    texts = {}
    for path in sorted(folder.rglob("*")) if folder.is_dir() else ():
        if path.is_dir() and not path.is_symlink():
            continue
        name = path.relative_to(folder).as_posix()
        try:
            texts[name] = _read(path)
        except (ValueError, OSError, IntegrityError) as error:
            skip(f"{folder.parent.name}/{folder.name}/{name}", str(error))
    return texts


def _metric(text: str) -> MlflowMetric | None:
    """The last point of `timestamp value step` lines; older ones have no step, those of logged models stand twice."""
    points = []
    for line in text.splitlines():
        words = line.split(" ")
        try:
            points.append((int(words[2]) if len(words) > 2 else 0, int(words[0]), float(words[1])))
        except (ValueError, IndexError):
            return None
    if not points:
        return None
    step, timestamp_ms, value = max(points, key=lambda point: point[:2])
    return MlflowMetric(value=value, step=step, timestamp_ms=timestamp_ms, num_points=len(set(points)))


def _word(meta: dict[str, FlatValue], key: str) -> str | None:
    value = meta.get(key)
    return value if isinstance(value, str) and value else None


def _whole(text: str | None) -> int | None:
    return int(text) if text is not None and re.fullmatch(r"-?\d{1,18}", text) else None
