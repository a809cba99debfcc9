"""What a model registry of MLflow holds, whichever of its stores keeps it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Protocol, final

__all__ = ["MlflowMetric", "MlflowModel", "MlflowRun", "MlflowStore", "MlflowVersion", "Skip"]

Skip = Callable[[str, str], None]


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class MlflowMetric:
    """The last point of a metric: of the largest step, then time. NaN and infinity are as the run logged them."""

    value: float
    step: int
    timestamp_ms: int
    num_points: int


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class MlflowRun:
    """What a run logged."""

    run_id: str
    artifact_uri: str | None = None
    facts: Mapping[str, str | int] = field(default_factory=dict)
    params: Mapping[str, str] = field(default_factory=dict)
    metrics: Mapping[str, MlflowMetric] = field(default_factory=dict)
    tags: Mapping[str, str] = field(default_factory=dict)


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class MlflowVersion:
    """One version of one model."""

    model: str
    version: int
    workspace: str | None = None
    source: str | None = None
    storage_location: str | None = None
    run_id: str | None = None
    stage: str | None = None
    status: str | None = None
    description: str | None = None
    created_ms: int | None = None
    tags: Mapping[str, str] = field(default_factory=dict)
    aliases: tuple[str, ...] = ()


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class MlflowModel:
    """A name and what is under it, oldest version first."""

    name: str
    workspace: str | None = None
    tags: Mapping[str, str] = field(default_factory=dict)
    description: str | None = None
    versions: tuple[MlflowVersion, ...] = ()


class MlflowStore(Protocol):
    """One of MLflow's stores, only read."""

    def models(self, skip: Skip) -> list[MlflowModel]:
        """All models by name; what cannot be read is told to `skip`."""

    def run(self, run_id: str, skip: Skip) -> MlflowRun | None:
        """The run, or None where the store has none of that name."""

    def logged_model_location(self, model_id: str) -> str | None:
        """Where the artefacts of a logged model (`m-...`) lie."""

    def close(self) -> None:
        """Lets go of what is open."""
