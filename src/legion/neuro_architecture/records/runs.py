"""Run folders under `artifacts/proxy_runs/<id>/`: what a trial leaves behind."""

from __future__ import annotations

import glob
from collections.abc import Iterable
from pathlib import Path
from typing import Any, Final, final

from legion.foundation.errors import UsageError
from legion.foundation.files import confine, read_json, write_json
from legion.foundation.settings import Settings
from legion.neuro_architecture.spec.standing import Standing
from legion.neuro_architecture.spec.training import TrainingMetrics

__all__ = ["RunFolder", "find_metrics_files"]

FOLDER: Final = Path("artifacts") / "proxy_runs"


@final
class RunFolder:
    """The files of one trial.

    `metrics.json` is the trial's last word; `record` inside it says what was trained on what. `adapter/` holds the
    best adapter, `checkpoint/` what a killed trial resumes from, `curve.jsonl` the learning curve, `rungs/` how the
    trial stood where trials were compared.

    Args:
        path: The folder; it need not exist yet.
    """

    def __init__(self, path: Path) -> None:
        self.path = path

    @classmethod
    def of(cls, settings: Settings, proposal_id: str) -> RunFolder:
        """The run folder of a proposal in this workspace."""
        return cls(confine(settings.workspace / FOLDER, proposal_id))

    @property
    def metrics_path(self) -> Path:
        return self.path / "metrics.json"

    @property
    def adapter_folder(self) -> Path:
        return self.path / "adapter"

    @property
    def checkpoint_folder(self) -> Path:
        return self.path / "checkpoint"

    @property
    def curve_path(self) -> Path:
        return self.path / "curve.jsonl"

    def write_standing(self, standing: Standing) -> None:
        """Writes how the trial stood at a rung."""
        write_json(self._standing_path(standing.step), standing.to_dict())

    def read_standing(self, step: int) -> Standing | None:
        """How the trial stood at a rung; None where it did not look there."""
        path = self._standing_path(step)
        return Standing.parse(read_json(path), what=str(path)) if path.is_file() else None

    def standings(self) -> list[Standing]:
        """How the trial stood at each rung it came to, earliest first."""
        steps = sorted(int(path.stem) for path in (self.path / "rungs").glob("*.json") if path.stem.isdecimal())
        return [found for step in steps if (found := self.read_standing(step)) is not None]

    def _standing_path(self, step: int) -> Path:
        return self.path / "rungs" / f"{step}.json"

    def write_metrics(self, metrics: TrainingMetrics, record: dict[str, Any]) -> None:
        """Writes `metrics.json`: flat numbers, units, reasons, and the record of the run."""
        write_json(self.metrics_path, metrics.to_flat() | {"record": record})

    def read_metrics(self) -> tuple[TrainingMetrics, dict[str, Any]]:
        """The metrics and the record.

        Raises:
            UsageError: there is no readable `metrics.json`.
            InvalidValueError: a field is wrong.
        """
        data = read_json(self.metrics_path)
        if not isinstance(data, dict):
            raise UsageError(f"{self.metrics_path} holds no object")
        return TrainingMetrics.from_flat(data), data.get("record") or {}


def find_metrics_files(patterns: Iterable[str | Path], workspace: Path) -> list[Path]:
    """The `metrics.json` files that files, run folders or glob patterns name, sorted and without repeats.

    Raises:
        UsageError: a pattern names nothing that has a `metrics.json`; says which.
    """
    found: set[Path] = set()
    for pattern in map(str, patterns):
        matches = [Path(name) for name in glob.glob(str(workspace / pattern))]  # noqa: PTH207 - may be absolute
        files = [path / "metrics.json" if path.is_dir() else path for path in matches]
        files = [path for path in files if path.name == "metrics.json" and path.is_file()]
        if not files:
            raise UsageError(
                f"no metrics.json at {pattern!r}",
                cause=f"{len(matches)} folders or files match it",
                hint="train first: legion train --proposal ID --data DIR --steps N",
            )
        found.update(path.resolve() for path in files)
    return sorted(found)
