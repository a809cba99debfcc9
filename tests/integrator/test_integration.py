from __future__ import annotations

import dataclasses
import json

import pytest

from legion.foundation.errors import IntegrityError, InvalidValueError, RefusedError, UnknownNameError
from legion.neuro_architecture.integrator import Integrator
from legion.neuro_architecture.spec.slot import Slot, SlotManifest


def test_plan_changes_no_slot_and_can_be_read(world):
    plan = world.integrator.plan(world.summary(world.candidate(8), world.candidate(4)), 2)
    assert not world.slots.path.exists()
    folder = world.settings.workspace / "orchestrator" / "patches" / plan.id
    assert {path.name for path in folder.iterdir()} == {
        "plan.json",
        "apply.json",
        "revert.json",
        "state.json",
        "README.md",
    }
    assert json.loads((folder / "apply.json").read_text())["entry"] == plan.after.to_dict()
    assert json.loads((folder / "revert.json").read_text())["manifest_text"] is None
    page = (folder / "README.md").read_text()
    for text in (plan.after.snapshot, "it is rather wide", "| accuracy | 0.8 share | 0.08 | 24 | 0.7 |", plan.id):
        assert text in page
    assert plan.slot == "tiny"
    assert plan.registered == tuple(item.digest for item in world.registry.list_all())
    assert plan.after.labels == ("negative", "positive")
    assert (plan.after.target_column, plan.after.max_tokens) == ("opinion", 64)


def test_planning_the_same_again_gives_the_waiting_plan(world):
    summary = world.summary(world.candidate(8))
    assert world.integrator.plan(summary, 1) == world.integrator.plan(summary, 1)
    assert len(world.integrator.patches()) == 1


def test_planning_what_is_applied_gives_the_applied_patch(world):
    summary = world.summary(world.candidate(8))
    plan = world.integrator.plan(summary, 1)
    world.integrator.apply(plan)
    assert world.integrator.plan(summary, 1) == plan
    assert [patch.state for patch in world.integrator.patches()] == ["applied"]


def test_applied_patch_fills_its_slot_and_is_recorded(world):
    plan = world.integrator.plan(world.summary(world.candidate(8)), 1)
    patch = world.integrator.apply(plan.id, approve="Ada")
    assert world.slots.slot("tiny") == plan.after
    assert (patch.state, patch.status.approved_by) == ("applied", "Ada")
    assert world.integrator.patch(plan.id) == patch
    assert world.integrator.patches() == [patch]
    assert patch.to_dict()["status"]["applied_at"] == patch.changed_at


def test_applying_again_changes_nothing(world):
    patch = world.applied(8)
    before = world.slots.content(), world.integrator.patches()
    assert world.integrator.apply(patch.plan, approve="Somebody else") == patch
    assert (world.slots.content(), world.integrator.patches()) == before


def test_risk_above_the_threshold_needs_a_name(world):
    plan = world.integrator.plan(world.summary(world.candidate(8, risk=0.7)), 1)
    with pytest.raises(RefusedError) as caught:
        world.integrator.apply(plan)
    shown = caught.value.render()
    for text in ("0.70", "0.5", "it is rather wide", "legion integrate --top 1 --approve NAME"):
        assert text in shown
    assert caught.value.exit_code == 1
    assert not world.slots.path.exists()
    assert world.integrator.apply(plan, approve="Ada Lovelace").status.approved_by == "Ada Lovelace"


def test_risk_at_the_threshold_passes(world):
    settings = dataclasses.replace(world.settings, risk_threshold=0.7)
    plan = world.integrator.plan(world.summary(world.candidate(8, risk=0.7)), 1)
    assert Integrator(settings, world.registry).apply(plan).state == "applied"


@pytest.mark.parametrize("name", ["", " ", "a\nb", "x" * 101, "\x1b[31m"])
def test_approvers_without_a_plain_name_are_refused(world, name):
    plan = world.integrator.plan(world.summary(world.candidate(8)), 1)
    with pytest.raises(InvalidValueError, match="approver"):
        world.integrator.apply(plan, approve=name)


def test_manifest_changed_since_planning_is_refused(world):
    plan = world.integrator.plan(world.summary(world.candidate(8)), 1)
    world.slots.replace(SlotManifest(slots={"other": Slot(name="other", task_kind="summarization", base=world.base)}))
    with pytest.raises(RefusedError, match="changed since"):
        world.integrator.apply(plan)
    again = world.integrator.plan(world.summary(world.candidate(8)), 1)
    assert again.id != plan.id
    assert world.integrator.apply(again).state == "applied"
    assert set(world.slots.read().slots) == {"other", "tiny"}


