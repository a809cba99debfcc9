"""What a snapshot asks for when it is trained anew, and whether this machine has it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final, final

from legion.foundation.canonical import short
from legion.foundation.errors import IntegrityError, RefusedError, UsageError
from legion.foundation.settings import Settings
from legion.neuro_architecture.data.base_models import BaseModel, embedded_bases, resolve_base
from legion.neuro_architecture.data.datasets import DataSet, read_data
from legion.neuro_architecture.evaluator import EvaluatorConfig
from legion.neuro_architecture.registry.facts import SnapshotFacts, facts_of
from legion.neuro_architecture.spec.architecture import parse_architecture
from legion.neuro_architecture.spec.proposal import ArchitectureProposal
from legion.neuro_architecture.spec.snapshot import ArchitectureSnapshot
from legion.neuro_architecture.trainer import TrainerConfig

__all__ = ["ReplayPlan", "Stretch", "plan_replay", "stretches"]

_NEEDED: Final[tuple[str, ...]] = (
    "base",
    "data_digest",
    "proposal_record",
    "steps",
    "seed",
    "trainer_config",
    "evaluation",
)
_AGAIN: Final = "register it anew: legion evaluate --runs artifacts/proxy_runs/*, then legion integrate"
# Of a run's record of how it was computed, what a setting of the same name decides.
_RESOLVED: Final = {"precision": ("float32", "bfloat16")}


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class Stretch:
    """A part of a training under one schedule.

    Attributes:
        steps: Of the whole schedule.
        until: Where it was left for a longer one, or its end.
        looks: Steps at which the trial stood at a rung.
    """

    steps: int
    until: int
    looks: tuple[int, ...]


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class ReplayPlan:
    """All that the training and the evaluation of a snapshot hang on, found on this machine.

    Attributes:
        proposal: What is trained, with the base under the name that it has here.
        base: The base model.
        data: The data set.
        seed: Of heads, adapter and dropout.
        config: How the trial was fed and watched.
        stretches: Its schedules, one after another.
        evaluator: Sizes of the evaluation's samples.
        evaluation_seed: What drew them.
        settings: Of this process, with the snapshot's threads and precision.
        facts: What else the snapshot says.
        notes: What a reader of the result has to know.
    """

    proposal: ArchitectureProposal
    base: BaseModel
    data: DataSet
    seed: int
    config: TrainerConfig
    stretches: tuple[Stretch, ...]
    evaluator: EvaluatorConfig
    evaluation_seed: int
    settings: Settings
    facts: SnapshotFacts
    notes: tuple[str, ...]


def plan_replay(
    snapshot: ArchitectureSnapshot, settings: Settings, *, data: Path | str | None = None, base: str | None = None
) -> ReplayPlan:
    """The plan; nothing is trained and nothing is written.

    Args:
        snapshot: What is to be trained anew.
        settings: Of this workspace.
        data: The data folder, where it is not where the snapshot says.
        base: The base model, where it has another name here.

    Raises:
        UsageError: the snapshot lacks something that is needed; lists everything.
        IntegrityError: what it says of itself does not fit together.
        RefusedError: base or data are not those that it was trained on.
        UnknownNameError, DataError, ModelError: base or data are not there, or broken.
    """
    facts = facts_of(snapshot)
    _refuse_gaps(snapshot, facts, data)
    proposal = _proposal(snapshot, facts)
    model = _base(settings, proposal, base)
    rows = read_data(settings.workspace / Path(data if data is not None else facts.get("data_path")))
    if rows.digest != facts.get("data_digest"):
        raise RefusedError(
            f"the data in {rows.folder} are not those that snapshot {short(snapshot.digest)} was trained on",
            cause=f"their digest is {rows.digest}, the snapshot's {facts.get('data_digest')}",
            hint="name the folder that holds them: --data DIR",
        )
    parts = stretches(facts.get("attempts") or (), facts.get("steps"), _rungs(facts))
    evaluation = facts.get("evaluation")
    return ReplayPlan(
        proposal=proposal.model_copy(update={"base": _named(model, settings)}),
        base=model,
        data=rows,
        seed=int(facts.get("seed")),
        config=TrainerConfig.parse(facts.get("trainer_config"), what="the snapshot's trainer config"),
        stretches=parts,
        evaluator=EvaluatorConfig.parse(evaluation["config"], what="the snapshot's evaluation config"),
        evaluation_seed=int(evaluation["seed"]),
        settings=_settings(settings, facts),
        facts=facts,
        notes=tuple(_notes(facts, parts)),
    )


def stretches(attempts: Sequence[Mapping[str, Any]], steps: int, rungs: Sequence[int]) -> tuple[Stretch, ...]:
    """The schedules of a training, one after another: it was extended where an attempt asked for other steps.

    Args:
        attempts: Its attempts, each with `from_step` and `steps`.
        steps: Of the last schedule.
        rungs: Steps at which the trial was looked at beside others.
    """
    begins: list[tuple[int, int]] = [(0, int(attempts[0]["steps"]) if attempts else steps)]
    for attempt in attempts[1:]:
        if int(attempt["steps"]) != begins[-1][1]:
            begins.append((int(attempt["from_step"]), int(attempt["steps"])))
    ends = [begin for begin, _ in begins[1:]] + [steps]
    return tuple(
        Stretch(steps=total, until=end, looks=tuple(rung for rung in sorted(rungs) if begin < rung < end))
        for (begin, total), end in zip(begins, ends, strict=True)
    )


def _refuse_gaps(snapshot: ArchitectureSnapshot, facts: SnapshotFacts, data: Path | str | None) -> None:
    gaps: dict[str, str] = {name: facts.unknown[name] for name in _NEEDED if name in facts.unknown}
    evaluation = facts.get("evaluation")
    if isinstance(evaluation, Mapping):
        gaps |= {f"evaluation.{name}": "it is not there" for name in ("config", "seed") if name not in evaluation}
    if data is None and "data_path" in facts.unknown:
        gaps["data_path"] = facts.unknown["data_path"] + "; name it: --data DIR"
    if gaps:
        raise UsageError(
            f"snapshot {short(snapshot.digest)} does not say enough to be trained anew",
            cause="\n".join(f"{name}: {reason}" for name, reason in gaps.items()),
            hint=_AGAIN,
        )


def _proposal(snapshot: ArchitectureSnapshot, facts: SnapshotFacts) -> ArchitectureProposal:
    proposal = ArchitectureProposal.parse(facts.get("proposal_record"), what="the snapshot's proposal")
    name = ArchitectureProposal.id_of(proposal.task, proposal.base, proposal.architecture, proposal.training)
    mistakes = [
        f"{what}: {one} and {other}"
        for what, one, other in (
            ("its id", proposal.id, name),
            ("architecture", proposal.architecture, parse_architecture(dict(snapshot.config))),
            ("base", proposal.base.to_dict(), facts.get("base")),
            ("recipe", proposal.training.to_dict(), facts.get("recipe")),
        )
        if one != other
    ]
    if mistakes:
        raise IntegrityError(
            f"snapshot {short(snapshot.digest)} holds another proposal than its own", cause="\n".join(mistakes)
        )
    return proposal


def _base(settings: Settings, proposal: ArchitectureProposal, name: str | None) -> BaseModel:
    model = resolve_base(name or proposal.base.name, settings)
    if model.reference.digest != proposal.base.digest:
        raise RefusedError(
            f"base model {model.reference.name} is not the one that the snapshot was trained on",
            cause=f"its weights are {model.reference.digest}, the snapshot's {proposal.base.digest}",
            hint="name the one that is: --base NAME",
        )
    return model


def _named(model: BaseModel, settings: Settings) -> Any:
    """The base's reference under a name that means the same from a workspace elsewhere."""
    reference = model.reference
    if reference.name in embedded_bases() or not (settings.workspace / Path(reference.name).expanduser()).is_dir():
        return reference
    return reference.model_copy(
        update={"name": str((settings.workspace / Path(reference.name).expanduser()).resolve())}
    )


def _rungs(facts: SnapshotFacts) -> list[int]:
    history = facts.get("rung_history") or ()
    return [int(item["steps"]) for item in history if isinstance(item, Mapping) and "steps" in item]


def _settings(settings: Settings, facts: SnapshotFacts) -> Settings:
    """This process's settings with what decides the rounding of the snapshot's numbers, as far as it says so."""
    population = facts.get("population") or {}
    found: dict[str, Any] = {
        name: population[name] for name, choices in _RESOLVED.items() if population.get(name) in choices
    }
    attempts = facts.get("attempts") or ()
    threads = attempts[-1].get("threads") if attempts else None
    if isinstance(threads, int):
        found["threads"] = threads
    return replace(settings, **found)


def _notes(facts: SnapshotFacts, parts: Sequence[Stretch]) -> list[str]:
    notes = []
    if "rung_history" in facts.unknown:
        notes.append("the snapshot does not say at which rungs it was looked at; the best of its looks may be another")
    if any(part.until < part.steps for part in parts[:-1]):
        notes.append("it was interrupted before it was extended; the replay looks at it there once more")
    return notes
