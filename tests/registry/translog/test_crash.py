"""Kills a writer at every named place, and lets the disk refuse there."""

from __future__ import annotations

import json
import re
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from legion.foundation.errors import ConfigError, IntegrityError, LegionError, WorldError
from legion.neuro_architecture.registry import failpoints
from legion.neuro_architecture.registry.failpoints import activated, failpoint, first_part
from legion.neuro_architecture.registry.translog import TransparencyLog

SEGMENT_BYTES = 6000

# One process that forks a writer for each request, because starting Python costs more than the test.
NURSERY = """
import json, os, sys
from pathlib import Path
from legion.neuro_architecture.registry.failpoints import activated
from legion.neuro_architecture.registry.translog import TransparencyLog

def entry(number):
    return b"%d " % number * (number % 9)

for line in sys.stdin:
    folder, keys, rules, count, segment_bytes = json.loads(line)
    reader, writer = os.pipe()
    child = os.fork()
    if child == 0:
        os.close(reader)
        with activated(rules):
            log = TransparencyLog(Path(folder), keys=Path(keys), segment_bytes=segment_bytes)
            size = log.refresh()
            for step in range(count):
                log.append([entry(size + place) for place in range(1 + step % 3 * 45)])
                size = log.size
                os.write(writer, b"%d\\n" % size)
        os._exit(0)
    os.close(writer)
    with os.fdopen(reader) as pipe:
        acknowledged = [int(text) for text in pipe.read().split()]
    _, status = os.waitpid(child, 0)
    print(json.dumps([acknowledged, os.waitstatus_to_exitcode(status)]), flush=True)
"""

KEYS = ["log.before-key", "log.after-key", "log.before-origin", "log.after-origin", "log.after-key-pub"]
WRITES = [
    "log.before-roll",
    "log.during-roll",
    "log.after-roll",
    "log.before-write",
    "log.during-write",
    "log.after-write",
    "log.before-sync",
]
DERIVED = [
    "log.after-sync",
    "log.before-offsets",
    "log.during-offsets",
    "log.after-offsets",
    "log.before-tile",
    "log.during-tile",
    "log.after-tile",
    "log.before-publish",
    "log.during-publish",
    "log.after-publish",
    "log.before-acknowledge",
    "log.before-remember",
    "log.after-remember",
]
CUTS = ["log.before-cut", "log.after-cut"]  # only where a writer was killed before
UNDO = ["log.before-undo"]  # only where a write failed before


def entry(number):
    return b"%d " % number * (number % 9)


@pytest.fixture(scope="module")
def nursery():
    process = subprocess.Popen(
        [sys.executable, "-c", NURSERY], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )

    def write(folder, keys, rules, count=8):
        process.stdin.write(json.dumps([str(folder), str(keys), rules, count, SEGMENT_BYTES]) + "\n")
        process.stdin.flush()
        return json.loads(process.stdout.readline())

    yield write
    process.stdin.close()
    process.wait()
    process.stdout.close()


def assert_sound(folder, keys, acknowledged, most):
    """Nothing acknowledged is lost, nothing torn is seen, and the next writer goes on."""
    log = TransparencyLog(folder, keys=keys, segment_bytes=SEGMENT_BYTES)
    size = log.refresh()
    assert max(acknowledged, default=0) <= size <= most
    assert list(log.read_range(0, size)) == [entry(number) for number in range(size)]
    assert list(log.check()) == []
    log.append([entry(size), entry(size + 1)])
    assert log.inclusion_proof(size).verify()
    log.close()
    again = TransparencyLog(folder, keys=keys)
    assert again.refresh() == size + 2
    assert list(again.check()) == []
    again.close()


def next_size(size, step):
    return size + 1 + step % 3 * 45