def test_reformatted_manifest_counts_as_changed(world):
    world.applied(8)
    summary = world.summary(world.candidate(4))
    plan = world.integrator.plan(summary, 1)
    world.slots.path.write_bytes(world.slots.content().replace(b"\n", b"\n "))
    with pytest.raises(RefusedError, match="changed since"):
        world.integrator.apply(plan)
    assert world.integrator.apply(world.integrator.plan(summary, 1)).state == "applied"


def test_altered_blob_stops_the_patch(world):
    plan = world.integrator.plan(world.summary(world.candidate(8)), 1)
    digest = world.registry.get(plan.after.snapshot).blobs["adapter_model.safetensors"].removeprefix("sha256:")
    blob = world.registry.root / "blobs" / "sha256" / digest[:2] / digest
    blob.chmod(0o644)
    blob.write_bytes(b"other")
    with pytest.raises(IntegrityError, match=r"adapter_model\.safetensors"):
        world.integrator.apply(plan)
    assert not world.slots.path.exists()


def test_plan_changed_by_hand_is_refused(world):
    plan = world.integrator.plan(world.summary(world.candidate(8, risk=0.9)), 1)
    with pytest.raises(RefusedError, match="as it is stored"):
        world.integrator.apply(plan.model_copy(update={"risk_score": 0.1}))
    path = world.settings.workspace / "orchestrator" / "patches" / plan.id / "plan.json"
    path.write_text(path.read_text().replace('"risk_score": 0.9', '"risk_score": 0.1'))
    with pytest.raises(IntegrityError, match="not the plan"):
        world.integrator.apply(plan.id)


def test_slot_never_changes_its_kind_of_task(world):
    world.applied(8)
    with pytest.raises(RefusedError, match="does classification"):
        world.integrator.plan(world.summary(world.candidate(4, kind="summarization")), 1)


def test_revert_restores_the_absence_of_the_manifest(world):
    patch = world.applied(8)
    assert world.integrator.revert().state == "reverted"
    assert not world.slots.path.exists()
    assert world.integrator.revert(patch.id).state == "reverted"
    with pytest.raises(RefusedError, match="nothing to revert"):
        world.integrator.revert()
    with pytest.raises(RefusedError, match="was reverted"):
        world.integrator.apply(patch.id)


def test_revert_restores_the_manifest_byte_for_byte(world):
    text = '{"slots":  {\n\t"other": {"name": "other", "task_kind": "summarization", "base": %s}}}\r\n'
    original = (text % json.dumps(world.base.to_dict())).encode()
    world.slots.path.parent.mkdir(parents=True)
    world.slots.path.write_bytes(original)
    world.applied(8)
    assert world.slots.content() != original
    world.integrator.revert()
    assert world.slots.content() == original


def test_reverts_go_back_one_patch_at_a_time(world):
    first, second = world.applied(8), world.applied(4)
    with pytest.raises(RefusedError, match=second.id):
        world.integrator.revert(first.id)
    assert world.integrator.revert().id == second.id
    assert world.slots.slot("tiny") == first.plan.after
    assert world.integrator.revert().id == first.id
    assert not world.slots.path.exists()


def test_reverting_one_slot_leaves_another_alone(world):
    first, other = world.applied(8), world.applied(4, task="other")
    world.integrator.revert(first.id)
    assert world.slots.read().slots == {"other": other.plan.after}
    world.integrator.revert(other.id)
    assert not world.slots.path.exists()


def test_slot_changed_by_hand_is_not_reverted_over(world):
    patch = world.applied(8)
    slot = patch.plan.after.model_copy(update={"snapshot": None})
    world.slots.replace(SlotManifest(slots={"tiny": slot}))
    with pytest.raises(RefusedError, match="no longer as patch"):
        world.integrator.revert()
    assert world.slots.slot("tiny") == slot


def test_reverted_winner_can_be_planned_and_applied_again(world):
    summary = world.summary(world.candidate(8))
    first = world.integrator.apply(world.integrator.plan(summary, 1))
    world.integrator.revert()
    second = world.integrator.apply(world.integrator.plan(summary, 1))
    assert second.id != first.id
    assert [patch.state for patch in world.integrator.patches()] == ["reverted", "applied"]


def test_unknown_patches_are_named(world):
    patch = world.applied(8)
    assert world.integrator.patch(patch.id[:8]).id == patch.id
    for call in (world.integrator.revert, world.integrator.apply, world.integrator.patch):
        with pytest.raises(UnknownNameError, match="tiny-x"):
            call("tiny-x")
    waiting = world.integrator.plan(world.summary(world.candidate(4)), 1)
    with pytest.raises(RefusedError, match="is planned"):
        world.integrator.revert(waiting.id)
