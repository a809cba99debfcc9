"""Only what is comparable is compared, and whoever is left out is told why."""

from __future__ import annotations

import pytest

from legion.foundation.errors import UsageError
from legion.neuro_architecture.evaluator.candidates import find_common_ground, read_candidates
from legion.neuro_architecture.spec.training import TrialState
from legion.testing import tiny_model

ALL = ["artifacts/proxy_runs/*"]


def test_globs_files_and_folders_name_the_same_run(study):
    folder = study.run()
    for pattern in ("artifacts/proxy_runs/*", "artifacts/proxy_runs/*/metrics.json", folder.path, folder.metrics_path):
        (candidate,) = read_candidates([pattern], study.settings)
        assert candidate.proposal_id == "lora-000000000001"
        assert candidate.run == "artifacts/proxy_runs/lora-000000000001"
        assert candidate.strategy == "LoRA"
        assert candidate.reason is None


@pytest.mark.parametrize("state", [TrialState.FAILED, TrialState.INTERRUPTED, TrialState.RUNNING, TrialState.PAUSED])
def test_a_run_that_did_not_complete_has_a_reason(study, state):
    study.run("moe-000000000003", state=state, reason="loss is nan", base=None, data_digest=None)
    (candidate,) = read_candidates(ALL, study.settings)
    assert state.value in candidate.reason
    assert "loss is nan" in candidate.reason
    with pytest.raises(UsageError, match="no run can be evaluated") as caught:
        find_common_ground([candidate], study.settings)
    assert "loss is nan" in caught.value.cause


def test_a_stopped_run_may_be_measured_with_the_adapter_it_left(study):
    study.run("moe-000000000003", state=TrialState.STOPPED, reason="stopped at step 5 of 20")
    (candidate,) = read_candidates(ALL, study.settings)
    assert (candidate.state, candidate.reason) == (TrialState.STOPPED, None)


def test_a_completed_run_with_half_a_record_is_refused_by_name(study):
    study.run(data_digest=None)
    with pytest.raises(UsageError) as caught:
        read_candidates(ALL, study.settings)
    assert "lora-000000000001: the record lacks data_digest" in caught.value.cause


def test_runs_on_different_data_are_refused_by_name(study):
    study.run()
    study.run("moe-000000000003", data_digest="sha256:" + "0" * 64)
    with pytest.raises(UsageError, match="data sets") as caught:
        find_common_ground(read_candidates(ALL, study.settings), study.settings)
    assert "lora-000000000001" in caught.value.cause
    assert "000000000000: artifacts/proxy_runs/moe-000000000003" in caught.value.cause


def test_runs_on_different_bases_are_refused_by_name(study, tmp_path):
    study.run()
    other = tiny_model(tmp_path / "other", "bert", seed=5)
    study.run("moe-000000000003", base={"name": str(other), "digest": "sha256:" + "1" * 64, "model_type": "bert"})
    with pytest.raises(UsageError, match="base models"):
        find_common_ground(read_candidates(ALL, study.settings), study.settings)


def test_an_unmeasured_run_may_be_of_any_base(study):
    study.run()
    study.run("moe-000000000003", state=TrialState.FAILED, reason="x", data_digest="sha256:" + "0" * 64)
    ground = find_common_ground(read_candidates(ALL, study.settings), study.settings)
    assert ground.data_folder == study.data_folder
