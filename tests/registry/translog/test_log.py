from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
import threading
from pathlib import Path

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from legion.foundation.errors import InvalidValueError, WorldError
from legion.foundation.files import exclusive_lock
from legion.neuro_architecture.registry.translog import (
    ConsistencyProof,
    InclusionProof,
    TransparencyLog,
    hash_leaf,
    verify_inclusion,
    verify_note,
)
from legion.neuro_architecture.registry.translog.merkle import CompactRange

WRITER = """
import sys
from pathlib import Path
from legion.foundation.files import exclusive_lock
from legion.neuro_architecture.registry.translog import TransparencyLog

folder, keys, name, count = sys.argv[1:]
log = TransparencyLog(Path(folder), keys=Path(keys), segment_bytes=4000)
for step in range(int(count)):
    with exclusive_lock(Path(folder) / "lock"):
        numbers = log.append([f"{name}.{step}.{part}".encode() for part in range(1 + step % 3)])
    print(*numbers, flush=True)
"""


def test_a_fresh_log_is_empty_and_writes_nothing(log, folder, keys):
    assert (log.refresh(), log.size, log.key) == (0, 0, None)
    assert list(log.check()) == []
    assert list(log.read_range(0, 0)) == []
    assert not folder.exists()
    assert not keys.exists()
    for ask in (lambda: log.read(0), log.checkpoint, lambda: log.inclusion_proof(0), lambda: log.leaf_hash(0)):
        with pytest.raises(InvalidValueError):
            ask()


def test_what_was_appended_is_read_by_its_number(log, reopen):
    assert log.append([b"first"]) == range(1)
    assert log.append([b"", b"third" * 1000]) == range(1, 3)
    other = reopen()
    assert other.refresh() == 3
    for reader in (log, other):
        assert [reader.read(number) for number in range(3)] == [b"first", b"", b"third" * 1000]
        assert list(reader.read_range(1, 3)) == [b"", b"third" * 1000]
        assert reader.leaf_hash(0) == hash_leaf(b"first")


def test_entries_of_the_greatest_length_are_kept_and_longer_ones_refused(log, reopen):
    greatest = os.urandom(2 << 20)
    log.append([b"a", greatest, b"b"])
    assert reopen().read(1) == greatest
    assert list(reopen().read_range(0, 3)) == [b"a", greatest, b"b"]
    with pytest.raises(InvalidValueError, match="2097153"):
        log.append([b"c", greatest + b"x"])
    with pytest.raises(InvalidValueError):
        log.append([])
    assert reopen().refresh() == 3


def test_numbers_that_do_not_exist_are_refused(filled, reopen):
    log, size = reopen(), len(filled)
    for ask in (
        lambda: log.read(-1),
        lambda: log.read(size),
        lambda: list(log.read_range(2, 1)),
        lambda: list(log.read_range(0, size + 1)),
        lambda: log.inclusion_proof(3, 3),
        lambda: log.inclusion_proof(0, size + 1),
        lambda: log.consistency_proof(2, 1),
        lambda: log.consistency_proof(0, size + 1),
        lambda: log.checkpoint(0),
        lambda: log.checkpoint(size + 1),
        lambda: log.checkpoint(2),
    ):
        with pytest.raises(InvalidValueError):
            ask()


def test_every_commit_has_a_signed_checkpoint_with_the_root_of_its_entries(filled, reopen):
    log = reopen()
    compact, previous = CompactRange(), None
    for number, entry in enumerate(filled):
        compact.extend([hash_leaf(entry)])
        if number + 1 in {1, 4, 5, 7, 12, 16, 17, 18}:
            checkpoint = log.checkpoint(number + 1)
            assert (checkpoint.size, checkpoint.root, checkpoint.previous) == (number + 1, compact.root(), previous)
            assert verify_note(checkpoint.note, log.key)
            previous = checkpoint.digest
    assert log.checkpoint() == checkpoint


def test_every_proof_of_every_size_verifies(filled, reopen):
    log, compact, roots = reopen(), CompactRange(), []
    for entry in filled:
        roots.append(compact.root())
        compact.extend([hash_leaf(entry)])
    roots.append(compact.root())
    for size in range(len(filled) + 1):
        for number in range(size):
            proof = log.inclusion_proof(number, size)
            assert proof.root == roots[size]
            assert verify_inclusion(hash_leaf(filled[number]), number, size, proof.path, roots[size])
            assert InclusionProof.parse(proof.to_dict()) == proof
        for old in range(size + 1):
            consistency = log.consistency_proof(old, size)
            assert (consistency.old_root, consistency.new_root) == (roots[old], roots[size])
            assert consistency.verify()
            assert ConsistencyProof.parse(consistency.to_dict()) == consistency


def test_segments_roll_between_commits_and_are_named_by_their_first_entry(filled, folder):
    names = sorted(path.name for path in (folder / "segments").glob("*.seg"))
    assert names[0] == "00000000.seg"
    assert len(names) >= 3
    assert all(path.stat().st_size >= 900 for path in sorted((folder / "segments").glob("*.seg"))[:-1])


