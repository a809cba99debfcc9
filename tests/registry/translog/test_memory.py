"""What this machine remembers is what the log must continue."""

from __future__ import annotations

import shutil

import pytest
from tests.registry.translog.forging import forge

from legion.foundation.errors import IntegrityError
from legion.neuro_architecture.registry.translog import Signer, TransparencyLog, hash_leaf
from legion.neuro_architecture.registry.translog.frames import encode_commit
from legion.neuro_architecture.registry.translog.memory import LogMemory
from legion.neuro_architecture.registry.translog.merkle import CompactRange


def problems(log):
    return {damage.problem for damage in log.check()}


@pytest.fixture
def older(filled, folder, tmp_path):
    """A copy of the whole folder, made before three more commits."""
    copy = tmp_path / "older"
    shutil.copytree(folder, copy)
    return copy


def append_more(log):
    for entry in (b"more", b"and more", b"and more again"):
        log.append([entry])


def put(source, folder):
    shutil.rmtree(folder)
    shutil.copytree(source, folder)


def test_an_older_copy_of_the_whole_folder_is_a_rollback(older, filled, folder, reopen):
    append_more(reopen())
    put(older, folder)
    with pytest.raises(IntegrityError, match="rolled back") as caught:
        reopen().refresh()
    assert f"remembered are {len(filled) + 3} entries" in caught.value.cause
    assert f"there stand {len(filled)}" in caught.value.cause
    with pytest.raises(IntegrityError, match="rolled back"):
        reopen().append([b"x"])
    (damage,) = reopen().check()
    assert (damage.problem, damage.entry, damage.stop_entry) == ("rolled back", len(filled), len(filled) + 3)
    assert damage.path.startswith("segments/")


def test_a_rollback_under_a_running_process_is_seen_without_the_keys_folder(older, filled, folder, keys, reopen):
    log = reopen()
    append_more(log)
    shutil.rmtree(keys)
    put(older, folder)
    with pytest.raises(IntegrityError, match="rolled back"):
        log.refresh()
    with pytest.raises(IntegrityError, match="rolled back"):
        log.read(0)


def test_a_truncated_segment_under_a_running_process_is_a_rollback(filled, folder, reopen):
    log = reopen()
    log.refresh()
    last = max((folder / "segments").glob("*.seg"))
    last.write_bytes(last.read_bytes()[:-1])
    with pytest.raises(IntegrityError, match="rolled back"):
        log.refresh()


def test_a_fork_of_the_same_size_is_found(older, filled, folder, tmp_path, keys, reopen):
    append_more(reopen())
    forked_keys = tmp_path / "keys before"
    shutil.copytree(keys, forked_keys)
    (seen,) = forked_keys.glob("*.seen")
    seen.unlink()
    fork = TransparencyLog(older, keys=forked_keys)
    for entry in (b"MORE", b"AND MORE", b"AND MORE AGAIN"):
        fork.append([entry])
    put(older, folder)
    with pytest.raises(IntegrityError, match="fork") as caught:
        reopen().refresh()
    assert f"remembered are {len(filled) + 3} entries, root" in caught.value.cause
    assert problems(reopen()) == {"forked"}


def test_a_longer_fork_is_found(older, filled, folder, tmp_path, keys, reopen):
    append_more(reopen())
    forked_keys = tmp_path / "keys before"
    shutil.copytree(keys, forked_keys)
    (seen,) = forked_keys.glob("*.seen")
    seen.unlink()
    TransparencyLog(older, keys=forked_keys).append([b"%d" % number for number in range(500)])
    put(older, folder)
    with pytest.raises(IntegrityError, match="fork"):
        reopen().refresh()
    assert problems(reopen()) == {"forked"}


def test_a_fork_under_a_running_process_is_found(older, filled, folder, tmp_path, keys, reopen):
    running = reopen()
    running.refresh()
    (seen,) = keys.glob("*.seen")
    before = seen.read_bytes()
    running.append([b"a"])
    seen.write_bytes(before)
    fork = TransparencyLog(older, keys=keys)
    fork.append([b"A"])
    fork.append([b"B"])
    for path in (older / "segments").iterdir():
        (folder / "segments" / path.name).write_bytes(path.read_bytes())  # the same files, other bytes
    with pytest.raises(IntegrityError):
        running.refresh()


def test_a_longer_fork_that_a_running_process_meets_is_not_remembered(older, filled, folder, tmp_path, keys, reopen):
    running = reopen()
    running.refresh()
    forked_keys = tmp_path / "keys before"
    shutil.copytree(keys, forked_keys)
    append_more(reopen())
    TransparencyLog(older, keys=forked_keys).append([b"%d" % number for number in range(9)])
    for path in (older / "segments").iterdir():
        (folder / "segments" / path.name).write_bytes(path.read_bytes())  # the same files, other bytes
    for log in (running, running, reopen()):
        with pytest.raises(IntegrityError, match="fork"):
            log.refresh()


def test_a_deleted_folder_is_told_of_and_may_begin_anew(filled, folder, reopen, caplog):
    shutil.rmtree(folder)
    assert reopen().refresh() == 0
    assert f"{len(filled)} entries" in caplog.text
    assert {damage.path for damage in reopen().check()} >= {"origin", "key.pub"}
    reopen().append([b"another"])
    assert list(reopen().check()) == []


def test_a_deleted_log_is_missed_where_anything_else_of_it_is_left(filled, folder, reopen):
    shutil.rmtree(folder)
    (folder / "blobs").mkdir(parents=True)
    with pytest.raises(IntegrityError, match="is gone") as caught:
        reopen().refresh()
    assert f"{len(filled)} entries" in caught.value.cause
    assert ".place" in caught.value.hint
    assert {damage.path for damage in reopen().check()} >= {"origin", "key.pub"}


