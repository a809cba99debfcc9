"""Whatever is changed in the folder is found, and said where."""

from __future__ import annotations

import itertools
import random
import shutil

import pytest
from tests.registry.translog.conftest import entries_of

from legion.foundation.errors import IntegrityError
from legion.neuro_architecture.registry.translog import TransparencyLog
from legion.neuro_architecture.registry.translog.frames import parse_commit

SIZES = [1, 3, 1, 2, 5, 4, 1, 1]


def check(folder, keys):
    return list(TransparencyLog(folder, keys=keys).check())


def fill(folder, keys, sizes, segment_bytes):
    log = TransparencyLog(folder, keys=keys, segment_bytes=segment_bytes)
    for commit in entries_of(sizes):
        log.append(commit)
    log.publish()
    log.close()


def frames_of(content):
    """Start and stop of every frame of each commit."""
    commits, position = [], 0
    while commit := parse_commit(content, position):
        places = [*commit.offsets, commit.note, commit.stop]
        commits.append(list(itertools.pairwise(places)))
        position = commit.stop
    assert position == len(content)
    return commits


def assert_flips_are_located(folder, keys, paths, step=1):
    draw = random.Random(3)
    for path in paths:
        content, name = path.read_bytes(), str(path.relative_to(folder))
        for at in range(0, len(content), step):
            altered = bytearray(content)
            altered[at] ^= 1 << draw.randrange(8)
            path.write_bytes(altered)
            damages = check(folder, keys)
            located = [
                damage
                for damage in damages
                if damage.path == name and damage.start is not None and damage.start <= at < damage.stop
            ]
            assert located, (name, at, [str(damage) for damage in damages])
            if name.endswith(".seg"):
                assert located[0].entry is not None
                assert located[0].stop - located[0].start < 500, (name, at, [str(damage) for damage in damages])
        path.write_bytes(content)
    assert check(folder, keys) == []


@pytest.fixture(scope="module")
def original(tmp_path_factory):
    root = tmp_path_factory.mktemp("original")
    fill(root / "registry", root / "keys", SIZES, 900)
    return root


@pytest.fixture
def store(original, tmp_path):
    """A copy of the same store for each test; its keys know the copy's origin, and no place."""
    shutil.copytree(original / "registry", tmp_path / "registry")
    shutil.copytree(original / "keys", tmp_path / "keys")
    return tmp_path / "registry", tmp_path / "keys"


def test_a_whole_store_has_no_damage(store):
    assert check(*store) == []


def test_every_flipped_byte_of_a_small_store_is_found_and_located(store):
    folder, keys = store
    assert_flips_are_located(folder, keys, [path for path in sorted(folder.rglob("*")) if path.is_file()])


def test_flipped_bytes_of_tiles_are_found_and_located(tmp_path):
    folder, keys = tmp_path / "registry", tmp_path / "keys"
    fill(folder, keys, [100] * 6, 20_000)
    tiles = sorted(path for path in (folder / "tile").rglob("*") if path.is_file())
    assert len(tiles) == 2
    assert_flips_are_located(folder, keys, tiles, step=419)
    tiles[1].write_bytes(tiles[1].read_bytes()[:-1])
    (damage,) = check(folder, keys)
    assert (damage.path, damage.entry) == ("tile/0/001", 256)


@pytest.mark.heavy
@pytest.mark.timeout(4 * 3600)
def test_every_flipped_byte_of_a_64_kb_store_is_found_and_located(tmp_path):
    folder, keys = tmp_path / "registry", tmp_path / "keys"
    fill(folder, keys, [1, 40, 7, 200, 1, 90, 3, 60, 11, 30, 25] * 2, 14_000)
    paths = [path for path in sorted(folder.rglob("*")) if path.is_file()]
    assert sum(path.stat().st_size for path in paths) >= 64_000
    assert_flips_are_located(folder, keys, paths)


def test_without_any_memory_every_flipped_byte_is_still_found(store, tmp_path):
    """A third party that has only the folder: no pin, no remembered checkpoint, no place."""
    folder, _ = store
    for path in sorted(folder.rglob("*")):
        if not path.is_file():
            continue
        content = path.read_bytes()
        for at in range(0, len(content), 7):
            path.write_bytes(content[:at] + bytes([content[at] ^ 0x20]) + content[at + 1 :])
            assert check(folder, tmp_path / "no keys"), (path.name, at)
        path.write_bytes(content)