def test_the_lists_of_this_test_name_every_failpoint_of_the_log():
    package = Path(failpoints.__file__).parent / "translog"
    named = set()
    for path in package.glob("*.py"):
        named |= set(re.findall(r'(?:failpoint|first_part)\("(log\.[a-z-]+)"', path.read_text()))
    assert named == {*KEYS, *WRITES, *DERIVED, *CUTS, *UNDO}
    assert len(named) >= 15


@pytest.mark.parametrize("turn", [1, 2, 5])
@pytest.mark.parametrize("name", [*WRITES, *DERIVED])
def test_a_kill_at_a_failpoint_leaves_a_prefix_of_the_commits(nursery, folder, keys, name, turn):
    num_commits = 66 if "publish" in name else 12  # a checkpoint is published at every 64th
    acknowledged, code = nursery(folder, keys, f"{name}=kill:{turn}", num_commits)
    if code == 0:
        assert turn > 1  # not every place is passed so often
        assert "roll" in name or "tile" in name or "publish" in name
    most = next_size(max(acknowledged, default=0), len(acknowledged)) if code else acknowledged[-1]
    assert code in {0, -signal.SIGKILL}
    assert_sound(folder, keys, acknowledged, most)


@pytest.mark.parametrize("name", KEYS)
def test_a_kill_while_a_log_is_made_leaves_none_and_the_next_writer_makes_it(nursery, folder, keys, name):
    assert nursery(folder, keys, f"{name}=kill") == [[], -signal.SIGKILL]
    assert_sound(folder, keys, [], 0)


@pytest.mark.parametrize("name", CUTS)
@pytest.mark.parametrize("first", ["log.during-write", "log.after-write"])
def test_a_kill_while_a_torn_tail_is_cut_off_leaves_the_commits_before(nursery, folder, keys, name, first):
    acknowledged, code = nursery(folder, keys, f"{first}=kill:5")
    assert (len(acknowledged), code) == (4, -signal.SIGKILL)
    more, code = nursery(folder, keys, f"{name}=kill", count=1)
    assert code == (-signal.SIGKILL if first == "log.during-write" else 0)
    most = max([*acknowledged, *more]) if code else more[-1]
    assert_sound(folder, keys, acknowledged, most)


@pytest.mark.parametrize("action", ["eio", "enospc"])
@pytest.mark.parametrize("name", [*WRITES, *KEYS])
def test_a_disk_that_refuses_a_commit_leaves_the_log_as_it_was(folder, keys, name, action):
    log = TransparencyLog(folder, keys=keys, segment_bytes=SEGMENT_BYTES)
    with activated(f"{name}={action}"), pytest.raises(WorldError) as caught:
        log.append([entry(0), entry(1)])
    assert "failpoint" in caught.value.render()
    assert log.refresh() == 0
    if name == "log.before-sync":
        with pytest.raises(WorldError, match="opened again"):
            log.append([entry(0)])
        log.close()
    log.append([entry(0)])
    size = log.size
    with activated(f"{name}={action}+"):
        for step in range(40):
            try:
                log.append([entry(size + place) for place in range(1 + step % 3)])
            except WorldError:
                assert log.refresh() == size
                break
            size = log.size
    assert size < 60 or name in KEYS
    log.close()
    assert_sound(folder, keys, [size], size)


@pytest.mark.parametrize("action", ["eio", "enospc"])
@pytest.mark.parametrize("name", [name for name in DERIVED if name != "log.after-sync"])
def test_a_disk_that_refuses_what_is_derived_does_not_lose_the_commit(folder, keys, name, action, caplog):
    log = TransparencyLog(folder, keys=keys, segment_bytes=SEGMENT_BYTES)
    size = 0
    with activated(f"{name}={action}+"):
        for step in range(8):
            log.append([entry(size + place) for place in range(1 + step % 3 * 45)])
            size = log.size
    assert "derived files" in caplog.text or "cannot remember" in caplog.text
    assert log.read(size - 1) == entry(size - 1)
    log.close()
    assert_sound(folder, keys, [size], size)


