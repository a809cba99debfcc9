"""One torch thread, no network, an empty home and workspace for every test."""

from __future__ import annotations

import os
import shutil
import signal
import tempfile

os.environ.update(
    {
        "HF_HUB_OFFLINE": "1",
        "TOKENIZERS_PARALLELISM": "false",
        "OMP_NUM_THREADS": "1",
        "LEGION_THREADS": "1",
        # all four, so that no test measures the machine
        "LEGION_WORKERS": "1",
        "LEGION_GROUP_BLOCKS": "8",
        "LEGION_PRECISION": "float32",
        "LEGION_ATTENTION": "eager",
        "HF_HUB_DISABLE_PROGRESS_BARS": "1",
        "LEGION_KEYS": tempfile.mkdtemp(prefix="legion-keys-"),
    }
)

from pathlib import Path

import hypothesis
import pytest

from legion.foundation.settings import Settings
from legion.testing import tiny_classification, tiny_model, tiny_summarization

# no test is about time
hypothesis.settings.register_profile("legion", deadline=None)
hypothesis.settings.load_profile("legion")

_ENVIRONMENT = {key: value for key, value in os.environ.items() if key == "LEGION_HOME"}


@pytest.fixture(scope="session", autouse=True)
def _one_torch_thread():
    import torch

    torch.set_num_threads(1)


@pytest.fixture(scope="session", autouse=True)
def _keys_are_swept_away():
    yield
    shutil.rmtree(os.environ["LEGION_KEYS"], ignore_errors=True)


@pytest.fixture(scope="session", autouse=True)
def _ctrl_c_interrupts():
    """A shell that starts its jobs in the background has them ignore Ctrl-C; tests of Ctrl-C need the usual handler."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.fixture(scope="session")
def tiny_folders(tmp_path_factory) -> dict[str, Path]:
    """A tiny base model of each family."""
    root = tmp_path_factory.mktemp("models")
    return {family: tiny_model(root / family, family) for family in ("bert", "llama", "gpt2")}


@pytest.fixture(scope="session")
def embedded_home(tmp_path_factory) -> Settings:
    """Settings with the machine's own home, the embedded assets in it (for tests marked `assets`)."""
    from legion.neuro_architecture.data.assets import AssetStore

    settings = Settings.load(workspace=tmp_path_factory.mktemp("embedded"), environment=_ENVIRONMENT)
    AssetStore(settings).fetch()
    return settings


@pytest.fixture
def settings(tmp_path, monkeypatch) -> Settings:
    """Settings of an empty workspace that is also the current folder."""
    workspace, home = tmp_path / "workspace", tmp_path / "home"
    workspace.mkdir()
    monkeypatch.chdir(workspace)
    monkeypatch.setenv("LEGION_HOME", str(home))
    monkeypatch.delenv("LEGION_WORKSPACE", raising=False)
    return Settings.load()


@pytest.fixture
def classification_data(settings) -> Path:
    return tiny_classification(settings.workspace / "data" / "tiny")


@pytest.fixture
def summarization_data(settings) -> Path:
    return tiny_summarization(settings.workspace / "data" / "tiny-summaries")
