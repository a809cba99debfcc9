from __future__ import annotations

import random
from pathlib import Path

import pytest

from legion.neuro_architecture.registry.translog import TransparencyLog


@pytest.fixture
def folder(tmp_path) -> Path:
    return tmp_path / "registry"


@pytest.fixture
def keys(tmp_path) -> Path:
    return tmp_path / "keys"


@pytest.fixture
def reopen(folder, keys):
    """Opens the log as another process would; a small roll size makes many segments."""

    def build(segment_bytes=64 << 20, folder=folder, keys=keys):
        return TransparencyLog(folder, keys=keys, segment_bytes=segment_bytes)

    return build


@pytest.fixture
def log(reopen):
    return reopen()


def entries_of(sizes, seed=7):
    """A list of entries for each commit size."""
    draw = random.Random(seed)
    return [[draw.randbytes(draw.randrange(1, 90)) for _ in range(size)] for size in sizes]


@pytest.fixture
def filled(reopen):
    """Some segments of commits of one to five entries, and the entries."""
    log = reopen(segment_bytes=900)
    entries = []
    for commit in entries_of([1, 3, 1, 2, 5, 4, 1, 1]):
        log.append(commit)
        entries += commit
    log.publish()
    log.close()
    return entries
