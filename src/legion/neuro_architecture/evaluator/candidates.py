"""Which runs are compared: those that left an adapter, on the same base and the same data."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from legion.foundation.canonical import short
from legion.foundation.errors import UsageError
from legion.foundation.settings import Settings
from legion.neuro_architecture.records import RunFolder, find_metrics_files
from legion.neuro_architecture.spec.architecture import strategy_names
from legion.neuro_architecture.spec.proposal import BaseReference
from legion.neuro_architecture.spec.training import TrialState

__all__ = ["Candidate", "CommonGround", "find_common_ground", "read_candidates"]

_NEEDED: Final = ("base", "data_path", "data_digest")
# A trial that was stopped at a rung left the adapter that it had there: it can be measured, and is no winner.
_WITH_ADAPTER: Final = (TrialState.COMPLETED, TrialState.STOPPED)


@dataclass(frozen=True, slots=True, kw_only=True)
class Candidate:
    """One run to be compared.

    Attributes:
        proposal_id: Its proposal.
        folder: Its run folder.
        run: The folder as it is written in records: relative to the workspace where it lies inside.
        strategy: Its family, from the record, or where that is lost from the id.
        state: How its trial ended.
        record: What the trainer wrote of the run.
        reason: Why it cannot be measured, or None.
    """

    proposal_id: str
    folder: RunFolder
    run: str
    strategy: str
    state: TrialState
    record: dict[str, Any]
    reason: str | None


@dataclass(frozen=True, slots=True)
class CommonGround:
    """What all measured candidates share, so that they may be compared."""

    base: BaseReference
    data_folder: Path
    data_digest: str


def read_candidates(patterns: Sequence[str | Path], settings: Settings) -> list[Candidate]:
    """The runs that `patterns` name, usable or not.

    Raises:
        UsageError: a pattern names no run, a file cannot be read, or the record of a run that would be measured lacks
            what is needed; lists every such run.
    """
    candidates = [_read(path, settings.workspace) for path in find_metrics_files(patterns, settings.workspace)]
    mistakes = [
        f"{candidate.run}: the record lacks {', '.join(missing)}"
        for candidate in candidates
        if candidate.reason is None and (missing := [name for name in _NEEDED if not candidate.record.get(name)])
    ]
    if mistakes:
        raise UsageError("runs without a full record cannot be compared", cause="\n".join(mistakes))
    return candidates


def _read(path: Path, workspace: Path) -> Candidate:
    folder = RunFolder(path.parent)
    metrics, record = folder.read_metrics()
    reason = None
    if metrics.state not in _WITH_ADAPTER:
        reason = f"the trial is {metrics.state.value}" + (f": {metrics.reason}" if metrics.reason else "")
    elif not folder.adapter_folder.is_dir():
        reason = "the run folder has no adapter"
    inside = folder.path.is_relative_to(workspace)
    return Candidate(
        proposal_id=metrics.proposal_id,
        folder=folder,
        run=str(folder.path.relative_to(workspace) if inside else folder.path),
        strategy=record.get("strategy") or _strategy(metrics.proposal_id),
        state=metrics.state,
        record=record,
        reason=reason,
    )


def _strategy(proposal_id: str) -> str:
    """The family that an id begins with (`lora-0123456789ab`)."""
    prefix = proposal_id.partition("-")[0].lower()
    return next((name for name in strategy_names() if name.lower() == prefix), "unknown")


def find_common_ground(candidates: Sequence[Candidate], settings: Settings) -> CommonGround:
    """The base and the data of all usable candidates.

    Raises:
        UsageError: none is usable, or they differ in base or data; names the runs on each side.
    """
    usable = [candidate for candidate in candidates if candidate.reason is None]
    if not usable:
        raise UsageError(
            "no run can be evaluated",
            cause="\n".join(f"{candidate.run}: {candidate.reason}" for candidate in candidates),
            hint="train one to its end: legion train --proposal ID --data DIR --steps N",
        )
    bases = {
        candidate.run: BaseReference.parse(candidate.record["base"], what=f"base of {candidate.run}")
        for candidate in usable
    }
    _refuse_mixture("base models", {run: f"{base.name} {short(base.digest)}" for run, base in bases.items()})
    _refuse_mixture(
        "data sets",
        {
            candidate.run: f"{candidate.record['data_path']} {short(candidate.record['data_digest'])}"
            for candidate in usable
        },
        by=lambda shown: shown.rpartition(" ")[2],
    )
    record = usable[0].record
    return CommonGround(bases[usable[0].run], settings.workspace / record["data_path"], record["data_digest"])


def _refuse_mixture(what: str, seen: dict[str, str], by: Any = lambda shown: shown) -> None:
    groups: dict[str, list[str]] = {}
    for run, shown in seen.items():
        groups.setdefault(by(shown), []).append(f"{shown}: {run}")
    if len(groups) > 1:
        raise UsageError(
            f"runs on different {what} cannot be compared",
            cause="\n".join(line for lines in groups.values() for line in lines),
            hint="evaluate the runs of one base and one data set at a time",
        )
