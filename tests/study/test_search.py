"""A study as a stranger would check it: the same again, the same after a kill, and honest where there is nothing."""

from __future__ import annotations

import multiprocessing
import os
import signal
from dataclasses import replace

import pytest
from tests.study.studies import recipe, run, told

from legion.foundation.errors import InvalidValueError, NotPortableError, WorldError
from legion.foundation.files import exclusive_lock
from legion.foundation.settings import Settings
from legion.neuro_architecture.records import RunFolder
from legion.neuro_architecture.spec.training import TrialState
from legion.neuro_architecture.study import Search, StudyStore, parse_budget, study_record
from legion.neuro_architecture.study.climb import Climb
from legion.neuro_architecture.study.comparison import compare_studies


@pytest.fixture
def finished(ground):
    return run(settings=ground)


def test_a_study_spends_its_budget_and_keeps_a_front_that_went_to_the_end(finished, ground):
    assert len(finished.trials) == 8
    assert finished.phase == "finished"
    front = finished.history[-1].front
    assert front
    inner = replace(ground, workspace=StudyStore(ground, "small").folder)
    for name in front:
        metrics, _ = RunFolder.of(inner, name).read_metrics()
        assert metrics.state is TrialState.COMPLETED
        assert finished.trials[name].looks[-1].steps == 8


def test_every_trial_that_did_not_go_on_has_a_reason(finished):
    phases = [trial.phase for trial in finished.trials.values()]
    assert set(phases) <= {"paused", "stopped", "completed"}
    assert "completed" in phases
    assert len(set(phases)) > 1
    for trial in finished.trials.values():
        assert trial.phase == "completed" or trial.looks[-1].reason


def test_an_exploratory_trial_of_each_generation_went_to_the_end(finished):
    explorers = [trial for trial in finished.trials.values() if trial.is_exploratory]
    assert len(explorers) == 2
    assert {trial.generation for trial in explorers} == {0, 1}
    assert all(trial.phase == "completed" for trial in explorers)


def test_the_same_seed_gives_the_same_study_and_another_seed_another(ground, finished, tmp_path_factory, monkeypatch):
    again = run(settings=ground, name="again")
    assert told(again) == told(finished)
    other = run(settings=ground, name="other", seed=4)
    assert [t.point for t in other.trials.values()] != [t.point for t in finished.trials.values()]


def test_a_study_that_is_run_again_repeats_nothing(ground, finished):
    folder = StudyStore(ground, "small").folder / "artifacts" / "proxy_runs"
    before = {path: path.stat().st_mtime_ns for path in folder.glob("*/metrics.json")}
    assert told(run(settings=ground)) == told(finished)
    assert {path: path.stat().st_mtime_ns for path in folder.glob("*/metrics.json")} == before


def test_the_search_counts_what_it_takes_itself(finished, ground):
    assert 0.0 < finished.search_s < finished.spent_s
    assert finished.search_s < run("10trials", settings=ground).search_s


def test_a_larger_budget_goes_on_where_the_smaller_ended(ground, finished):
    run("4trials", settings=ground, name="grown")
    assert told(run("8trials", settings=ground, name="grown")) == told(finished)


def _die_at(settings, name, number):
    """A child that is killed at the `number`-th thing it writes down."""
    real, calls = StudyStore.write, []

    def write(self, state):
        calls.append(state)
        if len(calls) == number:
            os.kill(os.getpid(), signal.SIGKILL)
        real(self, state)

    StudyStore.write = write
    run(settings=settings, name=name)


@pytest.mark.parametrize("number", [2, 4, 6])
def test_a_killed_study_ends_as_if_it_had_never_been_killed(ground, finished, number):
    child = multiprocessing.get_context("fork").Process(target=_die_at, args=(ground, "killed", number))
    child.start()
    child.join()
    assert child.exitcode == -signal.SIGKILL
    assert told(run(settings=ground, name="killed")) == told(finished)


def test_a_study_that_is_asked_to_stop_ends_at_a_decision_and_goes_on_later(ground, finished, monkeypatch):
    real = Search._propose

    def propose(self, *args):
        if self.store.read().generations:
            self.store.stop_file.write_text("")
        return real(self, *args)

    monkeypatch.setattr(Search, "_propose", propose)
    stopped = run(settings=ground, name="halted")
    assert (stopped.phase, len(stopped.generations)) == ("stopped", 2)
    assert stopped.generations[1].decided == ()
    monkeypatch.setattr(Search, "_propose", real)
    assert told(run(settings=ground, name="halted")) == told(finished)


