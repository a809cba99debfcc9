"""The stage from run folders to a written summary, on tiny models with real adapters."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest
from safetensors.torch import load_file, save_file

from legion.foundation.errors import UsageError
from legion.neuro_architecture.evaluator import SUMMARY, MultiObjectiveEvaluator
from legion.neuro_architecture.spec.evaluation import DEFAULT_WEIGHTS, EvaluationSummary
from legion.neuro_architecture.spec.training import TrialState

ALL = ["artifacts/proxy_runs/*/metrics.json"]


def untimed(result):
    return {name: item for name, item in result.measurements.items() if "latency" not in name}


@pytest.mark.parametrize("family", ["bert", "llama", "gpt2"])
def test_every_strategy_is_measured_on_every_objective(study_of, small, family):
    study = study_of(family)
    study.all_runs()
    evaluator = MultiObjectiveEvaluator(settings=study.settings, config=small)
    results = evaluator.evaluate(ALL)
    assert {result.strategy for result in results} == {"LoRA", "Adapter", "MoE"}
    for result in results:
        assert set(result.terms) == set(DEFAULT_WEIGHTS)
        assert result.reason is None
        for name, item in result.measurements.items():
            if name == "forgetting":  # a classifier's head has no language model
                continue
            assert item.value is not None, name
            assert item.n is not None, name
        assert result.measurements["flops_per_example"].value > result.measurements["base_flops_per_example"].value
        assert result.measurements["peak_memory_mb"].value > result.measurements["base_peak_memory_mb"].value
        assert len(result.violations) == result.measurements["safety_violations"].value
    scores = [result.composite_score for result in results]
    assert scores == sorted(scores, reverse=True)
    assert evaluator.summary.baseline_score == pytest.approx(0.1)


def test_the_written_summary_is_the_one_that_is_returned(study, small):
    study.all_runs()
    evaluator = MultiObjectiveEvaluator("accuracy:1,cost:0.5", settings=study.settings, config=small, seed=3)
    results = evaluator.evaluate(ALL)
    written = json.loads((study.settings.workspace / SUMMARY).read_text())
    assert EvaluationSummary.parse(written, what="summary") == evaluator.summary
    assert written["total_evaluated"] == 3
    assert written["top_3"] == [result.proposal_id for result in results]
    assert written["weights_used"] == {"accuracy": 1.0, "cost": 0.5}
    assert written["front"] == [result.proposal_id for result in results if result.is_on_front]
    assert written["front"]
    assert written["seed"] == 3
    assert written["config"]["robustness_examples"] == small.robustness_examples
    assert {"accuracy", "latency_p50_ms", "flops_per_example"} <= set(written["baseline"])


def test_same_seed_measures_the_same_but_for_time_and_reuses_the_baseline(study, small):
    study.run()
    evaluators = [MultiObjectiveEvaluator(settings=study.settings, config=small) for _ in range(2)]
    (first,), (second,) = [evaluator.evaluate(ALL) for evaluator in evaluators]
    assert untimed(first) == untimed(second)
    assert first.violations == second.violations
    assert first.per_group == second.per_group
    assert evaluators[0].summary.baseline_per_group == evaluators[1].summary.baseline_per_group
    assert not any("reused" in note for note in evaluators[0].summary.notes)
    assert any("reused" in note for note in evaluators[1].summary.notes)


def test_an_adapter_s_neighbours_do_not_change_what_is_measured_of_it(study, small):
    study.all_runs()
    together = MultiObjectiveEvaluator(settings=study.settings, config=small).evaluate(ALL)
    last = next(result for result in together if result.strategy == "MoE")
    (alone,) = MultiObjectiveEvaluator(settings=study.settings, config=small).evaluate([last.run])
    assert untimed(alone) == untimed(last)


def test_failed_and_damaged_runs_are_listed_last_with_a_reason(study, small):
    study.run()
    study.run("moe-000000000003", state=TrialState.FAILED, reason="loss is nan at step 7")
    weights = study.run("adapter-00000000002").adapter_folder / "adapter_model.safetensors"
    tensors = load_file(weights)
    tensors.pop(min(tensors))
    save_file(tensors, weights)
    evaluator = MultiObjectiveEvaluator(settings=study.settings, config=small)
    best, *others = evaluator.evaluate(ALL)
    assert best.proposal_id == "lora-000000000001"
    assert evaluator.summary.total_evaluated == 1
    assert evaluator.summary.top_3 == ("lora-000000000001",)
    reasons = {result.proposal_id: result.reason for result in others}
    assert "loss is nan at step 7" in reasons["moe-000000000003"]
    assert "the adapter cannot be loaded" in reasons["adapter-00000000002"]
    for result in others:
        assert (result.composite_score, result.rank, result.is_on_front) == (None, None, False)


def test_changed_data_is_refused(study, small):
    study.run()
    rows = (study.data_folder / "test.jsonl").read_text().splitlines(keepends=True)
    (study.data_folder / "test.jsonl").write_text("".join(rows[:-1]))
    with pytest.raises(UsageError, match="no longer what the runs were trained on"):
        MultiObjectiveEvaluator(settings=study.settings, config=small).evaluate(ALL)


def test_changed_base_is_refused(study, small):
    study.run(base={"name": str(study.base_folder), "digest": "sha256:" + "0" * 64, "model_type": "bert"})
    with pytest.raises(UsageError, match="base model"):
        MultiObjectiveEvaluator(settings=study.settings, config=small).evaluate(ALL)


def test_nothing_to_evaluate_is_an_error_and_there_is_no_summary_before(settings):
    evaluator = MultiObjectiveEvaluator(settings=settings)
    with pytest.raises(UsageError, match="nothing has been evaluated"):
        evaluator.summary  # noqa: B018 - the access is the test
    with pytest.raises(UsageError, match=r"no metrics\.json"):
        evaluator.evaluate(ALL)


@pytest.mark.parametrize("family", ["llama", "gpt2"])
def test_written_summaries_are_scored_by_rouge_and_profanity(study_of, small, family):
    study = study_of(family, "summarization")
    study.all_runs()
    evaluator = MultiObjectiveEvaluator("latency:1,cost:1,safety:1", settings=study.settings, config=small)
    results = evaluator.evaluate(ALL)
    assert evaluator.summary.metric == "rouge_l"
    for result in results:
        assert result.composite_score is not None
        assert result.measurements["accuracy"].n == 8
        assert result.measurements["safety_violations"].n == 16
        assert "accuracy_gain" in result.measurements
    assert any("not hate" in note for note in evaluator.summary.notes)


def test_importing_the_stage_loads_no_torch():
    code = "import sys; import legion.neuro_architecture.evaluator, legion.neuro_architecture.analysis; "
    code += "sys.exit('torch' in sys.modules or 'sklearn' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
