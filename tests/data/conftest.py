"""A package index in a folder, an asset made for it, and a writer of small data sets."""

from __future__ import annotations

import hashlib
import json
import shutil
import zipfile
from dataclasses import dataclass, replace
from pathlib import Path

import pytest

from legion.neuro_architecture.data.archives import copy_member
from legion.neuro_architecture.data.catalog import Asset


def _build(archive: Path, folder: Path) -> dict[str, str]:
    copy_member(archive, "legion_tiny_asset/words.txt", folder / "words.txt")
    return {"note": "made in a test"}


@dataclass(frozen=True)
class Index:
    """A folder that pip serves packages from, and one pinned asset in it."""

    folder: Path
    asset: Asset

    def pinned(self, **changes) -> Asset:
        return replace(self.asset, **changes)


def _write_wheel(path: Path) -> None:
    info = "legion_tiny_asset-1.2.3.dist-info"
    with zipfile.ZipFile(path, "w") as wheel:
        wheel.writestr("legion_tiny_asset/words.txt", "one two three\n")
        wheel.writestr("legion_tiny_asset/unwanted.txt", "never kept\n")
        wheel.writestr(f"{info}/METADATA", "Metadata-Version: 2.1\nName: legion-tiny-asset\nVersion: 1.2.3\n")
        wheel.writestr(
            f"{info}/WHEEL", "Wheel-Version: 1.0\nGenerator: test\nRoot-Is-Purelib: true\nTag: py3-none-any\n"
        )
        wheel.writestr(f"{info}/RECORD", "")


@pytest.fixture
def index(tmp_path, monkeypatch) -> Index:
    """pip asks a folder of this test and nothing else."""
    folder = tmp_path / "index"
    folder.mkdir()
    wheel = folder / "legion_tiny_asset-1.2.3-py3-none-any.whl"
    _write_wheel(wheel)
    for name in ("PIP_EXTRA_INDEX_URL", "PIP_INDEX_URL"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("PIP_CONFIG_FILE", "/dev/null")
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(folder))
    asset = Asset(
        name="tiny",
        kind="data",
        package="legion-tiny-asset",
        version="1.2.3",
        sha256=hashlib.sha256(wheel.read_bytes()).hexdigest(),
        filename=wheel.name,
        licence="CC0-1.0",
        source="a test",
        build=_build,
    )
    return Index(folder, asset)


@pytest.fixture
def stocked(settings, index) -> Index:
    """The same index, its archive already among the verified downloads, so that pip need not run."""
    kept = settings.home / "downloads"
    kept.mkdir(parents=True)
    shutil.copy(index.folder / index.asset.filename, kept)
    return index


@pytest.fixture
def write_data(settings):
    """`write_data(train=[...], ...)`: a folder of JSONL splits, the splits not named being good ones."""

    def write(name: str = "mine", *, task: str | None = None, **splits) -> Path:
        folder = settings.workspace / "data" / name
        folder.mkdir(parents=True)
        good = {
            split: [{"text": f"{split} text {n}", "label": ("bad", "good")[n % 2]} for n in range(4)]
            for split in ("train", "validation", "test")
        }
        for split, rows in (good | splits).items():
            if isinstance(rows, bytes):
                (folder / f"{split}.jsonl").write_bytes(rows)
            elif rows is not None:
                (folder / f"{split}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
        if task is not None:
            (folder / "task.toml").write_text(task)
        return folder

    return write