def test_a_study_that_stops_between_rungs_saves_what_is_under_way(ground, finished, monkeypatch):
    real = Climb._act

    def act(self, decisions):
        real(self, decisions)
        StudyStore(ground, "between").stop_file.write_text("")

    monkeypatch.setattr(Climb, "_act", act)
    stopped = run(settings=ground, name="between")
    assert (stopped.phase, stopped.generations[0].decided) == ("stopped", (2,))
    inner = replace(ground, workspace=StudyStore(ground, "between").folder)
    for trial in stopped.trials.values():
        metrics, _ = RunFolder.of(inner, trial.id).read_metrics()
        assert metrics.state in {TrialState.PAUSED, TrialState.STOPPED}
        assert metrics.steps_completed.value == 2
    monkeypatch.setattr(Climb, "_act", real)
    assert told(run(settings=ground, name="between")) == told(finished)


def test_a_changed_recipe_needs_another_name(ground, finished):
    with pytest.raises(InvalidValueError, match="begun with another recipe") as caught:
        run(settings=ground, seed=9)
    assert "seed: was 3, is 9" in caught.value.cause


def test_two_processes_do_not_run_one_study(ground):
    search = Search(ground, recipe())
    search.store.folder.mkdir(parents=True)
    with exclusive_lock(search.store.lock), pytest.raises(WorldError, match="another process"):
        search.run(parse_budget("4trials"))


def test_a_constraint_that_nothing_can_keep_is_refused_with_the_nearest_value(ground):
    with pytest.raises(InvalidValueError, match="nothing can satisfy latency_ms<=1e-09") as caught:
        run(settings=ground, constraints=["latency_ms<=1e-9"])
    assert "fastest predicted is" in caught.value.cause


def test_bounds_that_contradict_each_other_are_refused_before_anything_is_built(ground):
    with pytest.raises(InvalidValueError, match="latency_ms<=1 and latency_ms>=2"):
        run(settings=ground, constraints=["latency_ms<=1", "latency_ms>=2"])


def test_bounds_that_some_keep_alone_and_none_together_are_refused_as_such(ground):
    points = Search(ground, recipe()).space
    sizes = sorted(points.predicted(a)["size_bytes"] for b in points.points.branches for a in b.architectures)
    costs = sorted(points.predicted(a)["cost"] for b in points.points.branches for a in b.architectures)
    bounds = [f"size_bytes<={sizes[0]}", f"cost>={costs[-1]}"]
    with pytest.raises(InvalidValueError, match="together"):
        run(settings=ground, constraints=bounds)