def test_another_log_in_the_same_folder_is_not_taken_for_it(filled, folder, keys, tmp_path, reopen):
    other = TransparencyLog(tmp_path / "other", keys=keys)
    other.append([b"other"])
    put(tmp_path / "other", folder)
    with pytest.raises(IntegrityError, match="another log stands in"):
        reopen().refresh()
    assert ("origin", "altered") in {(damage.path, damage.problem) for damage in reopen().check()}


def test_a_moved_log_is_the_same_log(filled, folder, keys, tmp_path):
    folder.rename(tmp_path / "moved")
    log = TransparencyLog(tmp_path / "moved", keys=keys)
    log.append([b"more"])
    assert log.refresh() == len(filled) + 1
    assert list(log.check()) == []


@pytest.mark.parametrize("has_private_key", [True, False])
def test_an_attacker_who_recomputes_everything_under_another_key_is_found(
    filled, folder, keys, tmp_path, reopen, has_private_key
):
    """The origin stays, every hash, tile, offset and signature fits, and key.pub names the attacker's key."""
    origin = (folder / "origin").read_text().strip()
    if not has_private_key:
        next(keys.glob("*.key")).unlink()
    forge(folder, Signer.generate(origin), [b"forged", *filled[1:]], tmp_path)
    with pytest.raises(IntegrityError, match="not signed by the pinned key") as caught:
        reopen().refresh()
    assert caught.value.cause.count(origin) == 2
    assert {"wrong key", "forked"} <= problems(reopen())


def test_an_attacker_who_leaves_the_public_key_in_place_is_found_and_located(filled, folder, tmp_path, reopen):
    origin, vkey = (folder / "origin").read_text().strip(), (folder / "key.pub").read_bytes()
    forge(folder, Signer.generate(origin), [b"forged", *filled[1:]], tmp_path)
    (folder / "key.pub").write_bytes(vkey)
    with pytest.raises(IntegrityError, match="signed by another key"):
        reopen().refresh()
    damages = list(reopen().check())
    first = next(damage for damage in damages if damage.path.startswith("segments/"))
    assert (first.problem, first.entry) == ("wrong key", 0)
    assert "forked" in {damage.problem for damage in damages}


def test_an_attacker_who_recomputes_hashes_but_cannot_sign_is_located_at_the_first_altered_commit(
    filled, folder, keys, reopen
):
    """Every root, link, tile and offset from entry 6 on fits; the signatures are those that stood there."""
    path = folder / "segments" / "00000000.seg"
    (memory,) = [LogMemory(keys, (folder / "origin").read_text().strip())]
    log = reopen()
    sizes, signer = [1, 4, 5, 7, 12, 16, 17, 18], memory.signer()
    compact, previous, content, start = CompactRange(), None, b"", 0
    entries = [*filled[:5], b"forged", *filled[6:]]
    for size in sizes:
        commit = entries[start:size]
        compact.extend(map(hash_leaf, commit))
        genuine = log.checkpoint(size)
        forged = signer.checkpoint(size=size, root=compact.root(), previous=previous)
        if forged.note != genuine.note:
            tail = genuine.note[-80:]
            note = forged.note[: -len(tail)] + tail
            previous = type(forged)(
                origin=forged.origin, size=size, root=forged.root, previous=forged.previous, note=note
            )
        else:
            previous = genuine
        content += encode_commit(commit, previous.note)[0]
        start = size
    for other in (folder / "segments").iterdir():
        other.unlink()
    (folder / "checkpoint").unlink()
    path.write_bytes(content)
    with pytest.raises(IntegrityError):
        reopen().refresh()
    damages = list(reopen().check())
    located = next(damage for damage in damages if damage.path.startswith("segments/"))
    assert located.entry == 5
    assert located.start is not None
    assert "forked" in {damage.problem for damage in damages}


def test_a_machine_that_sees_a_log_first_trusts_its_key_from_then_on(filled, folder, tmp_path, reopen):
    elsewhere = tmp_path / "elsewhere"
    reopen(keys=elsewhere).refresh()
    (pin,) = elsewhere.glob("*.vkey")
    assert pin.read_bytes() == (folder / "key.pub").read_bytes()
    assert not list(elsewhere.glob("*.key"))
    forge(folder, Signer.generate((folder / "origin").read_text().strip()), filled, tmp_path)
    with pytest.raises(IntegrityError, match="not signed by the pinned key"):
        reopen(keys=elsewhere).refresh()


def test_one_damaged_slot_of_the_remembered_checkpoint_is_made_up_for_by_the_other_and_two_are_an_error(
    filled, keys, reopen
):
    (seen,) = keys.glob("*.seen")
    content = seen.read_bytes()
    seen.write_bytes(b"\xff" * 900 + content[900:])
    assert reopen().refresh() == len(filled)
    seen.write_bytes(b"\xff" * 2048)
    with pytest.raises(IntegrityError, match="remembered checkpoint"):
        reopen().refresh()
    assert ("altered", str(seen)) in {(damage.problem, damage.path) for damage in reopen().check()}


def test_a_keys_folder_that_cannot_be_made_is_no_obstacle_to_reading(filled, tmp_path, reopen, caplog):
    (tmp_path / "file").write_text("")
    log = reopen(keys=tmp_path / "file" / "keys")
    assert log.refresh() == len(filled)
    assert "cannot" in caplog.text
