"""A registered snapshot trained anew: the same numbers, or a clear no."""

from __future__ import annotations

import json
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest

from legion.cli.app import _run
from legion.foundation.errors import IntegrityError, InvalidValueError, RefusedError, UsageError
from legion.foundation.settings import Settings
from legion.neuro_architecture.evaluator import EvaluatorConfig, MultiObjectiveEvaluator
from legion.neuro_architecture.generator import ArchitectureGenerator
from legion.neuro_architecture.integrator import Integrator
from legion.neuro_architecture.records import RunFolder
from legion.neuro_architecture.registry import ArchitectureRegistry
from legion.neuro_architecture.registry.comparison import compare_metric
from legion.neuro_architecture.spec.measurement import Measurement
from legion.neuro_architecture.study.replay import REPORT, replay
from legion.neuro_architecture.study.replay_plan import Stretch, plan_replay, stretches
from legion.neuro_architecture.study.replay_report import MetricAgreement, ReplayReport
from legion.neuro_architecture.trainer import PopulationTrainer, Rungs, TrainerConfig
from legion.testing import tiny_classification

MEASURED = EvaluatorConfig(
    latency_examples=2, latency_warmup=1, cost_examples=2, robustness_examples=7, identity_examples=4
)


class StepClock:
    """Each look at it is a second later."""

    def __init__(self) -> None:
        self._moment = datetime(2026, 1, 1, tzinfo=UTC)

    def now(self) -> datetime:
        self._moment += timedelta(seconds=1)
        return self._moment

    def monotonic_s(self) -> float:
        return self._moment.timestamp()


@pytest.fixture(scope="module")
def workshop(tmp_path_factory, tiny_folders):
    """A workspace in which one of two trials went through a rung to the end, was extended, measured and registered."""
    root = tmp_path_factory.mktemp("replay")
    settings = Settings.load(
        workspace=root / "workspace",
        environment={},
        home=root / "home",
        keys=root / "keys",
        base=str(tiny_folders["bert"]),
        threads=1,
        workers=1,
        group_blocks=8,
        precision="float32",
        attention="eager",
    )
    settings.workspace.mkdir()
    tiny_classification(settings.workspace / "data" / "tiny")
    proposals = ArchitectureGenerator(0, settings=settings).generate("tiny", 2, ["LoRA", "Adapter"], data="data/tiny")
    config = TrainerConfig(num_validations=2, validation_examples=8, latency_examples=0, data_seed=3)
    trainer = PopulationTrainer(settings=settings, seed=5, config=config, clock=StepClock())
    report = trainer.train([each.id for each in proposals], "data/tiny", 6, rungs=Rungs(steps=(2,), factor=2.0))
    (finalist,) = [name for name, found in report.metrics.items() if found.state == "completed"]
    trainer.train([finalist], "data/tiny", 9)
    evaluator = MultiObjectiveEvaluator(settings=settings, seed=2, config=MEASURED, clock=StepClock())
    evaluator.evaluate([RunFolder.of(settings, finalist).path])
    registry = ArchitectureRegistry.of(settings)
    summary = evaluator.summary.model_copy(update={"created_at": "2027-01-01T00:00:00.000000Z"})
    (snapshot,) = Integrator(settings, registry).register_winners(summary, 1)
    return settings, snapshot


@pytest.fixture(scope="module")
def report(workshop) -> ReplayReport:
    settings, snapshot = workshop
    return replay(snapshot, settings)


def _changed(snapshot, **provenance):
    return snapshot.model_copy(update={"provenance": {**snapshot.provenance, **provenance}})


def test_what_integrate_registers_holds_all_that_a_replay_needs(workshop):
    settings, snapshot = workshop
    plan = plan_replay(snapshot, settings)
    assert plan.stretches == (
        Stretch(steps=6, until=6, looks=(2,)),
        Stretch(steps=9, until=9, looks=()),
    )
    assert (plan.seed, plan.config.data_seed, plan.evaluation_seed) == (5, 3, 2)
    assert plan.evaluator == MEASURED
    assert [item["steps"] for item in snapshot.provenance["rung_history"]] == [2, 6, 9]