def test_a_store_cut_off_at_any_byte_of_the_last_commit_is_found_and_located(store):
    folder, keys = store
    path = max((folder / "segments").glob("*.seg"))
    content = path.read_bytes()
    start = frames_of(content)[-1][0][0]
    for length in range(start, len(content)):
        path.write_bytes(content[:length])
        damages = check(folder, keys)
        assert {damage.problem for damage in damages} <= {"missing", "altered", "rolled back"}
        located = [damage for damage in damages if damage.path == f"segments/{path.name}" and damage.start <= length]
        assert located, (length, [str(damage) for damage in damages])
        assert any(damage.entry == sum(SIZES) - 1 for damage in located)
        with pytest.raises(IntegrityError, match="rolled back"):
            TransparencyLog(folder, keys=keys).refresh()


def test_a_segment_cut_off_in_the_middle_is_found_and_located(store):
    folder, keys = store
    path = folder / "segments" / "00000000.seg"
    content = path.read_bytes()
    for length in range(0, len(content), 61):
        path.write_bytes(content[:length])
        damages = check(folder, keys)
        located = [damage for damage in damages if "segments" in damage.path and damage.entry is not None]
        assert located, length


@pytest.mark.parametrize("place", range(5))
@pytest.mark.parametrize("change", ["deleted", "duplicated", "reordered"])
def test_an_entry_that_is_deleted_duplicated_or_moved_is_found_and_located(store, change, place):
    folder, keys = store
    path, number, frames = find_commit(folder, 5)
    content = path.read_bytes()
    start, stop = frames[place]
    frame = content[start:stop]
    if change == "deleted":
        altered = content[:start] + content[stop:]
    elif change == "duplicated":
        altered = content[:stop] + frame + content[stop:]
    else:
        place = min(place, 3)
        start, stop = frames[place]
        after = frames[place + 1][1]
        altered = content[:start] + content[stop:after] + content[start:stop] + content[after:]
    path.write_bytes(altered)
    damages = check(folder, keys)
    (damage,) = damages
    expected = {"deleted": "missing", "duplicated": "duplicate", "reordered": "reordered"}[change]
    assert (damage.path, damage.problem) == (f"segments/{path.name}", expected)
    if change == "duplicated":
        assert damage.start in {start, stop}
        assert damage.entry in {number + place, number + place + 1}
    else:
        assert (damage.start, damage.entry) == (start, number + place)
    log = TransparencyLog(folder, keys=keys)
    if change == "duplicated" and place == 4:
        assert list(log.read_range(number, number + 5)) == content_of(content, frames)  # all are where they were
        return
    with pytest.raises(IntegrityError):
        list(log.read_range(number, number + 5))


def content_of(content, frames):
    return [content[start + 5 : stop] for start, stop in frames[:-1]]


def test_a_length_that_swallows_whole_entries_is_located_at_its_own_entry(store):
    folder, keys = store
    path, number, frames = find_commit(folder, 5)
    content = bytearray(path.read_bytes())
    start, stop = frames[1][0], frames[3][1]
    content[start + 1 : start + 5] = (stop - start - 5).to_bytes(4, "big")
    path.write_bytes(content)
    (damage,) = check(folder, keys)
    assert (damage.problem, damage.entry, damage.stop_entry) == ("altered", number + 1, number + 2)
    assert (damage.start, damage.stop) == frames[1]


def find_commit(folder, size):
    number = 0
    for path in sorted((folder / "segments").glob("*.seg")):
        for frames in frames_of(path.read_bytes()):
            if len(frames) - 1 == size:
                return path, number, frames
            number += len(frames) - 1
    raise AssertionError("no such commit")


@pytest.mark.parametrize("change", ["deleted", "duplicated", "reordered"])
def test_a_commit_that_is_deleted_duplicated_or_moved_is_found_and_located(store, change):
    folder, keys = store
    path = folder / "segments" / "00000000.seg"
    content = path.read_bytes()
    commits = frames_of(content)
    (a, b), (c, d) = [(frames[0][0], frames[-1][1]) for frames in commits[1:3]]
    assert b == c
    if change == "deleted":
        path.write_bytes(content[:a] + content[b:])
    elif change == "duplicated":
        path.write_bytes(content[:b] + content[a:b] + content[b:])
    else:
        path.write_bytes(content[:a] + content[c:d] + content[a:b] + content[d:])
    damages = check(folder, keys)
    expected = {
        "deleted": {("missing", 1, 4)},
        "duplicated": {("duplicate", 1, 4)},
        "reordered": {("missing", 1, 4), ("reordered", 1, 4)},
    }[change]
    assert {(damage.problem, damage.entry, damage.stop_entry) for damage in damages} == expected


