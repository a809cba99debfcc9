import os
import subprocess
import sys

import pytest

from legion.foundation.errors import InvalidValueError, UsageError, WorldError
from legion.foundation.files import confine, exclusive_lock, publish_folder, read_json, write_json, write_text


def test_a_written_file_holds_everything_and_nothing_is_left_beside_it(tmp_path):
    write_text(tmp_path / "deep" / "note.txt", "été\n")
    assert (tmp_path / "deep" / "note.txt").read_text(encoding="utf-8") == "été\n"
    assert [path.name for path in (tmp_path / "deep").iterdir()] == ["note.txt"]


def test_a_failed_write_leaves_the_old_content(tmp_path):
    path = tmp_path / "value.json"
    write_json(path, {"a": 1})
    with pytest.raises(InvalidValueError):
        write_json(path, {"a": float("nan")})
    assert read_json(path) == {"a": 1}


def test_a_refusing_disk_is_an_error_of_the_world(tmp_path):
    (tmp_path / "file").write_text("x")
    with pytest.raises(WorldError, match="cannot write"):
        write_text(tmp_path / "file" / "below", "x")


def test_json_constants_that_are_no_numbers_are_refused(tmp_path):
    (tmp_path / "bad.json").write_text('{"loss": NaN}')
    with pytest.raises(UsageError, match=r"bad\.json"):
        read_json(tmp_path / "bad.json")


@pytest.mark.parametrize("name", ["", ".", "..", "../x", "/etc/passwd", "a/../../x", "a\0b"])
def test_names_that_leave_their_folder_are_refused(tmp_path, name):
    with pytest.raises(InvalidValueError):
        confine(tmp_path, name)


def test_a_link_out_of_the_folder_is_refused(tmp_path):
    root = tmp_path / "root"
    root.mkdir()
    (root / "out").symlink_to(tmp_path)
    with pytest.raises(InvalidValueError):
        confine(root, "out/x")


def test_a_published_folder_replaces_the_old_one_whole(tmp_path):
    target = tmp_path / "model"
    publish_folder(target, lambda folder: (folder / "a").write_text("1"))
    publish_folder(target, lambda folder: (folder / "b").write_text("2"))
    assert [path.name for path in target.iterdir()] == ["b"]
    assert [path.name for path in tmp_path.iterdir()] == ["model"]


def test_a_failed_fill_leaves_the_published_folder(tmp_path):
    target = tmp_path / "model"
    publish_folder(target, lambda folder: (folder / "a").write_text("1"))

    def fail(folder):
        (folder / "half").write_text("x")
        raise RuntimeError("stop")

    with pytest.raises(RuntimeError):
        publish_folder(target, fail)
    assert [path.name for path in target.iterdir()] == ["a"]


def test_a_lock_keeps_another_process_out_and_dies_with_its_holder(tmp_path):
    lock = tmp_path / "x.lock"
    probe = (
        "import fcntl, os, sys\n"
        "fd = os.open(sys.argv[1], os.O_RDWR | os.O_CREAT)\n"
        "try:\n    fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)\nexcept BlockingIOError:\n    sys.exit(7)\n"
    )
    command = [sys.executable, "-c", probe, str(lock)]
    with exclusive_lock(lock):
        assert subprocess.run(command, check=False, env=dict(os.environ)).returncode == 7
    assert subprocess.run(command, check=False, env=dict(os.environ)).returncode == 0
