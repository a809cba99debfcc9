"""Trains a snapshot's architecture anew from its provenance, measures it, and says whether the numbers agree."""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, Final

from legion.foundation.canonical import short
from legion.foundation.clock import Clock, SystemClock, rfc3339
from legion.foundation.errors import TrainingError
from legion.foundation.files import exclusive_lock, write_json
from legion.foundation.progress import Progress, SilentProgress
from legion.foundation.settings import Settings
from legion.neuro_architecture.evaluator import MultiObjectiveEvaluator
from legion.neuro_architecture.records import ProposalStore, RunFolder
from legion.neuro_architecture.registry.comparison import compare_metric, field_changes
from legion.neuro_architecture.registry.intervals import DEFAULT_LEVEL, interval_of, measurements_of
from legion.neuro_architecture.spec.measurement import Measurement
from legion.neuro_architecture.spec.snapshot import ArchitectureSnapshot
from legion.neuro_architecture.spec.training import TrialState
from legion.neuro_architecture.study.replay_plan import ReplayPlan, Stretch, plan_replay
from legion.neuro_architecture.study.replay_report import MetricAgreement, ReplayReport
from legion.neuro_architecture.trainer import PopulationTrainer

__all__ = ["ReplayReport", "replay"]

REPLAYS: Final = Path("artifacts") / "replays"
REPORT: Final = "replay.json"
_METRIC: Final = "accuracy"


def replay(
    snapshot: ArchitectureSnapshot,
    settings: Settings,
    *,
    data: Path | str | None = None,
    base: str | None = None,
    level: float = DEFAULT_LEVEL,
    progress: Progress = SilentProgress(),
    clock: Clock = SystemClock(),
) -> ReplayReport:
    """The snapshot's numbers beside those of a fresh training and evaluation on the same base, data, recipe and seeds.

    It works in `artifacts/replays/<12 hex>/`, a workspace of its own, and leaves `replay.json` there. A stopped replay
    goes on where it was when it is asked for again; a finished one is swept away and done anew.

    A metric agrees where 0 lies in the interval of the difference, taken from `n` and standard error of both as of
    independent samples. Trained alone on one CPU with the same number of threads it is mostly equal; trained once in a
    population it differs by the rounding of floats. Times and memory are compared and decide nothing.

    Args:
        snapshot: What to train anew; it must say what `plan_replay` needs.
        settings: Of this workspace; threads and precision are the snapshot's where it tells them.
        data: The data folder, where it is not where the snapshot says.
        base: The base model, where it has another name here.
        level: Confidence of the intervals.
        progress: Is told of every step.
        clock: Source of times.

    Raises:
        UsageError: the snapshot lacks something that is needed; lists everything.
        InvalidValueError: the level is not between 0 and 1.
        IntegrityError: what the snapshot says of itself does not fit together.
        RefusedError: base or data are not those that it was trained on.
        TrainingError: the training failed, or its adapter could not be measured.
        UnknownNameError, DataError, ModelError: base or data are not there, or broken.
    """
    interval_of(Measurement.absent("", "only the level is looked at"), level)
    began_s = clock.monotonic_s()
    plan = plan_replay(snapshot, settings, data=data, base=base)
    folder = settings.workspace / REPLAYS / short(snapshot.digest)
    with exclusive_lock(folder.with_name(f".{folder.name}.lock"), refusal=f"another process replays {folder.name}"):
        if (folder / REPORT).is_file():
            shutil.rmtree(folder)
        own = replace(plan.settings, workspace=folder)
        run = _train(plan, own, progress, clock)
        found = _measure(plan, own, run, progress, clock)
        _, record = run.read_metrics()
        report = ReplayReport(
            snapshot=snapshot.digest,
            metric=_METRIC,
            metrics=_agreements(measurements_of(snapshot.metrics), found, level),
            adapter_before=plan.facts.get("adapter_digest"),
            adapter_after=str(record["adapter_digest"]),
            environment=field_changes(_environment(plan.facts.known), _environment(_as_facts(record))),
            run=str(run.path.relative_to(settings.workspace)),
            level=level,
            created_at=rfc3339(clock.now()),
            took_s=round(clock.monotonic_s() - began_s, 3),
            notes=plan.notes,
        )
        write_json(folder / REPORT, report.to_dict())
    return report


def _train(plan: ReplayPlan, settings: Settings, progress: Progress, clock: Clock) -> RunFolder:
    """The run folder of the trained trial."""
    ProposalStore(settings).save(plan.proposal)
    run = RunFolder.of(settings, plan.proposal.id)
    trainer = PopulationTrainer(settings=settings, seed=plan.seed, progress=progress, config=plan.config, clock=clock)
    for stretch in _left(plan, run):
        _train_stretch(plan, trainer, stretch)
    metrics, _ = run.read_metrics()
    if metrics.state is not TrialState.COMPLETED:
        raise TrainingError(
            f"the replay of {plan.proposal.id} is {metrics.state}, the snapshot's training completed",
            cause=metrics.reason,
        )
    return run


def _left(plan: ReplayPlan, run: RunFolder) -> tuple[Stretch, ...]:
    """The stretches from the one that an earlier attempt at this replay had come to."""
    if not run.metrics_path.is_file():
        return plan.stretches
    steps = run.read_metrics()[1].get("steps")
    place = next((index for index, stretch in enumerate(plan.stretches) if stretch.steps == steps), 0)
    return plan.stretches[place:]


def _train_stretch(plan: ReplayPlan, trainer: PopulationTrainer, stretch: Stretch) -> None:
    name = plan.proposal.id
    with trainer.open(plan.data.folder, stretch.steps, kind=plan.proposal.task_kind) as session:
        session.add([name])
        if not session.names:
            return
        session.announce(f"replay {name}", stretch.steps)
        for look in stretch.looks:
            session.advance([name], look)
        if stretch.until == stretch.steps:
            session.finish([name])
        else:
            session.advance([name], stretch.until)
            session.pause([name])
        session.conclude()


def _measure(
    plan: ReplayPlan, settings: Settings, run: RunFolder, progress: Progress, clock: Clock
) -> Mapping[str, Measurement]:
    evaluator = MultiObjectiveEvaluator(
        settings=settings, seed=plan.evaluation_seed, progress=progress, config=plan.evaluator, clock=clock
    )
    (result,) = evaluator.evaluate([run.metrics_path])
    if not result.measurements:
        raise TrainingError(f"the replay of {plan.proposal.id} could not be measured", cause=result.reason)
    return result.measurements


def _agreements(
    before: Mapping[str, Measurement], after: Mapping[str, Measurement], level: float
) -> tuple[MetricAgreement, ...]:
    """Every metric that the evaluation measures; what the registry adds to them (score, rank) hangs on others."""
    return tuple(
        MetricAgreement.of(compare_metric(name, before.get(name), after.get(name), level))
        for name in sorted({*after, *(name for name, found in before.items() if found.unit)})
    )


def _environment(facts: Mapping[str, Any]) -> dict[str, Any]:
    return {name: facts[name] for name in ("training_machine", "versions") if name in facts}


def _as_facts(record: Mapping[str, Any]) -> dict[str, Any]:
    return {"training_machine": record.get("machine"), "versions": record.get("versions")}
