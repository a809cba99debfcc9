"""Kills a step after each durable write in turn; the same call again ends it, the opposite call undoes it."""

from __future__ import annotations

import os
import signal
import subprocess
import sys

import pytest

from legion.foundation import files
from legion.foundation.errors import RefusedError

NUM_WRITES = 3  # intent, manifest, state


class KilledError(BaseException):
    """Stands for a kill: nothing in the product catches it."""


@pytest.fixture
def kill_after(monkeypatch):
    """Lets `count` files be replaced or removed, then dies at the next; `kill_after(None)` ends that."""
    left: list[int | None] = [None]
    replace, unlink = files.Path.replace, files.Path.unlink

    def spend():
        if left[0] is not None:
            if left[0] == 0:
                raise KilledError
            left[0] -= 1

    def counted_replace(path, target):
        spend()
        return replace(path, target)

    def counted_unlink(path, missing_ok=False):
        if path.name == "slots.json":
            spend()
        return unlink(path, missing_ok=missing_ok)

    monkeypatch.setattr(files.Path, "replace", counted_replace)
    monkeypatch.setattr(files.Path, "unlink", counted_unlink)

    def arm(count):
        left[0] = count

    return arm


def kill(kill_after, count, call, *arguments):
    kill_after(count)
    with pytest.raises(KilledError):
        call(*arguments)
    kill_after(None)


@pytest.mark.parametrize("count", range(NUM_WRITES))
def test_killed_apply_is_ended_by_applying_again(world, kill_after, count):
    plan = world.integrator.plan(world.summary(world.candidate(8, risk=0.9)), 1)
    kill(kill_after, count, world.integrator.apply, plan, "Ada")
    patch = world.integrator.apply(plan, approve="Ada")
    assert (patch.state, patch.status.approved_by, patch.status.intent) == ("applied", "Ada", None)
    assert world.slots.slot("tiny") == plan.after
    world.integrator.revert()
    assert not world.slots.path.exists()


@pytest.mark.parametrize("count", range(NUM_WRITES))
def test_killed_apply_is_undone_by_reverting(world, kill_after, count):
    plan = world.integrator.plan(world.summary(world.candidate(8)), 1)
    kill(kill_after, count, world.integrator.apply, plan)
    assert world.integrator.patch(plan.id).state == ("planned" if count < 2 else "applied")
    if count < 2:
        with pytest.raises(RefusedError, match="is planned"):
            world.integrator.revert(plan.id)
    else:
        assert world.integrator.revert(plan.id).state == "reverted"
    assert not world.slots.path.exists()


@pytest.mark.parametrize("is_named", [True, False])
@pytest.mark.parametrize("count", range(NUM_WRITES))
def test_killed_revert_is_ended_by_reverting_again_and_reverts_nothing_more(world, kill_after, count, is_named):
    first, second = world.applied(8), world.applied(4)
    kill(kill_after, count, world.integrator.revert)
    assert world.integrator.revert(second.id if is_named else None).id == second.id
    assert world.slots.slot("tiny") == first.plan.after
    assert [patch.state for patch in world.integrator.patches()] == ["applied", "reverted"]


@pytest.mark.parametrize("count", range(NUM_WRITES))
def test_killed_revert_to_no_manifest_is_ended_by_reverting_again(world, kill_after, count):
    patch = world.applied(8)
    kill(kill_after, count, world.integrator.revert)
    assert world.integrator.revert(patch.id).state == "reverted"
    assert not world.slots.path.exists()


def test_killed_apply_leaves_the_next_patch_free(world, kill_after):
    plan = world.integrator.plan(world.summary(world.candidate(8)), 1)
    kill(kill_after, 1, world.integrator.apply, plan)
    other = world.applied(4)
    assert world.slots.slot("tiny") == other.plan.after
    assert {patch.id: patch.state for patch in world.integrator.patches()} == {plan.id: "planned", other.id: "applied"}


def test_plan_killed_while_it_is_written_leaves_no_patch(world, monkeypatch):
    def die(*_):
        raise KilledError

    with monkeypatch.context() as patched:
        patched.setattr(files.Path, "rename", die)
        with pytest.raises(KilledError):
            world.integrator.plan(world.summary(world.candidate(8)), 1)
    assert world.integrator.patches() == []
    assert world.applied(8).state == "applied"


SELF_KILLING = """
import os, signal, sys
from legion.foundation.settings import Settings
from legion.neuro_architecture.integrator import Integrator
from legion.neuro_architecture.registry import ArchitectureRegistry

patch_id, count = sys.argv[1], int(sys.argv[2])
settings = Settings.load()
integrator = Integrator(settings, ArchitectureRegistry.of(settings))
sync, done = os.fsync, 0

def counted(descriptor):
    global done
    if done == count:
        os.kill(os.getpid(), signal.SIGKILL)
    done += 1
    sync(descriptor)

os.fsync = counted
integrator.apply(patch_id)
"""


@pytest.mark.parametrize("count", range(6))
def test_process_killed_at_each_sync_leaves_the_old_manifest_or_the_new(world, count):
    patch_before = world.applied(8)
    before = world.slots.content()
    plan = world.integrator.plan(world.summary(world.candidate(4)), 1)
    command = [sys.executable, "-c", SELF_KILLING, plan.id, str(count)]
    assert subprocess.run(command, check=False, env=dict(os.environ)).returncode == -signal.SIGKILL
    if world.slots.content() != before:
        assert world.slots.slot("tiny") == plan.after
    assert world.integrator.apply(plan).state == "applied"
    world.integrator.revert()
    assert world.slots.content() == before
    world.integrator.revert(patch_before.id)
    assert not world.slots.path.exists()
