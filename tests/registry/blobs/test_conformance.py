"""What every place keeps to, whatever brings the bytes there."""

from __future__ import annotations

import os
import pickle
from pathlib import Path

import pytest
from tests.registry.blobs.places import PLACES

from legion.foundation.canonical import digest_bytes
from legion.foundation.errors import IntegrityError, InvalidValueError

DAY_S = 24 * 3600.0
ABSENT = "sha256:" + "0" * 64


@pytest.fixture(params=list(PLACES))
def place(request, tmp_path):
    return PLACES[request.param](tmp_path)


@pytest.mark.parametrize("content", [b"", b"x", "привет\n".encode(), b"0123456789" * 300_000])
def test_what_was_put_is_read_back(place, tmp_path, content):
    digest = place.put(content)
    with place.store.open(digest) as file:
        assert file.read() == content
    place.store.verify("note.txt", digest)
    place.store.copy("note.txt", digest, tmp_path / "copy")
    assert (tmp_path / "copy").read_bytes() == content
    assert place.store.size_bytes(digest) == len(content)
    assert list(place.store.digests()) == [(digest, len(content))]


def test_no_scratch_is_left_behind(place):
    digest = place.put(b"one")
    name = digest.removeprefix("sha256:")
    assert place.found() == [f"sha256/{name[:2]}/{name}"]
    assert not list(place.store._staging.folder.iterdir())


def test_equal_content_is_written_once(place, monkeypatch):
    place.put(b"one")
    before = place.fs.info(place.key(digest_bytes(b"one")))
    writes = []
    for word in ("put_file", "mv"):
        monkeypatch.setattr(place.fs, word, lambda *_args, **_kwargs: writes.append(1))
    place.put(b"one", "other.md")
    assert writes == []
    after = place.fs.info(place.key(digest_bytes(b"one")))
    assert after.get("ino") == before.get("ino")
    assert after.get("created") == before.get("created") or "ino" in after


def test_remains_of_the_wrong_size_are_replaced(place):
    digest = digest_bytes(b"whole")
    place.overwrite(digest, b"who")
    assert place.put(b"whole") == digest
    place.store.verify("note.txt", digest)


@pytest.mark.parametrize("content", [b"", b"who", b"whOle", b"whole and more"])
def test_altered_bytes_are_never_handed_out_whole(place, tmp_path, content):
    digest = place.put(b"whole")
    place.overwrite(digest, content)
    with pytest.raises(IntegrityError, match=r"weights of .*altered|of weights was altered"):
        place.store.verify("weights", digest)
    with pytest.raises(IntegrityError, match=digest.removeprefix("sha256:")):
        place.store.copy("weights", digest, tmp_path / "copy")
    assert not (tmp_path / "copy").exists()
    with place.store.open(digest) as file, pytest.raises(IntegrityError, match="altered"):
        file.read()
    read: list[bytes] = []
    with place.store.open(digest) as file, pytest.raises(IntegrityError, match="altered"):
        read.extend(iter(lambda: file.read(1), b""))
    assert b"".join(read) != content or not content


def test_missing_blobs_are_told_with_their_name(place, tmp_path):
    for ask in (
        lambda: place.store.verify("weights", ABSENT),
        lambda: place.store.copy("weights", ABSENT, tmp_path / "copy"),
        lambda: place.store.open(ABSENT),
        lambda: place.store.size_bytes(ABSENT),
    ):
        with pytest.raises(IntegrityError, match=r"0{64}.* is missing"):
            ask()
    assert not (tmp_path / "copy").exists()


@pytest.mark.parametrize(
    "digest", ["", "0" * 64, "sha256:" + "A" * 64, "sha256:../../../etc/passwd", "sha256:" + "0" * 63 + "/", None, 7]
)
def test_only_a_digest_becomes_a_name(place, digest, tmp_path):
    for ask in (
        lambda: place.store.verify("weights", digest),
        lambda: place.store.copy("weights", digest, tmp_path / "copy"),
        lambda: place.store.open(digest),
        lambda: place.store.size_bytes(digest),
        lambda: place.store.delete(digest),
        lambda: place.store.sweep({digest}, is_dry_run=False, grace_s=0.0),
    ):
        with pytest.raises(InvalidValueError, match="no digest"):
            ask()