def test_a_commit_is_one_write_and_one_sync_of_the_segment(log, folder, monkeypatch):
    log.append([b"first"])
    (segment,) = (folder / "segments").glob("*.seg")
    writes, syncs, real_write, real_sync = [], [], os.pwrite, os.fdatasync

    def pwrite(descriptor, content, offset):
        if os.fstat(descriptor).st_ino == segment.stat().st_ino:
            writes.append(len(content))
        return real_write(descriptor, content, offset)

    def fdatasync(descriptor):
        syncs.append((os.fstat(descriptor).st_ino, segment.stat().st_size))
        real_sync(descriptor)

    monkeypatch.setattr(os, "pwrite", pwrite)
    monkeypatch.setattr(os, "fdatasync", fdatasync)
    before = segment.stat().st_size
    log.append([b"second", b"third"])
    status = segment.stat()
    assert writes == [status.st_size - before]
    assert syncs == [(status.st_ino, status.st_size)]  # after the write, and nothing else is waited for


def test_the_name_of_a_segment_is_durable_before_its_first_commit_is_written(log, folder, monkeypatch):
    synced = []
    real = os.fsync

    def fsync(descriptor):
        sizes = [path.stat().st_size for path in (folder / "segments").glob("*.seg")]
        synced.append((os.fstat(descriptor).st_ino, sizes))
        real(descriptor)

    monkeypatch.setattr(os, "fsync", fsync)
    log.append([b"first"])
    for parent in (folder / "segments", folder):
        assert (parent.stat().st_ino, [0]) in synced


def test_a_reader_follows_a_writer_over_segments_without_opening_anew(reopen):
    writer, reader = reopen(segment_bytes=900), reopen()
    assert reader.refresh() == 0
    entries = []
    for step in range(30):
        entries.append(b"%d" % step * 20)
        writer.append(entries[-1:])
        assert reader.refresh() == step + 1
        assert reader.read(step) == entries[step]
        assert reader.checkpoint() == writer.checkpoint()
    assert list(reader.read_range(0, 30)) == entries


def test_two_objects_that_write_in_turn_see_each_other(reopen):
    first, second = reopen(segment_bytes=900), reopen(segment_bytes=900)
    for step in range(12):
        (first, second)[step % 2].append([b"%d" % step])
    assert first.refresh() == second.refresh() == 12
    assert [first.read(step) for step in range(12)] == [b"%d" % step for step in range(12)]
    assert list(reopen().check()) == []


@pytest.mark.parametrize("lost", ["tile", "idx", "both", "lying idx", "torn idx"])
def test_derived_files_are_made_again(reopen, folder, lost):
    log = reopen(segment_bytes=20_000)
    entries = [b"%d" % number * 9 for number in range(1200)]
    for start in range(0, 1200, 40):
        log.append(entries[start : start + 40])
    before = {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}
    if lost in {"tile", "both"}:
        shutil.rmtree(folder / "tile")
    for path in (folder / "segments").glob("*.idx"):
        if lost in {"idx", "both"}:
            path.unlink()
        elif lost == "lying idx":
            path.write_bytes(path.read_bytes()[::-1])
        elif lost == "torn idx":
            path.write_bytes(path.read_bytes()[:21])
    reader = reopen()
    assert reader.refresh() == 1200
    assert [reader.read(number) for number in range(0, 1200, 37)] == entries[::37]
    assert list(reader.read_range(0, 1200)) == entries
    assert reader.inclusion_proof(77).verify()
    reader.repair()
    assert {path: path.read_bytes() for path in before if path.name != "checkpoint"} == {
        path: content for path, content in before.items() if path.name != "checkpoint"
    }
    assert list(reopen().check()) == []
    reopen(segment_bytes=20_000).append([b"more"])
    assert list(reopen().check()) == []


def test_offsets_deleted_under_a_writer_are_written_whole(reopen, folder):
    writer = reopen()
    writer.append([b"first"])
    writer = reopen()
    writer.refresh()
    for path in (folder / "segments").glob("*.idx"):
        path.unlink()
    for entry in (b"second", b"third"):
        writer.append([entry])
    assert [writer.read(number) for number in range(3)] == [b"first", b"second", b"third"]
    assert list(reopen().check()) == []


def test_a_machine_without_the_private_key_reads_and_proves_and_is_told_how_to_write(filled, folder, tmp_path, reopen):
    elsewhere = reopen(keys=tmp_path / "other keys")
    assert elsewhere.refresh() == len(filled)
    assert elsewhere.read(3) == filled[3]
    assert elsewhere.inclusion_proof(3).verify()
    assert list(elsewhere.check()) == []
    with pytest.raises(WorldError, match="private key") as caught:
        elsewhere.append([b"more"])
    assert ".key" in caught.value.hint
    assert reopen().refresh() == len(filled)


def test_a_private_key_that_others_may_read_is_refused(filled, keys, reopen):
    (key,) = keys.glob("*.key")
    assert key.stat().st_mode & 0o777 == 0o600
    key.chmod(0o644)
    with pytest.raises(WorldError, match="others may read") as caught:
        reopen().append([b"more"])
    assert caught.value.hint == f"chmod 600 {key}"
    key.chmod(0o600)
    reopen().append([b"more"])


