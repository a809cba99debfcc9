"""What comes in through fsspec: addresses, secrets, drivers, claims, and file systems that fail or lie."""

from __future__ import annotations

import logging
import traceback
from pathlib import Path
from typing import Any

import fsspec
import pytest
from fsspec.implementations.dirfs import DirFileSystem
from fsspec.implementations.local import LocalFileSystem
from fsspec.implementations.memory import MemoryFileSystem
from tests.registry.blobs.places import OwnMemory, fsspec_folder, memory, over

from legion.foundation.canonical import digest_bytes
from legion.foundation.errors import IntegrityError, InvalidValueError, LegionError, WorldError
from legion.neuro_architecture.registry.blob_backends import RemoteBackend, parse_address
from legion.neuro_architecture.registry.blob_backends import remote as remote_module
from legion.neuro_architecture.registry.blobs import BlobStore
from legion.neuro_architecture.registry.staging import StagingFolder

DAY_S = 24 * 3600.0
SECRET = "correct/horse@battery"


class Faulty(OwnMemory):
    """A place that fails in the ways of real ones, as often as `faults` says."""

    protocol = "faulty"

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        self.faults: list[str] = []
        self.wrong_size = 0
        self.calls: list[str] = []

    def _next(self, *kinds: str) -> str | None:
        if self.faults and self.faults[0] in kinds:
            return self.faults.pop(0)
        return None

    def put_file(self, lpath, rpath, **_options):
        self.calls.append("put")
        content = Path(lpath).read_bytes()
        fault = self._next("middle", "truncated", "flipped", "refused", "unseen")
        if fault == "refused":
            raise RuntimeError(f"403 for {SECRET}")
        if fault in {"middle", "truncated"}:
            content = content[: len(content) // 2]
        if fault == "flipped":
            content = content[:-1] + bytes([content[-1] ^ 1])
        if fault != "unseen":
            self.pipe_file(rpath, content)
        if fault == "middle":
            raise ConnectionResetError("connection reset by peer")

    def info(self, path, **options):
        if self._next("info"):
            raise TimeoutError("no answer")
        found = super().info(path, **options)
        if found["type"] == "file":
            found["size"] += self.wrong_size
        return found

    def _open(self, path, mode="rb", **options):
        file = super()._open(path, mode, **options)
        if mode == "rb" and self._next("read"):
            return Breaking(file)
        return file


class Breaking:
    def __init__(self, file):
        self.file = file

    def read(self, size=-1):
        raise OSError("the line went dead")

    def close(self):
        pass

    def __enter__(self):
        return self

    def __exit__(self, *_):
        pass


class FaultyFolder(LocalFileSystem):
    """A place with renames that fails."""

    def __init__(self) -> None:
        super().__init__(skip_instance_cache=True)
        self.fault = ""

    def put_file(self, path1, path2, callback=None, **options):
        super().put_file(path1, path2, callback, **options)
        if self.fault == "truncated":
            self.pipe_file(path2, self.cat_file(path2)[:-1])

    def mv(self, path1, path2, **options):
        if self.fault == "mv":
            raise PermissionError("no")
        if self.fault == "raced":
            self.copy(path1, path2)
            raise FileExistsError(path2)
        if self.fault != "mv does nothing":
            super().mv(path1, path2, **options)


@pytest.fixture
def faulty(tmp_path):
    return over(Faulty(), "/base", tmp_path)


@pytest.mark.parametrize("fault", ["middle", "truncated", "flipped", "refused", "unseen", "info", "read"])
def test_an_upload_that_went_wrong_is_told_and_never_trusted(faulty, fault):
    faulty.fs.faults = [fault]
    with pytest.raises(WorldError):
        faulty.put(b"the whole content")
    assert faulty.fs.faults == []
    assert list(faulty.store.digests()) == [] or fault == "read"
    digest = faulty.put(b"the whole content")
    faulty.store.verify("note.txt", digest)


@pytest.mark.parametrize("wrong_size", [-1, 1, 10**12])
def test_a_place_that_lies_about_sizes_is_never_trusted(faulty, wrong_size):
    faulty.fs.wrong_size = wrong_size
    with pytest.raises(WorldError, match="did not arrive whole"):
        faulty.put(b"content")
    faulty.fs.wrong_size = 0
    digest = faulty.put(b"content")
    faulty.fs.wrong_size = wrong_size
    if wrong_size < 0:
        with pytest.raises(IntegrityError, match="altered"):
            faulty.store.verify("note.txt", digest)
    else:  # the bytes are right, and nothing but their digest counts
        faulty.store.verify("note.txt", digest)


def test_a_truncated_upload_whose_place_says_the_right_size_is_found_by_its_digest(faulty):
    content = b"0123456789"
    faulty.fs.faults = ["truncated"]
    faulty.fs.wrong_size = len(content) - len(content) // 2
    with pytest.raises(WorldError, match="did not arrive whole"):
        faulty.put(content)
    assert faulty.found() == []


def test_a_blob_that_goes_on_behind_the_size_that_is_told_is_altered(faulty):
    digest = faulty.put(b"content")
    faulty.overwrite(digest, b"content and more")
    faulty.fs.wrong_size = -len(b" and more")
    with pytest.raises(IntegrityError, match="altered"):
        faulty.store.verify("note.txt", digest)


def test_a_read_that_breaks_off_is_no_damage_of_the_blob(faulty, tmp_path):
    digest = faulty.put(b"content")
    faulty.fs.faults = ["read"]
    with pytest.raises(WorldError, match="cannot read blob") as raised:
        faulty.store.copy("note.txt", digest, tmp_path / "copy")
    assert "the line went dead" in raised.value.cause
    assert not (tmp_path / "copy").exists()
    faulty.store.verify("note.txt", digest)


def test_a_blob_that_is_there_is_never_uploaded_again(faulty):
    faulty.put(b"content")
    faulty.put(b"content", "b.md")
    assert faulty.fs.calls == ["put"]


def test_remains_of_a_killed_upload_are_replaced(faulty, caplog):
    digest = digest_bytes(b"content")
    faulty.overwrite(digest, b"cont")
    with caplog.at_level(logging.WARNING):
        faulty.put(b"content")
    faulty.store.verify("note.txt", digest)
    assert "has 4 bytes, not 7" in caplog.text


@pytest.mark.parametrize("fault", ["truncated", "mv", "mv does nothing"])
def test_a_move_that_went_wrong_is_told_and_leaves_nothing(tmp_path, fault):
    place = over(FaultyFolder(), str(tmp_path / "remote"), tmp_path)
    place.fs.fault = fault
    with pytest.raises(WorldError):
        place.put(b"content")
    assert place.found() == []
    place.fs.fault = ""
    place.store.verify("note.txt", place.put(b"content"))


def test_a_writer_that_comes_second_is_content(tmp_path):
    place = over(FaultyFolder(), str(tmp_path / "remote"), tmp_path)
    place.fs.fault = "raced"
    digest = place.put(b"content")
    place.store.verify("note.txt", digest)
    assert place.found() == [f"sha256/{digest[7:9]}/{digest[7:]}"]


def test_only_places_that_rename_are_given_a_temporary_name(tmp_path):
    assert RemoteBackend(LocalFileSystem(), "x")._has_moves
    assert RemoteBackend(DirFileSystem("x", LocalFileSystem()), "")._has_moves
    assert not RemoteBackend(OwnMemory(), "x")._has_moves
    assert not RemoteBackend(DirFileSystem("x", OwnMemory()), "")._has_moves


@pytest.mark.parametrize("make", [memory, fsspec_folder])
def test_who_finds_an_old_blob_claims_it_until_the_claim_is_old_too(tmp_path, make):
    place = make(tmp_path)
    digest = place.put(b"one")
    name = digest.removeprefix("sha256:")
    place.age(place.key(digest), 2 * DAY_S)
    place.put(b"one")
    claim = f"{place.base}/claims/{name}"
    assert place.fs.exists(claim)
    assert place.store.sweep(set(), is_dry_run=False) == []
    place.age(claim, 2 * DAY_S)
    assert place.store.sweep(set(), is_dry_run=False) == [(digest, 3)]
    assert place.found() == []


def test_a_claim_on_what_is_gone_uploads_it_again(tmp_path):
    place = memory(tmp_path)
    digest = place.put(b"one")
    place.age(place.key(digest), 2 * DAY_S)
    pipe_file = place.fs.pipe_file

    def swept_meanwhile(path, value, **options):
        pipe_file(path, value, **options)
        if "/claims/" in path:
            place.fs.rm_file(place.key(digest))

    place.fs.pipe_file = swept_meanwhile
    place.put(b"one")
    place.store.verify("note.txt", digest)


def test_uploads_of_killed_writers_are_swept_once_they_are_old(tmp_path):
    place = fsspec_folder(tmp_path)
    place.put(b"one")
    for letter, seconds in (("a", 2 * DAY_S), ("b", 0.0)):
        key = "/".join([place.base, "tmp", f"{letter * 32}.tmp"])
        place.fs.makedirs(key.rpartition("/")[0], exist_ok=True)
        place.fs.pipe_file(key, b"half")
        place.age(key, seconds)
    place.store.sweep(set(), is_dry_run=False)
    assert [key for key in place.found() if key.startswith("tmp/")] == [f"tmp/{'b' * 32}.tmp"]


def test_a_blob_whose_age_nobody_knows_stays(tmp_path, monkeypatch):
    place = memory(tmp_path)
    digest = place.put(b"one")
    place.age(place.key(digest), 9 * DAY_S)
    assert len(place.store.sweep(set())) == 1
    monkeypatch.setattr(remote_module, "_TIMES", ())
    monkeypatch.setattr(place.fs, "modified", lambda _path: None)
    assert place.store.sweep(set(), is_dry_run=False) == []


@pytest.mark.parametrize(
    ("told", "seconds"),
    [("2026-01-01T00:00:00Z", 1767225600.0), ("2026-01-01T00:00:00", 1767225600.0), (5, 5.0), ("yesterday", None)],
)
def test_times_are_read_in_every_form_that_drivers_tell_them_in(told, seconds):
    from legion.neuro_architecture.registry.blob_backends.remote import _seconds

    assert _seconds(told) == seconds


def store_at(tmp_path, url, options=None):
    return BlobStore(tmp_path, StagingFolder(tmp_path), url, options=options)


def test_a_memory_url_is_a_store(tmp_path):
    store = store_at(tmp_path, f"memory://{tmp_path.name}/blobs")
    try:
        (tmp_path / "a.txt").write_text("text")
        digest = store.put("a.txt", tmp_path / "a.txt")
        store_at(tmp_path, f"memory://{tmp_path.name}/blobs").verify("a.txt", digest)
        assert store.address == f"memory://{tmp_path.name}/blobs"
        assert [key for key in MemoryFileSystem.store if tmp_path.name in key] == [
            f"/{tmp_path.name}/blobs/sha256/{digest[7:9]}/{digest[7:]}"
        ]
    finally:
        fsspec.filesystem("memory").rm(f"/{tmp_path.name}", recursive=True)


def test_an_unknown_protocol_is_told_with_what_there_is(tmp_path):
    with pytest.raises(WorldError, match="unknown protocol 'ess3'") as raised:
        store_at(tmp_path, "ess3://bucket/x")
    assert "s3" in raised.value.cause
    assert "pip install" in raised.value.hint


@pytest.mark.parametrize(
    ("url", "package"), [("s3://bucket/x", "s3fs"), ("gs://bucket/x", "gcsfs"), ("sftp://host/x", "paramiko")]
)
def test_a_missing_driver_is_told_with_the_command_that_brings_it(tmp_path, url, package, monkeypatch):
    import sys

    for module in ("s3fs", "gcsfs", "paramiko"):
        monkeypatch.setitem(sys.modules, module, None)
    with pytest.raises(WorldError, match="not installed") as raised:
        store_at(tmp_path, url)
    assert raised.value.hint == f"pip install {package}"


@pytest.mark.parametrize(
    "url", ["", " ", "a\nb", "simplecache::s3://bucket/x", "file://host/x", "file:///x?y=1", None, 3]
)
def test_what_is_no_address_is_refused(tmp_path, url):
    with pytest.raises(InvalidValueError):
        parse_address(url)


def test_a_folder_takes_no_options(tmp_path):
    with pytest.raises(InvalidValueError, match="no options") as raised:
        store_at(tmp_path, str(tmp_path / "x"), {"secret": SECRET})
    assert SECRET not in raised.value.render()


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("s3://bucket/path", "s3://bucket/path"),
        ("sftp://user:pa@ss/wo:rd@host:22/path", "sftp://***@host:22/path"),
        ("s3://bucket/path?X-Amz-Signature=abcdef", "s3://bucket/path?***"),
        ("/plain/folder", "/plain/folder"),
    ],
)
def test_an_address_is_shown_without_its_secrets(url, shown):
    address = parse_address(url)
    assert address.shown == shown
    for secret in ("user", "pa@ss/wo:rd", "abcdef"):
        assert secret not in f"{address!r} {address.scrub(f'cannot reach {url}')}"


def test_no_secret_is_in_any_error_or_log(tmp_path, caplog):
    fsspec.register_implementation("faulty", Faulty, clobber=True)
    options = {"key": "AKIAEXAMPLE", "client": {"nested": [SECRET.encode()]}}
    with caplog.at_level(logging.DEBUG):
        store = store_at(tmp_path, f"faulty://user:{SECRET}@host/base", options)
        (tmp_path / "a.txt").write_text("text")
        store._backend._fs.faults = ["refused"]
        with pytest.raises(LegionError) as raised:
            store.put("a.txt", tmp_path / "a.txt")
    told = "".join(traceback.format_exception(raised.value)) + raised.value.render() + store.address + repr(store)
    assert "403 for ***" in told
    for secret in (SECRET, "AKIAEXAMPLE", "user:"):
        assert secret not in told
        assert secret not in "".join(record.getMessage() for record in caplog.records if "legion" in record.name)