@pytest.mark.parametrize("name", ["w.safetensors", "w.json", "w.txt"])
def test_pickles_are_refused_and_leave_nothing(place, name):
    with pytest.raises(InvalidValueError, match=name):
        place.put(pickle.dumps({"a": 1}), name)
    assert list(place.store.digests()) == []


def test_links_fifos_folders_and_missing_files_are_refused(place, tmp_path):
    (tmp_path / "real").write_text("text")
    (tmp_path / "link").symlink_to(tmp_path / "real")
    os.mkfifo(tmp_path / "fifo")
    for name in ("link", "fifo", "absent", "."):
        with pytest.raises(InvalidValueError, match=r"note\.txt"):
            place.store.put("note.txt", tmp_path / name)
    with pytest.raises(InvalidValueError, match=r"note\.txt"):
        place.store.put("note.txt", Path("/dev/null"))
    assert list(place.store.digests()) == []


def test_a_deleted_blob_is_gone_and_can_come_back(place):
    digest = place.put(b"one")
    other = place.put(b"other one")
    assert place.store.delete(digest) == 3
    assert place.store.delete(digest) == 0
    assert list(place.store.digests()) == [(other, 9)]
    place.put(b"one")
    place.store.verify("note.txt", digest)


def test_a_sweep_takes_only_what_is_unreferenced_and_old_and_asked_for(place):
    old, young, referenced = (place.put(text) for text in (b"old", b"young", b"referenced"))
    for digest in (old, referenced):
        place.age(place.key(digest), 2 * DAY_S)
    assert place.store.sweep({referenced}) == [(old, 3)]
    assert len(list(place.store.digests())) == 3
    assert place.store.sweep({referenced}, is_dry_run=False) == [(old, 3)]
    assert {digest for digest, _ in place.store.digests()} == {young, referenced}
    assert place.store.sweep({referenced}, is_dry_run=False) == []
    assert place.store.sweep(set(), grace_s=3 * DAY_S) == []


def test_an_old_blob_that_is_put_again_counts_as_young(place):
    digest = place.put(b"one")
    place.age(place.key(digest), 2 * DAY_S)
    assert place.store.sweep(set()) == [(digest, 3)]
    place.put(b"one")
    assert place.store.sweep(set(), is_dry_run=False) == []
    place.store.verify("note.txt", digest)


def test_a_blob_that_is_put_again_between_listing_and_removal_stays(place, monkeypatch):
    digest = place.put(b"one")
    place.age(place.key(digest), 2 * DAY_S)
    listing = place.store._backend.listing

    def put_after_listing():
        found = list(listing())
        place.put(b"one")
        return iter(found)

    monkeypatch.setattr(place.store._backend, "listing", put_after_listing)
    assert place.store.sweep(set(), is_dry_run=False) == []
    place.store.verify("note.txt", digest)


def test_a_negative_grace_period_is_refused(place):
    digest = place.put(b"one")
    for grace_s in (-1.0, float("nan")):
        with pytest.raises(InvalidValueError, match="grace"):
            place.store.sweep(set(), is_dry_run=False, grace_s=grace_s)
    place.store.verify("note.txt", digest)


def test_a_sweep_leaves_strangers_alone(place):
    place.put(b"one")
    strangers = ["sha256/ab/notes.txt", "sha256/ab/" + "cd" * 32, "sha256/" + "ab" * 32, "mine/" + "ab" * 32]
    for stranger in strangers:
        key = "/".join(filter(None, [place.base, stranger]))
        place.fs.makedirs(key.rpartition("/")[0], exist_ok=True)
        place.fs.pipe_file(key, b"keep me")
        place.age(key, 9 * DAY_S)
    assert place.store.sweep(set(), is_dry_run=False) == []
    assert set(strangers) < set(place.found())


def test_two_stores_of_one_place_see_each_other(place):
    digest = place.put(b"one")
    twin = type(place.store).over(place.store._backend, place.store._staging)
    twin.verify("note.txt", digest)
    twin.delete(digest)
    with pytest.raises(IntegrityError):
        place.store.verify("note.txt", digest)
