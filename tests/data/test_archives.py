"""Members of archives: regular files by name, nothing else."""

from __future__ import annotations

import io
import tarfile
import zipfile

import pytest

from legion.foundation.errors import AssetError
from legion.neuro_architecture.data.archives import copy_member, read_member, read_members, read_nested_member


def add(source: tarfile.TarFile, name: str, content: bytes) -> None:
    info = tarfile.TarInfo(name)
    info.size = len(content)
    source.addfile(info, io.BytesIO(content))


@pytest.fixture
def source_archive(tmp_path):
    path = tmp_path / "p-1.tar.gz"
    inner = io.BytesIO()
    with tarfile.open(fileobj=inner, mode="w:gz") as nested:
        add(nested, "d/deep.txt", b"deep")
    with tarfile.open(path, "w:gz") as source:
        add(source, "p-1/a.txt", b"alpha")
        add(source, "p-1/inner.tar.gz", inner.getvalue())
        link = tarfile.TarInfo("p-1/link.txt")
        link.type, link.linkname = tarfile.SYMTYPE, "/etc/passwd"
        source.addfile(link)
    return path


def test_source_archive_gives_a_member(source_archive):
    assert read_member(source_archive, "p-1/a.txt") == b"alpha"


def test_archive_inside_an_archive_gives_a_member(source_archive):
    assert read_nested_member(read_member(source_archive, "p-1/inner.tar.gz"), "d/deep.txt") == b"deep"


@pytest.mark.parametrize("name", ["p-1/link.txt", "p-1/none.txt"])
def test_links_and_absent_members_are_refused(source_archive, name):
    with pytest.raises(AssetError, match=name):
        read_member(source_archive, name)


def test_absent_nested_member_is_refused(source_archive):
    with pytest.raises(AssetError):
        read_nested_member(read_member(source_archive, "p-1/inner.tar.gz"), "d/none.txt")


def test_members_that_climb_out_are_never_read(tmp_path):
    path = tmp_path / "p-1.whl"
    with zipfile.ZipFile(path, "w") as wheel:
        wheel.writestr("p/one.txt", "1")
        wheel.writestr("../evil.txt", "2")
        wheel.writestr("p/other.py", "3")
    assert list(read_members(path, prefix="p/", suffix=".txt")) == [("p/one.txt", b"1")]
    copy_member(path, "p/one.txt", tmp_path / "target.txt")
    assert sorted(entry.name for entry in tmp_path.iterdir()) == ["p-1.whl", "target.txt"]


@pytest.mark.parametrize("name", ["p-1.whl", "p-1.tar.gz"])
def test_damaged_archive_is_an_asset_error(tmp_path, name):
    (tmp_path / name).write_bytes(b"not an archive")
    with pytest.raises(AssetError):
        read_member(tmp_path / name, "p/one.txt")
    with pytest.raises(AssetError):
        list(read_members(tmp_path / name, prefix="p", suffix=""))
