"""The store of embedded assets: whole or absent, verified, offline after the first fetch."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
from dataclasses import replace

import pytest

from legion.foundation.errors import AssetError, IntegrityError, UnknownNameError
from legion.foundation.files import read_json
from legion.neuro_architecture.data.assets import AssetStore


class Listener:
    def __init__(self):
        self.labels = []

    def start(self, label, total):
        self.labels.append(label)

    def advance(self, done, **fields):
        pass

    def finish(self, note=""):
        pass


def store(settings, asset, **more) -> AssetStore:
    return AssetStore(settings, catalog=[asset], **more)


def forbid_pip(monkeypatch):
    monkeypatch.setattr(sys, "executable", "/nonexistent/python")


def test_fetch_keeps_only_what_is_needed_and_records_it(settings, index):
    (status,) = store(settings, index.asset).fetch()
    folder = settings.home / "assets" / "tiny"
    assert sorted(path.name for path in folder.iterdir()) == ["asset.json", "words.txt"]
    record = read_json(folder / "asset.json")
    assert (record["package"], record["version"], record["sha256"]) == (
        "legion-tiny-asset",
        "1.2.3",
        index.asset.sha256,
    )
    assert record["licence"] == "CC0-1.0"
    assert record["files"]["words.txt"]["size_bytes"] == 14
    assert record["made_with"] == {"note": "made in a test"}
    assert (status["state"], status["fetched"], status["size_bytes"]) == ("ready", True, 14)


def test_second_fetch_asks_nobody(settings, stocked, monkeypatch):
    store(settings, stocked.asset).fetch()
    forbid_pip(monkeypatch)
    listener = Listener()
    (status,) = store(settings, stocked.asset, progress=listener).fetch()
    assert not status["fetched"]
    assert listener.labels == []


def test_fetching_loads_no_torch():
    code = "import sys, legion.neuro_architecture.data.assets as _; print([name in sys.modules for name in NAMES])"
    code = code.replace("NAMES", "('torch', 'transformers')")
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["[False,", "False]"]


def test_progress_names_download_and_work(settings, stocked):
    listener = Listener()
    store(settings, stocked.pinned(work="unpack words"), progress=listener).fetch()
    assert listener.labels == ["tiny: download legion-tiny-asset 1.2.3", "tiny: unpack words"]


def test_verified_download_is_not_fetched_again(settings, index, monkeypatch):
    def fail(archive, folder):
        raise AssetError("the work failed")

    with pytest.raises(AssetError, match="the work failed"):
        store(settings, index.pinned(build=fail)).fetch()
    forbid_pip(monkeypatch)
    (status,) = store(settings, index.asset).fetch()
    assert status["state"] == "ready"


def test_damaged_download_is_fetched_again(settings, index):
    kept = settings.home / "downloads" / index.asset.filename
    kept.parent.mkdir(parents=True)
    kept.write_bytes(b"half of it")
    (status,) = store(settings, index.asset).fetch()
    assert status["state"] == "ready"


_VICTIM = """
import os, signal, sys
from pathlib import Path
from legion.foundation.settings import Settings
from legion.neuro_architecture.data.assets import AssetStore
from legion.neuro_architecture.data.catalog import Asset

def build(archive, folder):
    (folder / "words.txt").write_text("one")
    os.kill(os.getpid(), signal.SIGKILL)

name, package, version, sha256, filename, home = sys.argv[1:]
asset = Asset(name=name, kind="data", package=package, version=version, sha256=sha256, filename=filename,
              licence="CC0-1.0", source="a test", build=build)
AssetStore(Settings.load(home=home), catalog=[asset]).fetch()
"""


def test_kill_in_the_middle_loses_only_the_asset_in_work(settings, index, monkeypatch):
    asset = index.asset
    arguments = [asset.name, asset.package, asset.version, asset.sha256, asset.filename, str(settings.home)]
    done = subprocess.run([sys.executable, "-c", _VICTIM, *arguments], check=False)
    assert done.returncode == -9
    assert not (settings.home / "assets" / "tiny").exists()
    with pytest.raises(AssetError):
        store(settings, asset).folder("tiny")
    forbid_pip(monkeypatch)  # the download had been verified
    store(settings, asset).fetch()
    left = [path.name for path in (settings.home / "assets").iterdir()]
    assert sorted(left) == [".lock", "tiny"]


def test_two_fetches_at_once_do_the_work_once(settings, stocked):
    done = []

    def build(archive, folder):
        done.append(archive)
        return stocked.asset.build(archive, folder)

    threads = [threading.Thread(target=store(settings, stocked.pinned(build=build)).fetch) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(done) == 1


def test_offline_variables_of_the_hub_do_not_matter(settings, index):
    assert os.environ["HF_HUB_OFFLINE"] == "1"
    assert store(settings, index.asset).fetch()[0]["fetched"]


def test_missing_asset_names_the_next_command(settings, index):
    with pytest.raises(AssetError) as caught:
        store(settings, index.asset).folder("tiny")
    assert caught.value.hint == "legion assets fetch"
    assert caught.value.exit_code == 3


def test_unknown_asset_is_refused_with_the_nearest(settings, stocked):
    with pytest.raises(UnknownNameError, match="tinyy") as caught:
        store(settings, stocked.asset).fetch(["tinyy"])
    assert "tiny" in caught.value.hint


@pytest.mark.parametrize("damage", ["truncate", "remove", "record"])
def test_damaged_asset_is_noticed_and_made_anew(settings, stocked, damage, monkeypatch):
    folder = settings.home / "assets" / "tiny"
    store(settings, stocked.asset).fetch()
    match damage:
        case "truncate":
            (folder / "words.txt").write_text("one")
        case "remove":
            (folder / "words.txt").unlink()
        case "record":
            (folder / "asset.json").write_text("{}")
    with pytest.raises(AssetError, match="damaged"):
        store(settings, stocked.asset).folder("tiny")
    forbid_pip(monkeypatch)
    assert store(settings, stocked.asset).fetch()[0]["fetched"]
    assert (folder / "words.txt").read_text() == "one two three\n"


def test_other_pinned_version_is_outdated(settings, stocked):
    store(settings, stocked.asset).fetch()
    assert store(settings, replace(stocked.asset, version="9.9.9")).status()[0]["state"] == "outdated"


def test_verify_reads_every_byte(settings, stocked):
    own = store(settings, stocked.asset)
    own.fetch()
    own.verify("tiny")
    (settings.home / "assets" / "tiny" / "words.txt").write_text("one two THREE\n")
    with pytest.raises(IntegrityError) as caught:
        own.verify("tiny")
    assert "words.txt" in caught.value.cause


def test_home_that_cannot_be_written_is_an_asset_error(settings, index):
    settings.home.write_text("a file where the home should be")
    with pytest.raises(AssetError) as caught:
        store(settings, index.asset).fetch()
    assert caught.value.hint == "legion assets fetch"