@pytest.mark.parametrize("place", [0, 1, 2])
def test_a_segment_that_is_deleted_is_found_and_located(store, place):
    folder, keys = store
    paths = sorted((folder / "segments").glob("*.seg"))
    first = int(paths[place].stem)
    paths[place].unlink()
    paths[place].with_suffix(".idx").unlink()
    damages = check(folder, keys)
    assert first in {damage.entry for damage in damages}
    assert {damage.problem for damage in damages} <= {"missing", "rolled back"}
    with pytest.raises(IntegrityError):
        read_all(folder, keys)


def read_all(folder, keys):
    log = TransparencyLog(folder, keys=keys)
    return list(log.read_range(0, log.refresh()))


def test_a_flipped_entry_is_never_read(store):
    folder, keys = store
    path, number, frames = find_commit(folder, 5)
    content = bytearray(path.read_bytes())
    content[frames[2][0] + 6] ^= 1
    path.write_bytes(content)
    with pytest.raises(IntegrityError) as caught:
        TransparencyLog(folder, keys=keys).read(number + 2)
    assert "legion registry verify" in caught.value.render()


def test_an_entry_that_is_flipped_under_an_open_log_is_never_read(store):
    folder, keys = store
    log = TransparencyLog(folder, keys=keys)
    log.refresh()
    path, number, frames = find_commit(folder, 5)
    content = bytearray(path.read_bytes())
    content[frames[2][0] + 6] ^= 1
    path.write_bytes(content)
    with pytest.raises(IntegrityError, match=f"entry {number + 2} is altered") as caught:
        log.read(number + 2)
    assert str(path) in caught.value.cause
    assert str(frames[2][0]) in caught.value.cause


def test_strange_files_are_found(store):
    folder, keys = store
    for name in ("segments/notes.txt", "segments/00000003.idx", "segments/0.seg", "tile/0/stranger", "tile/9/000"):
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"")
        (damage,) = check(folder, keys)
        assert damage.path == name
        path.unlink()


def test_leftovers_of_a_killed_writer_are_no_damage(store):
    folder, keys = store
    (folder / "tile" / "0").mkdir(parents=True)
    (folder / "tile" / "0" / ".003.tmp").write_bytes(b"half a til")
    (folder / ".checkpoint.tmp").write_bytes(b"")
    path = folder / "segments" / f"{sum(SIZES):08d}.seg"
    path.write_bytes(b"")
    assert check(folder, keys) == []


def test_missing_small_files_are_found(store):
    folder, keys = store
    for name in ("origin", "key.pub"):
        content = (folder / name).read_bytes()
        (folder / name).unlink()
        assert (name, "missing") in {(damage.path, damage.problem) for damage in check(folder, keys)}
        with pytest.raises(IntegrityError, match=r"missing|gone"):
            TransparencyLog(folder, keys=keys).refresh()
        (folder / name).write_bytes(content)


def test_two_damages_far_apart_are_both_found(store):
    folder, keys = store
    for path in (min((folder / "segments").glob("*.seg")), max((folder / "segments").glob("*.seg"))):
        content = bytearray(path.read_bytes())
        content[8] ^= 1
        path.write_bytes(content)
    damages = check(folder, keys)
    assert {damage.path for damage in damages} >= {
        f"segments/{min((folder / 'segments').glob('*.seg')).name}",
        f"segments/{max((folder / 'segments').glob('*.seg')).name}",
    }


def test_progress_is_told_in_bytes(store):
    folder, keys = store
    calls = []

    class Listener:
        def start(self, label, total):
            calls.append(("start", total))

        def advance(self, done, **fields):
            calls.append(("advance", done, fields["entries"]))

        def finish(self, note=""):
            calls.append(("finish",))

    assert list(TransparencyLog(folder, keys=keys).check(Listener())) == []
    total = sum(path.stat().st_size for path in (folder / "segments").glob("*.seg"))
    assert calls[0] == ("start", total)
    assert calls[-2:] == [("advance", total, sum(SIZES)), ("finish",)]


def test_a_damage_says_where_it_is(store):
    folder, keys = store
    path = folder / "segments" / "00000000.seg"
    content = bytearray(path.read_bytes())
    content[7] ^= 1
    path.write_bytes(content)
    (damage,) = check(folder, keys)
    stop = frames_of(bytes(content))[0][0][1]
    assert str(damage).startswith(f"segments/00000000.seg: bytes 0 to {stop} entry 0: altered: its leaf hash is ")
    assert damage.to_dict()["stop_entry"] == 1