def test_a_short_write_is_carried_on(folder, keys):
    log = TransparencyLog(folder, keys=keys)
    with activated("log.during-write=short+"):
        log.append([entry(0), entry(1)])
    assert_sound(folder, keys, [2], 2)


def test_a_disk_that_is_full_in_the_middle_of_a_write_leaves_no_byte_of_it(folder, keys):
    log = TransparencyLog(folder, keys=keys)
    log.append([entry(0)])
    path = folder / "segments" / "00000000.seg"
    before = path.read_bytes()
    with activated("log.during-write=enospc"), pytest.raises(WorldError, match="nothing was committed"):
        log.append([entry(1)])
    assert path.read_bytes() == before
    assert_sound(folder, keys, [1], 1)


def test_a_write_that_cannot_be_taken_back_poisons_the_writer_until_it_is_opened_again(folder, keys):
    log = TransparencyLog(folder, keys=keys)
    log.append([entry(0)])
    with (
        activated("log.during-write=enospc,log.before-undo=eio"),
        pytest.raises(WorldError, match="nothing was acknowledged"),
    ):
        log.append([entry(1)])
    with pytest.raises(WorldError, match="opened again"):
        log.append([entry(1)])
    assert log.read(0) == entry(0)
    log.close()
    assert log.append([entry(1)]) == range(1, 2)
    assert_sound(folder, keys, [2], 2)


def test_a_torn_tail_is_ignored_at_every_length(folder, keys):
    log = TransparencyLog(folder, keys=keys)
    log.append([entry(1)])
    (path,) = (folder / "segments").glob("*.seg")
    start = path.stat().st_size
    copy = folder.parent / "copy"
    copy.mkdir()
    state = {item: item.read_bytes() for item in [*folder.rglob("*"), *keys.rglob("*")] if item.is_file()}
    log.append([entry(2), entry(3)])
    log.close()
    content = path.read_bytes()
    for item in [*folder.rglob("*"), *keys.rglob("*")]:
        if item.is_file() and item not in state:
            item.unlink()
    for length in range(start, len(content)):
        for item, before in state.items():
            item.write_bytes(before)
        path.write_bytes(content[:length])
        reader = TransparencyLog(folder, keys=keys)
        assert reader.refresh() == 1
        assert list(reader.check()) == []
        reader.close()
    path.write_bytes(content[:start] + bytes(5000))  # what a power failure may leave
    assert TransparencyLog(folder, keys=keys).refresh() == 1
    path.write_bytes(content[:-1])
    writer = TransparencyLog(folder, keys=keys)
    assert writer.append([entry(5)]) == range(1, 2)
    assert path.stat().st_size < len(content)
    assert list(writer.check()) == []


def test_bytes_that_no_writer_leaves_are_an_error_and_are_not_cut_off(folder, keys):
    log = TransparencyLog(folder, keys=keys)
    log.append([entry(1)])
    (path,) = (folder / "segments").glob("*.seg")
    path.write_bytes(path.read_bytes() + b"who wrote this?")
    content = path.read_bytes()
    for reader in (log, TransparencyLog(folder, keys=keys)):
        with pytest.raises(IntegrityError, match="damaged at byte"):
            reader.append([entry(2)])
    assert path.read_bytes() == content


def test_rules_fire_at_their_turn_only():
    with activated("a.b=eio:2,c=enospc:1+,d=short"):
        failpoint("a.b")
        with pytest.raises(OSError, match=r"failpoint a\.b"):
            failpoint("a.b")
        failpoint("a.b")
        for _ in range(2):
            with pytest.raises(OSError, match="failpoint c"):
                failpoint("c")
        assert first_part("d", 11) == 5
        failpoint("d")
        assert first_part("d", 11) == 11
        failpoint("not named")
    failpoint("c")


def test_rules_that_cannot_be_understood_are_refused():
    for rules in ("a", "a=b", "a=kill:0", "a=kill:x", "A=kill"):
        with pytest.raises(ConfigError), activated(rules):
            pass
    assert issubclass(ConfigError, LegionError)