def test_a_replay_of_a_trial_out_of_a_population_agrees(report):
    assert report.is_agreeing
    judged = {item.change.name: item for item in report.metrics}
    assert judged["accuracy"].is_agreeing
    assert judged["adapter_size_bytes"].change.verdict == "equal"
    assert judged["flops_per_example"].change.verdict == "equal"
    assert report.environment == ()
    assert report.verdict.startswith("agrees: ")


def test_times_and_memory_are_compared_and_decide_nothing(report):
    deciding = {item.change.name for item in report.metrics if item.is_deciding}
    all_names = {item.change.name for item in report.metrics}
    assert {"accuracy", "robustness", "safety_violations", "flops_per_example"} <= deciding
    assert {"latency_p50_ms", "latency_ratio", "peak_memory_mb"} <= all_names - deciding


def test_the_report_is_written_and_a_finished_replay_is_done_anew(workshop, report):
    settings, snapshot = workshop
    folder = settings.workspace / "artifacts" / "replays" / snapshot.digest.removeprefix("sha256:")[:12]
    written = json.loads((folder / REPORT).read_text())
    assert written == json.loads(json.dumps(report.to_dict()))
    (folder / "stale").write_text("of the replay before")
    again = replay(snapshot, settings)
    assert not (folder / "stale").exists()
    assert again.adapter_after == report.adapter_after
    assert (settings.workspace / again.run / "adapter").is_dir()


def test_the_snapshots_own_run_is_left_alone(workshop, report):
    settings, snapshot = workshop
    run = RunFolder(settings.workspace / snapshot.provenance["run"])
    assert run.read_metrics()[1]["adapter_digest"] == snapshot.provenance["training_record"]["adapter_digest"]
    assert report.run.startswith("artifacts/replays/")


def test_other_numbers_than_those_that_come_of_it_are_a_no(workshop):
    settings, snapshot = workshop
    told = dict(snapshot.metrics)
    told["flops_per_example"] = told["flops_per_example"] * 2
    told["accuracy"], told["errors"] = -5.0, {**told["errors"], "accuracy": 0.01}
    found = replay(snapshot.model_copy(update={"metrics": told}), settings)
    assert set(found.differing) == {"accuracy", "flops_per_example"}
    assert not found.is_agreeing
    assert "accuracy" in found.verdict


@pytest.mark.parametrize("name", ["base", "data_digest", "proposal_record", "evaluation"])
def test_a_snapshot_that_lacks_something_is_refused_with_everything_it_lacks(workshop, name):
    settings, snapshot = workshop
    record = {key: value for key, value in snapshot.provenance["training_record"].items() if key not in {name, "seed"}}
    provenance = {key: value for key, value in snapshot.provenance.items() if key != name}
    lacking = snapshot.model_copy(update={"provenance": provenance | {"training_record": record}})
    with pytest.raises(UsageError, match="does not say enough") as caught:
        plan_replay(lacking, settings)
    assert f"{name}: " in caught.value.cause
    assert "seed: " in caught.value.cause
    assert "legion integrate" in caught.value.hint


def test_other_data_are_refused_and_the_right_ones_are_found_elsewhere(workshop, tmp_path):
    settings, snapshot = workshop
    tiny_classification(tmp_path / "other", seed=1)
    with pytest.raises(RefusedError, match="are not those") as caught:
        plan_replay(snapshot, settings, data=tmp_path / "other")
    assert snapshot.provenance["data_digest"] in caught.value.cause
    same = tiny_classification(tmp_path / "same")
    assert plan_replay(snapshot, settings, data=same).data.folder == same


def test_another_base_is_refused(workshop, tiny_folders):
    settings, snapshot = workshop
    with pytest.raises(RefusedError, match="is not the one") as caught:
        plan_replay(snapshot, settings, base=str(tiny_folders["llama"]))
    assert snapshot.provenance["base"]["digest"] in caught.value.cause


def test_a_proposal_of_another_architecture_is_refused(workshop):
    settings, snapshot = workshop
    record = snapshot.provenance["proposal_record"]
    recipe = {**record["training"], "learning_rate": 0.5}
    with pytest.raises(IntegrityError, match="another proposal") as caught:
        plan_replay(_changed(snapshot, proposal_record={**record, "training": recipe}), settings)
    assert "recipe" in caught.value.cause
    assert "its id" in caught.value.cause