def test_threads_share_one_object(reopen, folder):
    log = reopen(segment_bytes=3000)
    log.append([b"first"])
    errors, written = [], {}

    def write(name):
        try:
            for step in range(15):
                entry = f"{name}.{step}".encode()
                with lock:
                    (number,) = log.append([entry])
                written[number] = entry
        except BaseException as error:
            errors.append(error)
            raise

    def read():
        try:
            for _ in range(60):
                size = log.refresh()
                assert log.inclusion_proof(size - 1, size).verify()
                assert len(list(log.read_range(0, size))) == size
        except BaseException as error:
            errors.append(error)
            raise

    lock = threading.Lock()
    threads = [threading.Thread(target=write, args=(name,)) for name in "abc"]
    threads += [threading.Thread(target=read) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert errors == []
    assert log.size == 46
    assert {number: log.read(number) for number in range(1, 46)} == written
    assert list(reopen().check()) == []


def test_four_processes_that_append_in_turn_lose_nothing(folder, keys, reopen):
    command = [sys.executable, "-c", WRITER, str(folder), str(keys)]
    writers = [
        subprocess.Popen([*command, name, "25"], stdout=subprocess.PIPE, text=True) for name in ("a", "b", "c", "d")
    ]
    outputs = [writer.communicate()[0] for writer in writers]
    assert [writer.returncode for writer in writers] == [0] * 4
    log = reopen()
    assert log.refresh() == 4 * 49
    for name, output in zip("abcd", outputs, strict=True):
        for step, line in enumerate(output.splitlines()):
            for part, number in enumerate(map(int, line.split())):
                assert log.read(number) == f"{name}.{step}.{part}".encode()
    assert list(reopen().check()) == []


def test_a_keyboard_interrupt_in_a_commit_leaves_the_log_sound(log, reopen, monkeypatch):
    log.append([b"a"])
    real = os.fdatasync

    def interrupted(descriptor):
        real(descriptor)
        raise KeyboardInterrupt

    monkeypatch.setattr(os, "fdatasync", interrupted)
    with pytest.raises(KeyboardInterrupt):
        log.append([b"b"])
    monkeypatch.undo()
    assert log.append([b"c"]) == range(2, 3)
    assert [reopen().read(number) for number in range(3)] == [b"a", b"b", b"c"]


class LogMachine(RuleBasedStateMachine):
    """The log against a list of bytes."""

    def __init__(self):
        super().__init__()
        self.root = tempfile.TemporaryDirectory()
        self.folder = Path(self.root.name)
        self.entries = []
        self.log = self.open()
        self.reader = self.open()

    def open(self):
        return TransparencyLog(self.folder / "registry", keys=self.folder / "keys", segment_bytes=600)

    @rule(entries=st.lists(st.binary(max_size=300), min_size=1, max_size=6))
    def append(self, entries):
        with exclusive_lock(self.folder / "lock"):
            assert self.log.append(entries) == range(len(self.entries), len(self.entries) + len(entries))
        self.entries += entries

    @rule(count=st.integers(100, 300))
    def append_many(self, count):
        self.append([b"%d" % number for number in range(count)])

    @rule()
    def reopen(self):
        self.log.close()
        self.log = self.open()

    @rule()
    def swap(self):
        self.log, self.reader = self.reader, self.log

    @rule()
    def lose_derived_files(self):
        shutil.rmtree(self.folder / "registry" / "tile", ignore_errors=True)
        for path in (self.folder / "registry" / "segments").glob("*.idx"):
            path.unlink()
        self.reopen()

    @precondition(lambda self: self.entries)
    @rule(data=st.data())
    def read(self, data):
        assert self.reader.refresh() == len(self.entries)
        number = data.draw(st.integers(0, len(self.entries) - 1))
        size = data.draw(st.integers(number + 1, len(self.entries)))
        assert self.reader.read(number) == self.entries[number]
        assert self.reader.inclusion_proof(number, size).verify()
        assert self.reader.consistency_proof(number, size).verify()
        assert list(self.reader.read_range(number, size)) == self.entries[number:size]

    @rule()
    def check(self):
        assert list(self.reader.check()) == []

    @invariant()
    def root_is_that_of_the_list(self):
        if self.log.refresh():
            compact = CompactRange()
            compact.extend(map(hash_leaf, self.entries))
            assert self.log.checkpoint().root == compact.root()

    def teardown(self):
        self.log.close()
        self.reader.close()
        self.root.cleanup()


TestLogAgainstAList = LogMachine.TestCase
TestLogAgainstAList.settings = settings(max_examples=15, stateful_step_count=15, deadline=None)


def test_any_range_of_entries_is_read_as_it_was_written(reopen):
    """Over whole hash tiles, the open one, and both."""
    log = reopen()
    entries = [b"%d" % number for number in range(600)]
    log.append(entries[:500])
    log.append(entries[500:])
    for start in range(0, 600, 47):
        for stop in (start, start + 1, min(start + 255, 600), 512, 513, 600):
            if stop >= start:
                assert list(reopen().read_range(start, stop)) == entries[start:stop]
