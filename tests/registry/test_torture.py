"""The short form of `make torture`: every named place, some system calls, some kills, and that torture can tell."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from benchmarks.registry.inquest import Base, inspect, sums
from benchmarks.registry.torture import ACTIONS
from benchmarks.registry.victim import Place

from legion.neuro_architecture.registry import failpoints
from legion.neuro_architecture.registry.failpoints import PLACES


@pytest.fixture(scope="module")
def nursery():
    command = [sys.executable, "-m", "benchmarks.registry.torture", "--serve"]
    root = Path(__file__).parents[2]
    process = subprocess.Popen(command, cwd=root, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)

    def torture(**job):
        process.stdin.write(json.dumps(job) + "\n")
        process.stdin.flush()
        return json.loads(process.stdout.readline())

    yield torture
    process.stdin.close()
    process.wait()
    process.stdout.close()


@pytest.fixture
def folder(tmp_path):
    return tmp_path / "store"


def test_every_place_where_the_registry_can_be_made_to_fail_is_described():
    named = set()
    for path in Path(failpoints.__file__).parent.rglob("*.py"):
        named |= set(re.findall(r'(?:failpoint|first_part)\("([a-z-]+\.[a-z-]+)"', path.read_text()))
    assert named == set(PLACES)
    assert len(named) >= 30


@pytest.mark.parametrize("name", PLACES)
def test_a_kill_at_any_named_place_loses_nothing_acknowledged_and_shows_nothing_torn(nursery, folder, name):
    result = nursery(do="place", folder=str(folder), name=name, action="kill", seed=3)
    assert result["violations"] == []
    assert result["is_killed"]


@pytest.mark.parametrize("name", PLACES)
def test_a_disk_that_refuses_at_any_named_place_loses_nothing_acknowledged(nursery, folder, name):
    action = "eio" if len(name) % 2 else "enospc"
    result = nursery(do="place", folder=str(folder), name=name, action=action, seed=4)
    assert result["violations"] == []
    # a writer whose first sync failed cannot know what the disk holds, and takes nothing more until it is opened again
    assert (result["num_acknowledged"] > 0) == (name not in {"log.before-sync", "log.after-sync"})


@pytest.mark.parametrize("action", ACTIONS)
@pytest.mark.parametrize("call", [1, 2, 4, 7, 11, 16, 22, 29, 37])
def test_a_system_call_that_fails_loses_nothing_acknowledged(nursery, folder, call, action):
    result = nursery(do="call", folder=str(folder), call=call, action=action, seed=5)
    assert result["violations"] == []
    assert result["has_fired"] or action == "short"


def test_writers_killed_one_after_another_leave_every_acknowledged_deed(nursery, folder):
    base = {"size": 0, "root": ""}
    for number, after in enumerate([0, 1, 5, 2, 9, 0, 3, 14]):
        job = {"name": f"r{number}", "seed": number, "after": after, "base": base}
        result = nursery(do="kill", folder=str(folder), **job)
        assert result["violations"] == []
        assert result["is_killed"]
        assert result["num_acknowledged"] >= after
        assert result["base"]["size"] > base["size"]
        base = result["base"]


def test_what_was_acknowledged_and_is_gone_or_altered_is_reported(folder):
    place = Place(folder=folder)
    registry = place.open()
    first = registry.register("1", {"strategy": "LoRA"}, {})
    root = registry.checkpoint().root.hex()
    begin, end = {"begin": "one", "entries": 1}, {"end": 1, "root": root, "versions": {first.digest: "1"}}

    def violations(*told):
        return inspect(place, Base(), list(told), name=f"after {len(registry.list_all())}", is_thorough=True).violations

    copy = folder.with_name("copy")
    shutil.copytree(folder, copy)

    def put_back():
        shutil.rmtree(folder)
        shutil.copytree(copy, folder)

    assert violations(begin, end) == []
    put_back()
    assert violations(begin, end, {"begin": "batch", "entries": 5}) == []
    put_back()
    assert "are not those that were acknowledged" in violations(begin, end | {"root": "00" * 32})[0]
    put_back()
    assert any("2 entries were acknowledged, 1 stand" in line for line in violations(begin, end | {"end": 2}))
    put_back()
    assert "is 1" in violations(begin, end | {"versions": {first.digest: "2"}})[0]
    put_back()
    assert violations(begin, end | {"tag": "kept", "tagged": first.digest}) == ["tag kept is lost"]
    put_back()
    assert "1 entries stand after 0 acknowledged" in violations({"begin": "batch", "entries": 5})[0]
    put_back()
    moved = {"begin": "alias", "entries": 0, "subject": "b"}, {"end": 1, "root": root, "champion": "a"}
    assert "the alias names None" in violations(begin, end, *moved)[0]


def test_of_deeds_each_is_whole_or_not_there():
    assert sums([]) == {0}
    assert sums([5, 1, 5]) == {0, 1, 5, 6, 10, 11}
