"""The benchmark's own arithmetic and fairness; no speed is asserted here."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest
from benchmarks.population.chart import chart_rows
from benchmarks.population.harness import Options, plan_of, read_lines, scheduled
from benchmarks.population.places import Place, write_rows
from benchmarks.population.report import build_report
from benchmarks.population.rows import ROWS, find_row
from benchmarks.population.tables import render
from benchmarks.population.workloads import all_layers, headline, mixed, upper_third

from legion.neuro_architecture.adapters.targets import choose_layers, choose_linears
from legion.neuro_architecture.anatomy import inspect_model
from legion.neuro_architecture.data.datasets import read_data
from legion.neuro_architecture.records import ProposalStore
from legion.neuro_architecture.spec.architecture import LoRAArchitecture
from legion.neuro_architecture.spec.semantics import semantic_hash

LISTS = {"mixed": mixed(256, 8), "lora": all_layers(32, 8), "upper": upper_third(32, 4), "smollm2": headline(8, 6)}


def unit(arm, repeat, wall_s, *, row="lora", cpu_s=None, trial_s=(), **more):
    """A line as the harness writes it."""
    return {
        "row": row,
        "arm": arm,
        "repeat": repeat,
        "plan": {"num_trials": 32, "steps": 8},
        "wall_s": wall_s,
        "cpu_s": wall_s if cpu_s is None else cpu_s,
        "trial_s": list(trial_s),
        "mean_accuracy": 0.7,
        "mean_loss": 0.5,
        "commit": "c0ffee",
        "is_dirty": False,
        "machine": {"cpu": "made up", "cores": 2, "memory_gib": 8.0, "cpu_features": "avx2"},
    } | more


def lines_of(ours, b0, b1):
    return [
        unit(arm, repeat, wall_s)
        for arm, values in (("ours", ours), ("B0", b0), ("B1", b1))
        for repeat, wall_s in enumerate(values)
    ]


def compared(report, label, measure="wall_s", row="lora"):
    (found,) = [
        item for item in report["rows"][row]["comparisons"] if (item["label"], item["measure"]) == (label, measure)
    ]
    return found


def page(report):
    return render(report | {"command": "made up", "date": "2026-01-01", "versions": "none"})


def test_ratio_is_the_median_of_the_repeats_ratios_and_not_the_ratio_of_medians():
    report = build_report(lines_of([1.0, 10.0, 2.0], [10.0, 90.0, 30.0], [2.0, 20.0, 4.0]), [find_row("lora")])
    ratio = compared(report, "B0 / ours")["ratio"]
    assert ratio == {"median": 10.0, "min": 9.0, "max": 15.0, "mad": 1.0, "n": 3}


def test_repeat_without_its_partner_forms_no_ratio():
    report = build_report(lines_of([1.0], [10.0, 90.0], [2.0]), [find_row("lora")])
    assert compared(report, "B0 / ours")["ratio"]["n"] == 1


def test_bounds_hold_for_the_wall_time_and_inform_of_nothing_else():
    report = build_report(lines_of([1.0], [8.0], [1.6]), [find_row("lora")])
    assert compared(report, "B0 / ours")["is_met"] is True
    assert compared(report, "B0 / ours")["is_aim_met"] is False
    assert compared(report, "B1 / ours")["is_met"] is False
    assert compared(report, "B0 / ours", "cpu_s")["is_met"] is None


def test_growth_must_stay_below_its_bound():
    lines = [unit("K=32", 0, 1.0, row="growth"), unit("K=256", 0, 9.0, row="growth")]
    report = build_report(lines, [find_row("growth")])
    assert compared(report, "K=256 / K=32", row="growth")["is_met"] is False
    assert "must be at most 8.0x" in " ".join(report["losing"])


def test_every_losing_case_is_told():
    lines = [*lines_of([1.0], [8.0], [0.9]), unit("ours", 0, 1.0, cpu_s=3.0), unit("B1", 0, 0.9, cpu_s=2.0)]
    losing = build_report(lines, [find_row("lora")])["losing"]
    assert [case.partition(": ")[2] for case in losing] == [
        "B1 / ours, wall_s: 0.9x, ours is not cheaper",
        "B1 / ours, wall_s: 0.9x, must be at least 1.7x",
        "B1 / ours, cpu_s: 0.6667x, ours is not cheaper",
    ]


def test_failed_unit_is_absent_with_its_reason():
    failed = {key: unit("ours", 0, 1.0)[key] for key in ("row", "arm", "repeat", "plan")} | {"error": "it\nbroke"}
    report = build_report([unit("B0", 0, 8.0), failed], [find_row("lora")])
    assert "ours was not measured: broke" in report["rows"]["lora"]["absent"]
    assert "ours was not measured: broke" in page(report)


def test_other_dtype_that_turns_out_quicker_is_told():
    lines = [
        unit("ours", 0, 1.0, row="mixed"),
        unit("B0", 0, 8.0, row="mixed"),
        unit("B1", 0, 32.0, row="mixed", trial_s=[1.0] * 32),
        unit("B1-other", 0, 1.0, row="mixed", trial_s=[0.5]),
    ]
    report = build_report(lines, [find_row("mixed")])
    assert report["rows"]["mixed"]["other_dtype"]["times"] == 0.5
    assert "of the weaker B1" in report["losing"][-1]


def test_page_and_chart_show_every_judged_ratio():
    report = build_report(lines_of([1.0], [8.0], [1.8]), [find_row("lora")])
    assert "| B0 / ours | wall | **8x** | 8 to 8 | 0 | 1 | ≥ 8x | ≥ 12x | met |" in page(report)
    assert [(row["state"], row["median"]) for row in chart_rows(report)] == [("met", 8.0), ("met", 1.8)]


def test_systems_are_interleaved_there_and_back():
    arms = [request.arm for request in scheduled(Options(rows=("lora",), repeats=3))]
    assert arms == ["B0", "ours", "B1", "B1", "ours", "B0", "B0", "ours", "B1"]
    assert [request.arm for request in scheduled(Options(rows=("mixed",), repeats=2))].count("B1-other") == 1


def test_line_cut_short_by_a_kill_is_left_out(tmp_path):
    path = tmp_path / "units.jsonl"
    path.write_text(json.dumps(unit("ours", 0, 1.0)) + "\n" + '{"row": "lo')
    assert [line["arm"] for line in read_lines(path)] == ["ours"]


def test_shrunk_rows_keep_their_proportions():
    plans = {
        request.arm: plan_of(request) for request in scheduled(Options(rows=("growth",), repeats=1, trials=4, steps=2))
    }
    assert [plans[name]["num_trials"] for name in ("K=32", "K=256")] == [4, 32]
    assert {plan["steps"] for plan in plans.values()} == {2}


@pytest.mark.parametrize("name", LISTS)
def test_workloads_are_the_same_at_every_call_and_without_repeats(name):
    again = {"mixed": mixed(256, 8), "lora": all_layers(32, 8), "upper": upper_third(32, 4), "smollm2": headline(8, 6)}
    assert LISTS[name] == again[name]
    trials = [(semantic_hash(trial.architecture), trial.recipe.learning_rate) for trial in LISTS[name].trials]
    assert len(set(trials)) == len(trials)


def test_rows_are_of_the_asked_sizes():
    sizes = {row.key: [len(arm.workload.trials) for arm in row.arms if arm.stride == 1] for row in ROWS}
    assert sizes["mixed"] == sizes["lora"] == sizes["upper"] == [32, 32, 32]
    assert sizes["smollm2"] == [8, 8, 8]
    assert sizes["growth"] == [32, 256]
    assert sizes["memory"] == [1, 64, 1]


def test_mixed_has_the_families_in_near_equal_parts_and_each_on_every_start_layer():
    trials = [trial.architecture for trial in mixed(32, 8).trials]
    names = [architecture.strategy for architecture in trials]
    assert sorted(names.count(name) for name in ("LoRA", "Adapter", "MoE")) == [10, 11, 11]
    for name in ("LoRA", "Adapter", "MoE"):
        assert {item.layers for item in trials if item.strategy == name} == {tuple(range(s, 6)) for s in range(6)}


def test_shorter_list_is_the_beginning_of_a_longer_one():
    assert mixed(256, 8).trials[:32] == mixed(32, 8).trials


def test_upper_third_sees_every_example_three_times():
    workload = upper_third(32, 4)
    assert {trial.architecture.layers for trial in workload.trials} == {(4, 5)}
    assert workload.steps * workload.batch_size == 3 * workload.num_train


@pytest.mark.assets
@pytest.mark.parametrize("name", LISTS)
def test_every_adapter_fits_its_base(name, embedded_home):
    from legion.neuro_architecture.data.base_models import resolve_base

    workload = LISTS[name]
    kind = "classification" if workload.data == "classification" else "summarization"
    anatomy = inspect_model(resolve_base(workload.base, embedded_home).load_meta(kind))
    for trial in workload.trials:
        architecture = trial.architecture
        assert choose_layers(anatomy, architecture.layers)
        if isinstance(architecture, LoRAArchitecture):
            assert choose_linears(anatomy, architecture)


@pytest.mark.assets
def test_rows_of_data_are_as_many_as_steps_take_and_the_same_for_all(embedded_home, tmp_path):
    workload = mixed(4, 2)
    data = read_data(write_rows(tmp_path, workload, embedded_home))
    assert (len(data.train), len(data.validation)) == (32, 64)
    assert write_rows(tmp_path, workload, embedded_home) == data.folder


class TestSystemsDoTheSameWork:
    """B0, B1 and the population trainer on a tiny base: equal steps, one look at equal validation rows."""

    @pytest.fixture
    def workload(self, tiny_folders):
        tiny = mixed(6, 3)
        return replace(tiny, base=str(tiny_folders["bert"]), num_validation=16, trials=_on_two_layers(tiny.trials[:3]))

    @pytest.fixture
    def place(self, settings, classification_data):
        return Place(settings=replace(settings, threads=1, device="cpu"), data=classification_data)

    @pytest.mark.parametrize("system", ["baselines:prepare_b0", "baselines:prepare_b1_fp32", "ours:prepare"])
    @pytest.mark.filterwarnings("default")
    def test_steps_and_looks_are_equal(self, system, workload, place):
        import importlib

        if system.startswith("baselines"):
            pytest.importorskip("optuna")
        module, _, name = system.partition(":")
        prepare = getattr(importlib.import_module(f"benchmarks.population.{module}"), name)
        outcome = prepare(workload, place)()
        assert outcome.record["steps"] == [3, 3, 3]
        assert len(outcome.losses) == 3
        assert all(accuracy * 16 == round(accuracy * 16) for accuracy in outcome.accuracies)

    def test_proposals_carry_the_trials(self, workload, place):
        from benchmarks.population.places import store_proposals

        ids = store_proposals(workload, place.settings)
        stored = [ProposalStore(place.settings).load(name) for name in ids]
        assert [item.architecture for item in stored] == [trial.architecture for trial in workload.trials]


def _on_two_layers(trials):
    """The same adapters on a base of two layers."""
    return tuple(
        replace(trial, architecture=trial.architecture.model_copy(update={"layers": (0, 1)})) for trial in trials
    )