def test_predicted_bounds_hold_for_everything_that_is_proposed(ground):
    space = Search(ground, recipe()).space
    sizes = sorted(space.predicted(a)["size_bytes"] for b in space.points.branches for a in b.architectures)
    bound = sizes[len(sizes) // 4]
    found = run("4trials", settings=ground, name="bounded", constraints=[f"size_bytes<={bound}"])
    assert all(trial.predicted["size_bytes"] <= bound for trial in found.trials.values())


def test_a_target_that_serves_nothing_of_the_space_is_refused(ground):
    with pytest.raises(NotPortableError, match="llama"):
        run(settings=ground, constraints=["target=llama.cpp"], space={"strategies": ["MoE"]})


def test_an_empty_front_says_which_trial_came_nearest(ground):
    found = run("4trials", settings=ground, name="strict", constraints=["accuracy>=1.5"])
    assert found.history[-1].front == ()
    assert any("the front is empty" in line and "accuracy>=1.5" in line for line in found.notes)


def test_a_metric_that_is_constant_is_named(ground, monkeypatch):
    from legion.neuro_architecture.spec.standing import Standing

    real = RunFolder.read_standing

    def flat(self, step):
        standing = real(self, step)
        return standing and Standing.parse(standing.to_dict() | {"accuracy": 0.5}, what="standing")

    monkeypatch.setattr(RunFolder, "read_standing", flat)
    found = run(settings=ground, name="flat")
    assert any("accuracy is 0.5 for all" in line for line in found.notes)


def test_the_front_is_trained_anew_with_every_seed_and_measured_on_the_test_split(ground):
    found = run("4trials", settings=ground, name="ended", final={"top": 1, "seeds": 2, "steps": 6})
    (final,) = found.final
    assert final.id == found.history[-1].front[0] or final.id in found.history[-1].front
    assert final.seeds == (3, 4)
    assert set(final.values) >= {"accuracy", "latency_ms", "size_bytes"}
    assert found.baseline["values"]["accuracy"] > 0.0
    for run_folder in final.runs:
        metrics, record = RunFolder(StudyStore(ground, "ended").folder / run_folder).read_metrics()
        assert (metrics.state, record["steps"]) == (TrialState.COMPLETED, 6)


def test_forgetting_is_an_objective_of_a_summarization_study(ground, summarization_data, tiny_folders):
    found = run(
        "4trials",
        settings=ground,
        name="remembering",
        data=str(summarization_data),
        base=str(tiny_folders["llama"]),
        objectives=["accuracy", "forgetting"],
        constraints=["forgetting<=5"],
        final={"top": 1, "seeds": 2, "steps": 4},
    )
    ended = [trial.looks[-1].values for trial in found.trials.values() if trial.phase == "completed"]
    assert ended
    assert all(set(values) == {"accuracy", "forgetting"} for values in ended)
    assert all(values["forgetting"] != 0.0 for values in ended)
    assert found.history[-1].hypervolume is not None
    (final,) = found.final
    assert final.errors["forgetting"] > 0.0
    assert found.baseline["values"]["forgetting"] == 0.0


def test_forgetting_of_a_classifier_is_refused_before_anything_is_written(ground):
    with pytest.raises(InvalidValueError, match="forgetting cannot be measured on a classification task"):
        run(settings=ground, name="refused", objectives=["accuracy", "forgetting"])
    assert not StudyStore(ground, "refused").folder.exists()


def test_the_record_for_the_pictures_holds_what_happened(ground, finished):
    inner = replace(ground, workspace=StudyStore(ground, "small").folder)
    record = study_record(finished, inner)
    assert record["rungs"] == [2, 4, 8]
    assert record["front"] == sorted(finished.history[-1].front, key=record["front"].index)
    by_id = {row["id"]: row for row in record["trials"]}
    for name, trial in finished.trials.items():
        assert [row["decision"] for row in by_id[name]["rungs"]] == [look.decision for look in trial.looks]
        assert [row[0] for row in by_id[name]["curve"]] == [look.steps for look in trial.looks]


def test_studies_are_compared_under_one_reference_point(ground, finished):
    other = run("4trials", settings=ground, name="other")
    found = compare_studies({"small": finished, "other": other})
    assert [row["trials"] for row in found["studies"]] == [8, 4]
    assert all(row["hypervolume"] > 0.0 for row in found["studies"])
    elsewhere = run("4trials", settings=ground, name="two", objectives=["accuracy", "cost"])
    with pytest.raises(InvalidValueError, match="cannot be compared"):
        compare_studies({"small": finished, "two": elsewhere})


@pytest.mark.parametrize("generator", ["random", "latin-hypercube", "evolution", "nsga2"])
def test_every_generator_leads_a_study(ground, generator):
    found = run("6trials", settings=ground, name=generator, generator={"name": generator, "batch": 3})
    assert len(found.trials) == 6
    assert found.history[-1].front


def test_halving_compares_within_a_generation(ground):
    scheduler = {"kind": "halving", "steps": 8, "rungs": [2, 4], "factor": 2.0, "exploratory": 0.0}
    found = run(settings=ground, name="halving", scheduler=scheduler)
    for number in (0, 1):
        first = [trial.looks[0].decision for trial in found.trials.values() if trial.generation == number]
        assert first.count("continue") == 2


def test_settings_are_loaded_where_none_are_given(ground):
    assert Search(Settings.load(), recipe()).store.folder == ground.workspace / "studies" / "small"


def test_two_workers_train_the_same_proposals_to_the_same_decisions(ground, finished):
    search = Search(ground, recipe(name="shared"), workers=2)
    found = search.run(parse_budget("8trials"))
    assert [trial.point for trial in found.trials.values()] == [trial.point for trial in finished.trials.values()]
    assert told(found)["front"] == told(finished)["front"]
    with pytest.raises(InvalidValueError):
        Search(ground, recipe(), workers=0)
