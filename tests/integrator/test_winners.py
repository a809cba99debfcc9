from __future__ import annotations

import subprocess

import pytest

from legion.foundation.errors import IntegrityError, InvalidValueError, RefusedError, UnknownNameError, UsageError
from legion.neuro_architecture.integrator.provenance import describe_code
from legion.neuro_architecture.integrator.winners import slot_name
from legion.neuro_architecture.records import ProposalStore, RunFolder
from legion.neuro_architecture.spec.training import TrialState


def test_winners_are_registered_best_first_with_evidence_and_files(world):
    summary = world.summary(*(world.candidate(rank) for rank in (8, 4, 2)))
    snapshots = world.integrator.register_winners(summary, 2)
    assert [snapshot.config["rank"] for snapshot in snapshots] == [8, 4]
    best = snapshots[0]
    assert best.tags == ("candidate", "lora", "tiny")
    assert best.metrics["accuracy"] == 0.8
    assert best.metrics["units"]["accuracy"] == "share"
    assert best.metrics["flops_per_example"] == 1e18
    assert best.metrics["peak_memory_mb"] is None
    assert best.metrics["absent"] == {"peak_memory_mb": "not asked for"}
    assert best.provenance["proposal"] == summary.results[0].proposal_id
    assert best.provenance["data_digest"] == summary.data_digest
    assert set(best.blobs) == {"adapter_config.json", "adapter_model.safetensors", "legion_adapter.json"}
    assert world.registry.get_by_tag("candidate") == snapshots


def test_registering_winners_twice_changes_nothing(world):
    summary = world.summary(world.candidate(8))
    assert world.integrator.register_winners(summary, 1) == world.integrator.register_winners(summary, 1)
    assert len(world.registry.list_all()) == 1


@pytest.mark.parametrize("top", [0, -1])
def test_top_below_one_is_refused(world, top):
    with pytest.raises(InvalidValueError, match=f"top is {top}"):
        world.integrator.register_winners(world.summary(world.candidate(8)), top)


def test_top_above_the_number_evaluated_is_refused(world):
    with pytest.raises(InvalidValueError, match="top 3 is more than the 1 evaluated"):
        world.integrator.register_winners(world.summary(world.candidate(8)), 3)


def test_candidates_without_a_score_are_no_winners(world):
    first, second = world.candidate(8, score=None), world.candidate(4)
    summary = world.summary(first, second)
    assert [item.config["rank"] for item in world.integrator.register_winners(summary, 1)] == [4]
    with pytest.raises(InvalidValueError, match="1 candidates with a score") as caught:
        world.integrator.register_winners(summary, 2)
    assert "latency was not measured" in caught.value.cause


def test_run_trained_again_after_its_evaluation_is_refused(world):
    result = world.candidate(8)
    world.train(ProposalStore(world.settings).load(result.proposal_id), written_at="2026-01-09T00:00:00.000000Z")
    with pytest.raises(RefusedError, match="trained again"):
        world.integrator.register_winners(world.summary(result), 1)


def test_a_paused_trial_is_no_winner(world):
    result = world.candidate(8)
    world.train(ProposalStore(world.settings).load(result.proposal_id), state=TrialState.PAUSED, reason="at step 5")
    with pytest.raises(UsageError, match="paused") as caught:
        world.integrator.register_winners(world.summary(result), 1)
    assert "legion" in caught.value.hint
    assert world.registry.list_all() == []


def test_a_trial_stopped_at_a_rung_is_passed_over_whatever_its_score(world):
    stopped, finished = world.candidate(8), world.candidate(4)
    world.train(
        ProposalStore(world.settings).load(stopped.proposal_id), state=TrialState.STOPPED, reason="stopped at step 5"
    )
    summary = world.summary(stopped, finished)
    world.integrator.register_winners(summary, 1)
    (snapshot,) = world.registry.list_all()
    assert snapshot.provenance["proposal"] == finished.proposal_id
    with pytest.raises(InvalidValueError, match="more than the 1 candidates") as caught:
        world.integrator.register_winners(summary, 2)
    assert f"{stopped.proposal_id}: stopped at step 5" in caught.value.cause


def test_adapter_that_is_not_the_trained_one_is_refused(world):
    result = world.candidate(8)
    weights = RunFolder.of(world.settings, result.proposal_id).adapter_folder / "adapter_model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-1] + b"\x01")
    with pytest.raises(IntegrityError, match="not the one that was trained"):
        world.integrator.register_winners(world.summary(result), 1)


def test_missing_runs_adapters_and_proposals_are_named(world):
    result = world.candidate(8)
    run = RunFolder.of(world.settings, result.proposal_id)
    (run.adapter_folder / "adapter_config.json").unlink()
    with pytest.raises(UsageError, match=r"adapter_config\.json"):
        world.integrator.register_winners(world.summary(result), 1)
    with pytest.raises(UsageError, match="no file"):
        world.integrator.register_winners(world.summary(result.model_copy(update={"run": "artifacts/gone"})), 1)
    other = world.candidate(4)
    with pytest.raises(UsageError, match="is a run of"):
        world.integrator.register_winners(world.summary(other.model_copy(update={"run": result.run})), 1)
    (ProposalStore(world.settings).folder / f"{other.proposal_id}.json").unlink()
    with pytest.raises(UnknownNameError):
        world.integrator.register_winners(world.summary(other), 1)


def test_slot_is_named_after_the_task():
    assert slot_name("classification") == "classification"
    assert slot_name("Movie reviews: v2/../x") == "Movie-reviews-v2-..-x"
    assert slot_name("a" * 100) == "a" * 64
    with pytest.raises(InvalidValueError):
        slot_name("../..")


def git(folder, *arguments):
    identity = ("-c", "user.name=A", "-c", "user.email=a@example.org")
    subprocess.run(["git", *identity, *arguments], cwd=folder, check=True, capture_output=True)


def test_code_is_described_by_branch_commit_and_dirt(tmp_path):
    git(tmp_path, "init", "-b", "trunk")
    assert describe_code(tmp_path)["commit"] is None
    (tmp_path / "code.py").write_text("a = 1\n")
    git(tmp_path, "add", "code.py")
    git(tmp_path, "commit", "-m", "first")
    (tmp_path / "untracked.txt").write_text("")
    clean = describe_code(tmp_path)
    assert (clean["branch"], len(clean["commit"]), clean["is_dirty"]) == ("trunk", 40, False)
    (tmp_path / "code.py").write_text("a = 2\n")
    git(tmp_path, "checkout", "--detach")
    dirty = describe_code(tmp_path)
    assert (dirty["branch"], dirty["is_dirty"]) == (None, True)
    assert "detached" in dirty["branch_unknown_because"]


def test_code_outside_a_checkout_is_unknown_with_a_reason(tmp_path, monkeypatch):
    monkeypatch.setenv("GIT_CEILING_DIRECTORIES", str(tmp_path.parent))
    assert "not a git repository" in describe_code(tmp_path)["code_unknown_because"]
    monkeypatch.setenv("PATH", "")
    assert describe_code(tmp_path)["code_unknown_because"] == "git is not installed"
