"""What a call of `train` does about the run folder it finds."""

from __future__ import annotations

import logging
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from legion.foundation.files import fsync_folder
from legion.foundation.settings import Settings
from legion.neuro_architecture.records import RunFolder
from legion.neuro_architecture.spec.training import TrainingMetrics, TrialEvent, TrialState, transition
from legion.neuro_architecture.trainer.checkpoint import Checkpoint, read_checkpoint, remove_leftovers

__all__ = ["Beginning", "find_beginning", "move_aside"]

REPLACED: Final = Path("artifacts") / "proxy_runs_replaced"
_LOGGER = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class Beginning:
    """Where training begins.

    Attributes:
        stored: Metrics that already answer the call, or None.
        checkpoint: Where to continue, or None to start at step 0.
        is_replacing: Whether what lies in the run folder belongs to another trial and moves aside first.
        found: Metrics and record of the trial that goes on, or None.
        losses: Validation losses of a stored trial, by step.
    """

    stored: TrainingMetrics | None = None
    checkpoint: Checkpoint | None = None
    is_replacing: bool = False
    found: tuple[TrainingMetrics, dict[str, Any]] | None = None
    losses: dict[int, float] = field(default_factory=dict)


def find_beginning(run: RunFolder, identity: dict[str, Any], steps: int) -> Beginning:
    """Reads the run folder and decides. Call under the run's lock.

    | found | asked for the same steps | for more | for fewer than done |
    |---|---|---|---|
    | completed | its metrics | extend | anew |
    | failed | its metrics | anew | anew |
    | interrupted, paused, stopped, or running (killed) | resume | resume, extended | anew |

    Other data, seed or config: anew. Anew moves the old folder aside.
    """
    if not run.metrics_path.is_file():
        return Beginning(is_replacing=run.path.exists())
    metrics, record = run.read_metrics()
    if record.get("identity") != identity:
        return Beginning(is_replacing=True)
    if record.get("steps") == steps and _is_final(metrics, run):
        losses = {item["step"]: item["loss"] for item in record.get("validations", ())}
        return Beginning(stored=metrics, losses=losses)
    if metrics.state is TrialState.FAILED:
        return Beginning(is_replacing=True)
    return _continuation(run, metrics, record, identity, steps)


def _is_final(metrics: TrainingMetrics, run: RunFolder) -> bool:
    is_complete = metrics.state is TrialState.COMPLETED and run.adapter_folder.is_dir()
    return is_complete or metrics.state is TrialState.FAILED


def _continuation(
    run: RunFolder, metrics: TrainingMetrics, record: dict[str, Any], identity: dict[str, Any], steps: int
) -> Beginning:
    state = metrics.state
    remove_leftovers(run.path)
    checkpoint = read_checkpoint(run.checkpoint_folder)
    if checkpoint is None:
        return Beginning(is_replacing=state is TrialState.COMPLETED)
    if checkpoint.identity != identity or checkpoint.progress.step > steps:
        return Beginning(is_replacing=True)
    transition(state, TrialEvent.EXTEND if state is TrialState.COMPLETED else TrialEvent.RESUME)
    return Beginning(checkpoint=checkpoint, found=(metrics, record))


def move_aside(settings: Settings, run: RunFolder) -> Path:
    """Moves a run folder to `artifacts/proxy_runs_replaced/<id>-<n>` and returns that folder."""
    shelf = settings.workspace / REPLACED
    shelf.mkdir(parents=True, exist_ok=True)
    number = 1
    while (target := shelf / f"{run.path.name}-{number}").exists():
        number += 1
    run.path.rename(target)
    fsync_folder(shelf)
    fsync_folder(run.path.parent)
    _LOGGER.info("run folder moved aside", extra={"run": str(run.path), "target": str(target)})
    return target