def test_an_impossible_level_is_refused_before_anything_is_trained(workshop):
    settings, snapshot = workshop
    elsewhere = replace(settings, workspace=settings.workspace / "nowhere")
    with pytest.raises(InvalidValueError, match="confidence level"):
        replay(snapshot, elsewhere, level=95.0)
    assert not elsewhere.workspace.exists()


def test_the_command_prints_the_report_and_ends_with_one_where_it_does_not_agree(workshop, monkeypatch, capsys):
    settings, snapshot = workshop
    monkeypatch.chdir(settings.workspace)
    monkeypatch.setenv("LEGION_HOME", str(settings.home))
    monkeypatch.delenv("LEGION_WORKSPACE", raising=False)
    assert _run(["replay", snapshot.semantic_hash, "--format", "json"], "legion") == 0
    assert json.loads(capsys.readouterr().out)["is_agreeing"] is True
    told = {**snapshot.metrics, "flops_per_example": 1.0}
    registry = ArchitectureRegistry.of(settings)
    wrong = registry.register(snapshot.version, snapshot.config, told, snapshot.provenance)
    assert _run(["replay", wrong.digest], "legion") == 1
    out, err = capsys.readouterr()
    assert "flops_per_example" in out
    assert "error[LGN-401]" in err
    assert _run(["replay", "0123456789abcdef"], "legion") == 2


ATTEMPTS = {
    "one": ([{"from_step": 0, "steps": 9}], 9, (3, 9), (Stretch(steps=9, until=9, looks=(3,)),)),
    "resumed after a kill": (
        [{"from_step": 0, "steps": 9}, {"from_step": 4, "steps": 9}],
        9,
        (),
        (Stretch(steps=9, until=9, looks=()),),
    ),
    "extended at its end": (
        [{"from_step": 0, "steps": 4}, {"from_step": 4, "steps": 9}],
        9,
        (2, 4, 6, 9),
        (Stretch(steps=4, until=4, looks=(2,)), Stretch(steps=9, until=9, looks=(6,))),
    ),
    "extended before its end": (
        [{"from_step": 0, "steps": 6}, {"from_step": 4, "steps": 9}],
        9,
        (),
        (Stretch(steps=6, until=4, looks=()), Stretch(steps=9, until=9, looks=())),
    ),
    "not recorded": ([], 9, (3,), (Stretch(steps=9, until=9, looks=(3,)),)),
}


@pytest.mark.parametrize("case", sorted(ATTEMPTS))
def test_schedules_follow_the_recorded_attempts(case):
    attempts, steps, rungs, expected = ATTEMPTS[case]
    assert stretches(attempts, steps, rungs) == expected


def _agreement(before, after, name="accuracy"):
    return MetricAgreement.of(compare_metric(name, before, after))


def _report(*metrics: MetricAgreement) -> ReplayReport:
    return ReplayReport(
        snapshot="sha256:" + "0" * 64,
        metric="accuracy",
        metrics=metrics,
        adapter_before="a",
        adapter_after="b",
        environment=(),
        run="r",
        level=0.95,
        created_at="2026-01-01T00:00:00Z",
        took_s=1.0,
    )


def test_without_evidence_on_the_tasks_metric_the_answer_is_no():
    number = Measurement.measured(0.8, "share")
    assert not _report(_agreement(number, Measurement.measured(0.9, "share"))).is_agreeing
    assert not _report(_agreement(number, Measurement.absent("share", "none asked"))).is_agreeing
    assert not _report().is_agreeing
    assert "cannot say" in _report().verdict
    assert _report(_agreement(number, number)).is_agreeing


def test_what_is_counted_differs_as_soon_as_it_is_unequal():
    one, other = (Measurement.measured(value, "bytes", n=1) for value in (100, 101))
    accuracy = _agreement(Measurement.measured(0.8, "share"), Measurement.measured(0.8, "share"))
    assert _report(accuracy, _agreement(one, other, "adapter_size_bytes")).differing == ("adapter_size_bytes",)


def test_a_slower_machine_changes_no_answer():
    one, other = (Measurement.measured(value, "ms", n=9, error=0.01) for value in (1.0, 2.0))
    accuracy = _agreement(Measurement.measured(0.8, "share"), Measurement.measured(0.8, "share"))
    found = _report(accuracy, _agreement(one, other, "latency_p50_ms"))
    assert found.metrics[1].is_agreeing is False
    assert found.is_agreeing
