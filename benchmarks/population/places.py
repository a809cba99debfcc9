"""Where a unit works: a workspace and a home of its own, with the same rows of data for every system."""

from __future__ import annotations

import json
import shutil
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Final

from benchmarks.population.workloads import Workload

from legion.foundation.rng import RandomStream
from legion.foundation.settings import Settings
from legion.neuro_architecture.data.base_models import resolve_base
from legion.neuro_architecture.data.datasets import DataSet, rows_digest
from legion.neuro_architecture.data.prepare import prepare_data
from legion.neuro_architecture.data.task_files import TASK_FILE, write_task
from legion.neuro_architecture.records import ProposalStore
from legion.neuro_architecture.spec.proposal import ArchitectureProposal, CostEstimate, RiskAssessment, RiskFactor

__all__ = ["Outcome", "Place", "make_place", "store_proposals", "write_rows"]

# What a unit finds in its home. Whatever else it keeps there, a cache of activations above all, dies with the unit.
_SHARED: Final = ("assets", "converted", "digests")


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """A unit's folder and settings.

    Attributes:
        settings: Workspace and home inside the folder.
        data: Folder with the workload's rows.
    """

    settings: Settings
    data: Path

    @property
    def workspace(self) -> Path:
        return self.settings.workspace


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """What a system found: proof that all did the same work.

    Attributes:
        losses: Validation loss of each trial.
        accuracies: Validation accuracy of each trial, where it was measured.
        trial_s: Seconds of each trial, where they run one by one.
        record: What the system says of itself.
    """

    losses: list[float]
    accuracies: list[float]
    trial_s: list[float] = field(default_factory=list)
    record: dict[str, Any] = field(default_factory=dict)


def make_place(folder: Path, workload: Workload, *, threads: int, home: Path, device: str = "cpu") -> Place:
    """A fresh place below `folder`, with the data that `write_rows` left beside it."""
    workspace, own_home = folder / "workspace", folder / "home"
    workspace.mkdir(parents=True)
    own_home.mkdir()
    for name in _SHARED:
        if (home / name).exists():
            (own_home / name).symlink_to((home / name).resolve())
    for path in home.glob("*.json"):
        shutil.copy(path, own_home / path.name)
    settings = replace(Settings.load(workspace=workspace), home=own_home, threads=threads, device=device)
    return Place(settings=settings, data=rows_folder(folder.parent, workload))


def rows_folder(root: Path, workload: Workload) -> Path:
    """Where the rows of a workload lie."""
    return root / "rows" / f"{workload.data}-{workload.num_train}-{workload.num_validation}"


def write_rows(root: Path, workload: Workload, settings: Settings) -> Path:
    """Drawn rows of the prepared data set: as many for training and validation as the workload asks, and few to test.

    Raises:
        ValueError: the data set has fewer.
    """
    folder = rows_folder(root, workload)
    if folder.is_dir():
        return folder
    (data,) = prepare_data(settings, [workload.data])
    wanted = {"train": workload.num_train, "validation": workload.num_validation, "test": 8}
    splits = {name: _draw(data, name, count) for name, count in wanted.items()}
    folder.mkdir(parents=True)
    spec = data.spec
    for name, rows in splits.items():
        lines = [{"id": row.id, spec.text_column: row.text, spec.target_column: row.target} for row in rows]
        text = "".join(json.dumps(line, ensure_ascii=False) + "\n" for line in lines)
        (folder / f"{name}.jsonl").write_text(text, encoding="utf-8")
    bare = {name: tuple(replace(row, group=None) for row in rows) for name, rows in splits.items()}
    write_task(folder / TASK_FILE, spec.model_copy(update={"digest": rows_digest(bare), "group_column": None}))
    return folder


def _draw(data: DataSet, name: Any, count: int) -> list[Any]:
    rows = data.split(name)
    if len(rows) < count:
        raise ValueError(f"{data.folder.name} has {len(rows)} rows to {name}, not {count}: ask for fewer steps")
    return RandomStream(0).child("benchmark").child(name).random().sample(rows, count)


def store_proposals(workload: Workload, settings: Settings) -> list[str]:
    """The workload's trials as stored proposals; their ids in order."""
    base = resolve_base(workload.base, settings).reference
    kind = "summarization" if workload.data == "task_small" else "classification"
    store, ids = ProposalStore(settings), []
    for trial in workload.trials:
        proposal = ArchitectureProposal(
            id=ArchitectureProposal.id_of(workload.data, base, trial.architecture, trial.recipe),
            task=workload.data,
            task_kind=kind,
            base=base,
            architecture=trial.architecture,
            training=trial.recipe,
            estimate=_NO_ESTIMATE,
            risk=_NO_RISK,
            seed=0,
        )
        store.save(proposal)
        ids.append(proposal.id)
    return ids


# A proposal must carry both; nothing that is measured here reads them.
_NO_ESTIMATE: Final = CostEstimate(
    trainable_parameters=0,
    adapter_size_bytes=0,
    expected_flops=0.0,
    expected_base_flops=0.0,
    expected_latency_ms=0.0,
    sequence_length=1,
)
_NO_RISK: Final = RiskAssessment(
    score=0.0, factors=(RiskFactor(name="none", share=0.0, weight=1.0, explanation="a benchmark ships nothing"),)
)
