"""What a folder of this machine gives beyond the others."""

from __future__ import annotations

import os
import stat
import threading

import pytest
from tests.registry.blobs.places import memory, other_folder, own_folder

from legion.foundation.canonical import digest_bytes
from legion.foundation.errors import IntegrityError, InvalidValueError, WorldError
from legion.neuro_architecture.registry import staging as staging_module
from legion.neuro_architecture.registry.blobs import BlobStore
from legion.neuro_architecture.registry.staging import StagingFolder


@pytest.fixture
def place(tmp_path):
    return own_folder(tmp_path)


def test_a_blob_is_a_read_only_file_under_its_digest(place):
    digest = place.put(b"one")
    path = place.store.path(digest)
    assert path == place.folder / "registry" / "blobs" / "sha256" / digest[7:9] / digest[7:]
    assert path.is_relative_to(place.store.folder)
    assert stat.S_IMODE(path.stat().st_mode) == 0o444
    assert list(place.store.files()) == [path]
    assert place.store.is_local


def test_a_blob_is_synced_before_it_is_named_and_its_folder_after(place, monkeypatch):
    events = []
    real_fsync, real_link = os.fsync, os.link

    def fsync(descriptor):
        kind = "folder" if stat.S_ISDIR(os.fstat(descriptor).st_mode) else "file"
        events.append(f"sync {kind}")
        real_fsync(descriptor)

    def link(*arguments):
        events.append("name")
        real_link(*arguments)

    monkeypatch.setattr(staging_module.os, "fsync", fsync)
    monkeypatch.setattr(staging_module.os, "link", link)
    place.put(b"one")
    assert events == ["sync file", "name", "sync folder", "sync folder"]


def test_an_altered_blob_of_the_right_size_is_written_anew(place):
    digest = place.put(b"one")
    place.overwrite(digest, b"oNe")
    place.put(b"one")
    place.store.verify("note.txt", digest)


def test_links_and_fifos_among_the_blobs_are_not_followed(place, tmp_path):
    digest = place.put(b"one")
    path = place.store.path(digest)
    (tmp_path / "outside").write_bytes(b"one")
    path.unlink()
    path.symlink_to(tmp_path / "outside")
    for ask in (lambda: place.store.verify("note.txt", digest), lambda: place.store.size_bytes(digest)):
        with pytest.raises(IntegrityError, match="no regular file"):
            ask()
    assert place.store.sweep(set(), is_dry_run=False, grace_s=0.0) == []
    path.unlink()
    os.mkfifo(path)
    with pytest.raises(IntegrityError, match="no regular file"):
        place.store.verify("note.txt", digest)
    place.put(b"one")
    place.store.verify("note.txt", digest)
    assert (tmp_path / "outside").read_bytes() == b"one"


def test_a_store_elsewhere_sweeps_its_own_scratch_and_no_other(tmp_path):
    place = other_folder(tmp_path)
    place.put(b"one")
    for name, seconds in (("old.tmp", 9e5), ("young.tmp", 0.0)):
        (tmp_path / "elsewhere" / "tmp").mkdir(exist_ok=True)
        (tmp_path / "elsewhere" / "tmp" / name).write_bytes(b"half")
        place.age(str(tmp_path / "elsewhere" / "tmp" / name), seconds)
    (tmp_path / "registry" / "tmp").mkdir(parents=True)
    (tmp_path / "registry" / "tmp" / "theirs.tmp").write_bytes(b"half")
    place.age(str(tmp_path / "registry" / "tmp" / "theirs.tmp"), 9e5)
    place.store.sweep(set())
    assert len(place.found()) == 3
    place.store.sweep(set(), is_dry_run=False)
    assert [key for key in place.found() if key.startswith("tmp/")] == ["tmp/young.tmp"]
    assert (tmp_path / "registry" / "tmp" / "theirs.tmp").exists()


def test_a_store_on_another_disk_than_the_registry_needs_no_link_between_them(tmp_path, monkeypatch):
    place = other_folder(tmp_path)
    real_link = os.link

    def link(source, target):
        if str(source).startswith(str(tmp_path / "registry")):
            raise OSError(18, "Invalid cross-device link")
        real_link(source, target)

    monkeypatch.setattr(staging_module.os, "link", link)
    place.store.verify("note.txt", place.put(b"one"))


def test_a_full_disk_is_told_and_leaves_nothing(place, monkeypatch):
    def full(*_arguments):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(staging_module.os, "link", full)
    with pytest.raises(WorldError, match="cannot keep") as raised:
        place.put(b"one")
    assert "No space left" in str(raised.value.cause)
    assert place.found() == []


def test_a_name_that_others_take_and_free_forever_ends_in_an_error(place, monkeypatch):
    def taken(*_arguments):
        raise FileExistsError

    monkeypatch.setattr(staging_module.os, "link", taken)
    with pytest.raises(WorldError, match="comes and goes"):
        place.put(b"one")


def test_threads_that_put_the_same_files_keep_each_once(tmp_path):
    root = tmp_path / "registry"
    contents = [f"content {number}\n".encode() * 1000 for number in range(6)]
    for number, content in enumerate(contents):
        (tmp_path / f"{number}.txt").write_bytes(content)
    failures = []

    def put_all():
        store = BlobStore(root, StagingFolder(root))
        try:
            for number in range(6):
                store.put("a.txt", tmp_path / f"{number}.txt")
        except BaseException as error:
            failures.append(error)
            raise

    threads = [threading.Thread(target=put_all) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failures == []
    store = BlobStore(root, StagingFolder(root))
    assert {digest for digest, _ in store.digests()} == {digest_bytes(content) for content in contents}
    for digest, _ in store.digests():
        store.verify("a.txt", digest)


def test_a_store_that_is_elsewhere_has_no_paths(tmp_path):
    store = memory(tmp_path).store
    assert not store.is_local
    for ask in (lambda: store.path("sha256:" + "0" * 64), lambda: store.folder, store.files):
        with pytest.raises(InvalidValueError, match="no files of this machine"):
            ask()
